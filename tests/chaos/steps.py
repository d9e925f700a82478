"""
Named steps of a worker, at which the injector can have it killed, stopped or asked to leave.

The injector makes a file `step-NAME-ORDER`; the first worker that reaches the
step renames it, which only one can, and carries the order out: it sends itself
a signal, or joins a small memory group and takes more than there is.  The
renamed file is the proof that the fault bit there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

STEPS = (
    "claim.asked",  # nothing leased yet
    "claim.answered",  # leased; nobody has been told
    "handler.begun",
    "handler.done",
    "settle.asked",  # the handler is over; the server does not know
    "settle.answered",  # settled; the worker does not know
)
KILL, STOP, TERM, OOM = "kill", "stop", "term", "oom"
_SIGNALS = {KILL: signal.SIGKILL, STOP: signal.SIGSTOP, TERM: signal.SIGTERM}
_PIECE = 1 << 20


def arm(folder: Path, step: str, order: str, group: str = "") -> Path:
    """
    From now on the next worker that reaches *step* gets the order; the file that says so.

    *group* is the folder of the memory group for OOM.
    """
    path = folder / f"step-{step}-{order}"
    draft = folder / f"draft-{path.name}"
    draft.write_text(group)
    return draft.rename(path)


def disarm(armed: Path) -> bool:
    """Take the order back; False when a worker has taken it already."""
    try:
        armed.unlink()
    except FileNotFoundError:
        return False
    return True


def bitten(folder: Path, armed: Path) -> int:
    """The pid of the worker that took the order, 0 while none has."""
    for path in folder.glob(f"bitten-{armed.name}-*"):
        pid = int(path.name.rpartition("-")[2])
        path.rename(folder / f"proven-{path.name}-{os.urandom(4).hex()}")
        return pid
    return 0


class Trap:
    """The worker's side of it; four failed renames a step."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fspath(folder)

    def reach(self, step: str) -> None:
        for order in (KILL, STOP, TERM, OOM):
            name = f"step-{step}-{order}"
            pid = os.getpid()
            taken = f"{self._folder}/bitten-{name}-{pid}"
            with contextlib.suppress(FileNotFoundError):
                if order == OOM:
                    self._starve(f"{self._folder}/{name}", taken)
                os.rename(f"{self._folder}/{name}", taken)  # noqa: PTH104
                os.kill(pid, _SIGNALS[order])

    def _starve(self, armed: str, taken: str) -> None:
        """Take memory until the kernel ends this process."""
        os.rename(armed, taken)  # noqa: PTH104
        group = Path(taken).read_text()
        (Path(group) / "cgroup.procs").write_text(f"{os.getpid()}")
        hoard = []
        while True:
            hoard.append(b"x" * _PIECE)
