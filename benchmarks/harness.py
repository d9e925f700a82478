"""Processes that are measured: started, held at a barrier, let go at once, counted and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.board import BEGAN, COUNT, FIELDS, LAST, Board
from benchmarks.contender import Unsupported

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds a process may take to get ready
_OURS = sys.executable


class Failed(Exception):
    """A measured process died, or did not do its work in time; the message is its last line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Somebody who is measured: ours, the limit, or a peer."""

    name: str
    contender: str  # "module:class"
    producer: str = ""  # the same, where putting with a wake-up is another class
    slow: bool = False  # commits job by job
    python: str = _OURS


class Child:
    """One measured process, from its start to its end."""

    def __init__(self, who: Who, task: str, dsn: str, **job: Any) -> None:
        contender = who.producer or who.contender if task == "produce" else who.contender
        job = {"task": task, "contender": contender, "dsn": dsn, **job}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._process = subprocess.Popen(
            [who.python, "-m", "benchmarks.child", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            text=True,
            start_new_session=True,  # so that `end` reaches the processes that a peer starts
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> None:
        """Wait until it stands at the barrier."""
        line = self._line()
        if line.strip() != "ready":
            self._check(json.loads(line))
            raise Failed(f"expected ready, got {line[:80]!r}")

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        return self._check(json.loads(self._line()))

    @staticmethod
    def _check(answer: dict[str, Any]) -> dict[str, Any]:
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        return answer

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self.complaint())
        return line

    def complaint(self) -> str:
        """The last line that it wrote to stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"ended with {self._process.returncode} and no word"

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file
            with contextlib.suppress(OSError):
                file.close()


@contextlib.contextmanager
def child(who: Who, task: str, dsn: str, **job: Any) -> Iterator[Child]:
    process = Child(who, task, dsn, **job)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def _board(length: int) -> Iterator[tuple[Path, Board]]:
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        path = Path(folder) / "board"
        board = Board(path, length)
        try:
            yield path, board
        finally:
            board.close()


def create(who: Who, dsn: str, count: int = 0, crowd: int = 0) -> None:
    """Make the tables, put *count* ready jobs in, and *crowd* delayed and as many buried ones."""
    with child(who, "create", dsn, count=count, crowd=crowd) as maker:
        maker.answer()


def timed(who: Who, task: str, dsn: str, count: int) -> float:
    """Seconds that one process takes for *count* things."""
    with child(who, task, dsn, count=count) as worker:
        worker.ready()
        worker.go()
        return float(worker.answer()["seconds"])


def drained(who: Who, task: str, dsn: str, count: int, workers: int, within: float) -> float:
    """
    Jobs a second that *workers* processes settle, from the barrier to the last of *count* jobs.

    If time is over first, the rate is that of the jobs settled so far.
    """
    with _board(workers * FIELDS) as (path, board), contextlib.ExitStack() as stack:
        crew = [
            stack.enter_context(child(who, task, dsn, board=str(path), slot=slot)) for slot in range(workers)
        ]
        for worker in crew:
            worker.ready()
        for worker in crew:
            worker.go()
        give_up = time.monotonic() + within
        cells = board.cells
        while sum(cells[COUNT::FIELDS]) < count and time.monotonic() < give_up:
            for worker in crew:
                if not worker.alive:
                    worker.answer()  # says why
                    raise Failed(worker.complaint())
            time.sleep(0.005)
        done = sum(cells[COUNT::FIELDS])
        if not done:
            raise Failed(f"nothing settled within {within:.0f} s")
        began = min(cells[slot * FIELDS + BEGAN] for slot in range(workers))
        rate = done / (max(cells[LAST::FIELDS]) - began)
        del cells
        return float(rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What a process that waits for jobs costs, and how fast it is when one comes."""

    pickups: Sequence[float] = ()  # ms from before the put to the handler
    after_commit: Sequence[float] = ()  # ms from the end of the put to the handler
    cpu: float = 0.0  # percent of one core
    rss: float = 0.0  # MiB
    questions: float | None = None  # a second


def idle(who: Who, dsn: str, *, settle: float, seconds: float, jobs: int, questions: Any) -> Idle:
    """Let a waiting process come to rest, watch it for *seconds*, then put *jobs* jobs at random gaps."""
    with _board(max(1, jobs) * 3) as (path, board), contextlib.ExitStack() as stack:
        server = stack.enter_context(child(who, "serve", dsn, board=str(path)))
        server.ready()
        server.go()
        time.sleep(settle)
        if not server.alive:
            raise Failed(server.complaint())
        process = psutil.Process(server.pid)
        before, asked, at = _cpu(process), questions(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - at
        cpu = 100 * (_cpu(process) - before) / passed
        rate = None if asked is None else (questions() - asked) / passed
        rss = sum(each.memory_info().rss for each in _family(process)) / 2**20
        times: list[tuple[float, float, float]] = []
        if jobs:
            producer = stack.enter_context(child(who, "produce", dsn, board=str(path), count=jobs))
            producer.ready()
            producer.go()
            producer.answer()
            time.sleep(0.5)
            cells = board.cells
            times = [(cells[i * 3], cells[i * 3 + 1], cells[i * 3 + 2]) for i in range(jobs)]
            del cells
            if not all(seen for _, _, seen in times):
                missing = sum(not seen for _, _, seen in times)
                raise Failed(f"{missing} of {jobs} jobs were not picked up")
        return Idle(
            pickups=[(seen - began) * 1e3 for began, _, seen in times],
            after_commit=[(seen - put) * 1e3 for _, put, seen in times],
            cpu=cpu,
            rss=rss,
            questions=rate,
        )


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in _family(process))
