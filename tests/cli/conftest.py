"""What the tests of commands about jobs share: the whole command line, on a real SQLite queue."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.cli import main
from fleet.queue import Queue

MANIFEST = """\
version = 1
[queue]
dsn = "sqlite:///queue.db"
[defaults]
redact = ["password"]
[pipelines.emails]
command = "sleep 1"
timeout = "30s"
[pipelines.pdf]
command = "sleep 1"
queue_name = "pdf-tube"
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    for name in ("FLEET_MANIFEST", "FLEET_ENV", "FLEET_DSN", "FLEET_READ_ONLY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def dsn(folder: Path) -> str:
    return f"sqlite:///{folder}/queue.db"


@pytest.fixture
def fleet(queue: Queue, capsys, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    def run(*words: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def bury(queue: Queue, reason: str, count: int = 1, pipeline: str = "emails") -> list[int]:
    ids = queue.put_many(pipeline, [{"n": n} for n in range(count)])
    for job in queue.reserve_many(pipeline, count):
        job.bury(reason)
    return ids
