"""
The peers' own virtual environment, made on demand in the user's cache folder.

Each is installed by itself: one that cannot be is reported, and the others are measured.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library, and the class that drives it."""

    name: str
    requirement: str  # for pip
    module: str  # what its user imports
    contender: str  # "module:class"
    slow: bool = True  # commits job by job


SQLITE: tuple[Peer, ...] = (
    Peer(name="huey", requirement="huey>=3", module="huey.api", contender="benchmarks.peers.sqlite:Huey"),
    Peer(
        name="litequeue",
        requirement="litequeue>=0.9",
        module="litequeue",
        contender="benchmarks.peers.sqlite:Litequeue",
    ),
    Peer(
        name="persist-queue",
        requirement="persist-queue>=1.1",
        module="persistqueue",
        contender="benchmarks.peers.sqlite:PersistQueue",
    ),
)
POSTGRESQL: tuple[Peer, ...] = (
    Peer(
        name="pgqueuer",
        requirement="pgqueuer[asyncpg]>=1.6",
        module="pgqueuer",
        contender="benchmarks.peers.postgresql:Pgqueuer",
        slow=False,
    ),
    Peer(
        name="procrastinate",
        requirement="procrastinate>=3.10",
        module="procrastinate",
        contender="benchmarks.peers.postgresql:Procrastinate",
    ),
    Peer(
        name="chancy",
        requirement="chancy>=0.26",
        module="chancy",
        contender="benchmarks.peers.postgresql:Chancy",
    ),
)
BEANSTALKD: tuple[Peer, ...] = (
    Peer(
        name="greenstalk",
        requirement="greenstalk>=2.1",
        module="greenstalk",
        contender="benchmarks.peers.beanstalkd:Greenstalk",
    ),
)
EXTRAS = ("psycopg[binary]>=3.2", "uvloop")  # what the peers' own documentation asks for


class Environment:
    """One virtual environment; `failed` says why a peer is not in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.failed: dict[str, str] = {}

    def install(self, peers: tuple[Peer, ...]) -> None:
        """Make the environment and put the peers in; what is there already stays."""
        if not self.python.exists():
            venv.create(self.folder, with_pip=True, clear=True)
        if any(peer in POSTGRESQL for peer in peers):
            self._pip("extras", EXTRAS)
        for peer in peers:
            problem = self._pip(peer.name, (peer.requirement,))
            if problem:
                self.failed[peer.name] = problem

    def _pip(self, name: str, requirements: tuple[str, ...]) -> str:
        """Install; "" when it is there, else the last line of what pip said."""
        digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
        stamp = self.folder / f"{name}-{digest}"
        if stamp.exists():
            return ""
        command = [str(self.python), "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return (lines or done.stderr.splitlines() or ["pip failed"])[-1][:200]
        stamp.touch()
        return ""

    def versions(self, peers: tuple[Peer, ...]) -> dict[str, str]:
        code = "import importlib.metadata as m, sys\nfor n in sys.argv[1:]:\n print(n, m.version(n))"
        names = [peer.name for peer in peers if peer.name not in self.failed]
        if not names:
            return {}
        done = subprocess.run(
            [str(self.python), "-c", code, *names], check=True, capture_output=True, text=True
        )
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def default_folder() -> Path:
    """In the cache of this user, one for each Python, so that a second run starts at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "fleet-benchmarks" / f"{sys.implementation.name}-{sysconfig.get_python_version()}"
