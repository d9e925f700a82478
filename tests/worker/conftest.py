"""Real worker processes over a real SQLite file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import fleet
from fleet.queue import Queue
from tests.waiting import eventually

HERE = Path(__file__).parent


class Site:
    """A folder, one pipeline of a queue, and the workers that were started on it."""

    def __init__(self, folder: Path, dsn: str = "", pipeline: str = "emails") -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.dsn = dsn or f"sqlite:///{folder / 'queue.db'}"
        self.queue: Queue = fleet.connect(self.dsn)
        self.started: list[subprocess.Popen[str]] = []

    def spec(self, name: str = "", **changes: Any) -> Path:
        """Write a worker spec for a function of tests/worker/handlers.py."""
        values: dict[str, Any] = {
            "schema": "fleet.worker/1",
            "pipeline": self.pipeline,
            "queue_name": self.pipeline,
            "queue": {"dsn": self.dsn},
            "handler": f"handlers:{name}",
            "directory": str(self.folder),
            "path": [str(HERE)],
            "grace": 20,
            "startsecs": 0,
            **changes,
        }
        path = self.folder / f"spec-{len(list(self.folder.glob('spec-*')))}.json"
        path.write_text(json.dumps(values))
        return path

    def worker(self, name: str = "", **changes: Any) -> subprocess.Popen[str]:
        """Start a worker; its output goes to `log` unless *stdout* says otherwise."""
        options = {
            name: changes.pop(name) for name in ("stdin", "stdout", "env", "before") if name in changes
        }
        return self.run(str(self.spec(name, **changes)), **options)

    def run(
        self,
        *arguments: str,
        stdin: Any = None,
        stdout: Any = None,
        env: dict[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """*before* is a command that becomes the worker in the end."""
        with open(self.folder / "log", "a") as log:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "fleet.worker.main", *arguments],
                stdin=stdin,
                stdout=stdout or log,
                stderr=stdout or log,
                text=True,
                env={**os.environ, **(env or {})},
            )
        self.started.append(process)
        return process

    def let_go(self) -> None:
        """Let the handler `held` come to its end."""
        (self.folder / "go").touch()

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.queue.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def lines(self, name: str = "out") -> list[str]:
        """What handlers wrote, a line each."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, count: int, name: str = "out", within: float = 10.0) -> list[str]:
        eventually(lambda: len(self.lines(name)) >= count, within=within)
        return self.lines(name)

    def is_empty(self) -> bool:
        stats = self.queue.stats(self.pipeline)
        return not (stats.ready or stats.delayed or stats.reserved or stats.buried)

    def wait_until_empty(self, within: float = 15.0) -> None:
        eventually(self.is_empty, within=within)

    def reason(self) -> str:
        """Why the only buried job is buried."""
        job = eventually(lambda: self.queue.peek_buried(self.pipeline))
        assert job is not None
        return job.reason


def stop(process: subprocess.Popen[str], within: float = 10.0) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(within)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.closing(Site(tmp_path)) as site:
        yield site


@pytest.fixture
def end() -> Callable[..., int]:
    """SIGTERM, and the exit code."""
    return stop
