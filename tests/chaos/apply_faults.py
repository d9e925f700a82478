"""`fleet apply`, killed at one of its steps while jobs flow, and then run again to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from fleet.supervisor import private
from tests.chaos.arena import ROOT, Arena
from tests.chaos.bite import Bite
from tests.chaos.schedule import Planned
from tests.chaos.work import MAX_CRASHES, MAX_RETRIES, PIPELINE

_WITHIN = 60.0  # seconds for one apply
_STEPS = ("os.rename", "os.remove", "socket.connect", "fcntl.flock")

_MANIFEST = """\
[queue]
dsn = "{dsn}"

[pipelines.{pipeline}]
handler = "tests.chaos.handler:handle"
directory = "{root}"
numprocs = 1
timeout = "{timeout}s"
stop = {{ grace = "{timeout}s" }}
retries = {{ max = {retries}, first = "100ms", factor = 2, cap = "500ms" }}
max_crashes = {crashes}
environment = {{ CHAOS_DIR = "{folder}" }}

[pipelines.bystander]
command = "/bin/sleep 100000"
"""


class Fleet:
    """A manifest of its own beside the run, whose workers do the same jobs under a supervisord of fleet's."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.root = arena.folder / "fleet"
        self.root.mkdir(mode=0o700)
        self._home = private.home(self.root / ".fleet")
        self._timeout = 30
        self._write()
        done = self._apply()
        if done.returncode:
            raise RuntimeError(f"the first fleet apply failed:\n{done.stdout[-1500:]}")

    @property
    def supervisord(self) -> psutil.Process | None:
        found = private.find(self._home)
        return psutil.Process(found.pid) if found is not None else None

    def change(self) -> None:
        """Ask for something else, which takes a new worker."""
        self._timeout += 1
        self._write()

    def apply_killed_at(self, step: int) -> int:
        """Steps that it made; fewer than *step* when it came to its end."""
        steps = self.root / "steps"
        steps.write_text("0")
        self._apply(kill_at=step)
        return int(steps.read_text())

    def converge(self) -> str:
        """Apply to the end; what is not as it should be then."""
        done = self._apply()
        if done.returncode:
            return f"fleet apply after a killed one ended with {done.returncode}: {done.stdout[-300:]}"
        again = self._apply("plan", "--exit-code")
        if again.returncode:
            return f"fleet plan after a killed apply still finds something to do: {again.stdout[-300:]}"
        return ""

    def bystander(self) -> int:
        """The pid of the process that no change is about."""
        daemon = self.supervisord
        children = daemon.children() if daemon is not None else []
        return next((each.pid for each in children if "100000" in " ".join(each.cmdline())), 0)

    def end(self) -> None:
        private.stop(self._home)

    def _write(self) -> None:
        (self.root / "fleet.toml").write_text(
            _MANIFEST.format(
                dsn=self._arena.dsn_outside,
                pipeline=PIPELINE,
                root=ROOT,
                timeout=self._timeout,
                retries=MAX_RETRIES,
                crashes=MAX_CRASHES,
                folder=self._arena.folder,
            )
        )

    def _apply(self, *words: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.chaos.apply_faults", f"{kill_at}", *(words or ("apply", "--yes"))],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_WITHIN,
            check=False,
        )


def apply(arena: Arena, fault: Planned) -> Bite:
    fleet = arena.fleet
    assert fleet is not None
    bystander = fleet.bystander()
    step = 1 + fault.count % 40
    while True:
        fleet.change()
        made = fleet.apply_killed_at(step)
        if made >= step:
            break
        step = 1 + step % max(1, made)  # it had fewer
    broken = fleet.converge()
    if not broken and fleet.bystander() != bystander:
        broken = "an apply that was not about it restarted another pipeline"
    return Bite(f"killed before step {step}, and run again", broken=broken)


def main() -> None:
    """fleet's command line, in a process that kills itself before its n-th step: a file or a call changed."""
    kill_at = int(sys.argv.pop(1))
    count = 0

    def step(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in _STEPS:
            return
        count += 1
        with open("steps", "w") as file:
            file.write(f"{count}")
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at:
        sys.addaudithook(step)
    from fleet.cli import main as fleet

    sys.exit(fleet())


if __name__ == "__main__":
    main()
