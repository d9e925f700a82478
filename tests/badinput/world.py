"""
A fleet at work, and a photograph of all of it: what a refused command must leave as it was.

The processes are looked at with supervisor's own client and the jobs with
SQLite's, so that no mistake of fleet can hide itself.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import ServerProxy

import pytest
from supervisor.xmlrpc import SupervisorTransport

import fleet
from fleet.cli import failure
from fleet.cli.app import run

# They outlast the longest run of all tests, which would otherwise see them start again.
MANIFEST = """\
project = "shop"
[defaults]
logs = { dir = ".fleet/logs" }
[pipelines.emails]
command = "/bin/sleep 99999"
numprocs = 2
[pipelines.thumbs]
command = "/bin/sleep 99998"
"""
# Changes with every look at it, and is compared by what it holds.
_QUEUE = ("queue.db", "queue.db-wal", "queue.db-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """Two that are equal were taken of the same fleet with nothing done to it in between."""

    files: dict[str, str]  # path: mode, owner, and digest of the content
    processes: dict[str, tuple[str, int, int]]  # full name: state, pid, start
    config: tuple[str, ...]  # what supervisord read last, one program each
    jobs: tuple[tuple[Any, ...], ...]

    def differs_in(self, other: Photograph) -> list[str]:
        """What is not the same in both, in words."""
        found = []
        for what in ("files", "processes"):
            mine, theirs = getattr(self, what), getattr(other, what)
            found += [
                f"{name}: {mine.get(name)} → {theirs.get(name)}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ]
        if self.config != other.config:
            found.append("supervisord's configuration")
        if self.jobs != other.jobs:
            found.append("the jobs")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    code: int
    out: str
    err: str


class World:
    """A folder with a manifest, a private supervisord that runs its pipelines, and jobs in three states."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "fleet.toml"
        self.manifest.write_text(MANIFEST)
        self.tmp = root / "tmp"  # where the traceback of a bug would be saved
        self.tmp.mkdir()

    @property
    def conf_dir(self) -> Path:
        return self.root / ".fleet" / "conf.d"

    def fill(self) -> None:
        """Jobs that are ready, delayed and buried."""
        with fleet.connect(f"sqlite:///{self.root}/.fleet/queue.db") as queue:
            queue.put_many("emails", [{"n": n} for n in range(5)])
            queue.put("emails", {"n": 5}, delay=3600)
            queue.put("thumbs", {"n": 6})
            job = queue.reserve("thumbs")
            assert job is not None
            job.bury("no such picture")

    def photograph(self) -> Photograph:
        socket = f"unix://{self.root}/.fleet/supervisor.sock"
        with ServerProxy("http://127.0.0.1", transport=SupervisorTransport("", "", socket)) as proxy:
            processes = cast(list[dict[str, Any]], proxy.supervisor.getAllProcessInfo())
            config = cast(list[dict[str, Any]], proxy.supervisor.getAllConfigInfo())
        with sqlite3.connect(f"file:{self.root}/.fleet/queue.db?mode=ro", uri=True) as db:
            jobs = tuple(db.execute("SELECT * FROM fleet_jobs ORDER BY id"))
        return Photograph(
            files={str(path.relative_to(self.root)): _facts(path) for path in sorted(self.root.rglob("*"))},
            processes={
                f"{p['group']}:{p['name']}": (p["statename"], p["pid"], p["start"]) for p in processes
            },
            config=tuple(sorted(map(repr, config))),
            jobs=jobs,
        )


def _facts(path: Path) -> str:
    found = path.lstat()
    is_plain = stat.S_ISREG(found.st_mode) and path.name not in _QUEUE
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain and found.st_mode & 0o444 else ""
    return f"{found.st_mode:o} {found.st_uid} {digest}"


def fleet_says(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """What a command line prints and ends with; in this process, because there are hundreds of them."""
    capsys.readouterr()
    code = run(words)
    shown = capsys.readouterr()
    return Said(code=code, out=shown.out, err=shown.err)


_ELSEWHERE = """\
import contextlib, io, json, sys
from fleet.cli.app import run

def says(line):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(line)
    return code, out.getvalue()

print(json.dumps([says(line) for line in json.loads(sys.argv[1])]))
"""


def fleet_says_where(mounts: str, *lines: list[str]) -> list[Said]:
    """
    What command lines say in a mount namespace of their own, after the shell commands *mounts*.

    Skips the test where the kernel or a container does not permit that.
    """
    script = f'set -e; {mounts}; exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30)
    if tried.returncode:
        pytest.skip(f"no mounts here: {tried.stderr.strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", _ELSEWHERE, json.dumps(lines)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [Said(code=code, out="", err=text) for code, text in json.loads(done.stdout)]


_AS_NOBODY = """\
import contextlib, io, json, os, sys, tempfile
from fleet.cli.app import run
import fleet.manager.apply, fleet.manager.stop, fleet.cli.drain, fleet.cli.pulses, fleet.cli.hands

def says(line):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(["--yes", *line])
    return code, out.getvalue()

lines = json.loads(sys.argv[1])
for line in lines:
    says([*line, "--help"])
here = os.getcwd()
with tempfile.TemporaryDirectory() as elsewhere:
    os.chdir(elsewhere)
    with open("fleet.toml", "w") as manifest:
        manifest.write("[pipelines.a]\\ncommand = '/bin/cat'\\n")
    says(["plan"]), says(["status", "--once"]), says(["doctor"])
    os.chdir(here)
os.setgid(65534); os.setuid(65534)  # after the imports: that user may not be able to read them
print(json.dumps([says(line) for line in lines]))
"""


def says_as_nobody(folder: Path, *lines: list[str]) -> list[tuple[int, str]]:
    """What command lines say to another user than root, after it has read as root what python needs."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, json.dumps(lines)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [(code, text) for code, text in json.loads(done.stdout)]


def is_safe(text: str) -> bool:
    """Nothing in it steers a terminal."""
    return all(char.isprintable() or char == "\n" for char in text)


def assert_refused(said: Said, code: int, *words: str) -> None:
    """The documented end: its exit code, every one of *words*, one report that a terminal can show."""
    text = said.err + said.out
    assert said.code == code, text
    for word in words:
        assert word in " ".join(text.split()), f"{word!r} is not in:\n{text}"
    assert is_safe(text), text
    assert "Traceback" not in text
    assert "a bug" not in text
    assert code != failure.INTERRUPTED
