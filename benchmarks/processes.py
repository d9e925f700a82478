"""Whole programs: fleet-worker on a queue, the fleet command, a private supervisord beside supervisorctl."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil

from benchmarks import harness, targets
from benchmarks.board import BEGAN, COUNT, FIELDS, LAST, Board
from benchmarks.contender import PIPELINE
from benchmarks.harness import Failed
from benchmarks.measures import Bench, in_turn
from benchmarks.report import OURS, Problem, Row, Stat
from fleet.errors import SupervisorUnavailable
from fleet.supervisor.client import Supervisor

_FLEET = Path(sys.executable).with_name("fleet")
_SUPERVISORCTL = Path(sys.executable).with_name("supervisorctl")
_WITHIN = 120.0


# -- fleet-worker


@contextlib.contextmanager
def _workers(dsn: str, handler: str, count: int) -> Iterator[tuple[Board, list[subprocess.Popen[bytes]]]]:
    """Worker processes on one pipeline, and the board that their handlers write to."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        spec = {
            "schema": "fleet.worker/1",
            "pipeline": PIPELINE,
            "queue": {"dsn": dsn},
            "handler": f"benchmarks.handlers:{handler}",
            "directory": str(folder),
            "path": [str(harness.ROOT)],
            "run_dir": str(folder),
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "spec.json").chmod(0o600)
        board = Board(folder / "board", count * FIELDS)
        stack.callback(board.close)
        log = stack.enter_context(open(folder / "log", "wb"))
        crew = []
        for slot in range(count):
            environ = {**os.environ, "BENCH_BOARD": str(folder / "board"), "BENCH_SLOT": str(slot)}
            process = subprocess.Popen(
                [sys.executable, "-m", "fleet.worker.main", str(folder / "spec.json")],
                stdout=log,
                stderr=log,
                env=environ,
                cwd=harness.ROOT,
            )
            stack.callback(_end, process)
            crew.append(process)
        yield board, crew


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _until(board: Board, count: int, crew: Sequence[subprocess.Popen[bytes]]) -> tuple[float, float]:
    """Wait for *count* jobs; when the first began and when the last ended."""
    cells, give_up = board.cells, time.monotonic() + _WITHIN
    while sum(cells[COUNT::FIELDS]) < count:
        if any(process.poll() is not None for process in crew) or time.monotonic() > give_up:
            raise Failed(f"{sum(cells[COUNT::FIELDS]):.0f} of {count} jobs were done")
        time.sleep(0.002)
    return min(began for began in cells[BEGAN::FIELDS] if began), max(cells[LAST::FIELDS])


def worker(bench: Bench) -> list[Row]:
    ours = bench.ours
    count, naps = bench.count(100_000), bench.count(1_000)

    def through_worker() -> float:
        with bench.store(ours, count) as dsn, _workers(dsn, "nothing", 1) as (board, crew):
            began, ended = _until(board, count, crew)
            return count / (ended - began)

    def library() -> float:
        with bench.store(ours, count) as dsn:
            return harness.drained(ours, "drain", dsn, count, 1, _WITHIN)

    def first() -> float:
        with bench.store(ours, 1) as dsn:
            started = time.monotonic()
            with _workers(dsn, "nothing", 1) as (board, crew):
                return 1e3 * (_until(board, 1, crew)[0] - started)

    def resident() -> float:
        with bench.store(ours) as dsn, _workers(dsn, "nothing", 1) as (_, (process,)):
            time.sleep(2.5)
            if process.poll() is not None:
                raise Failed(f"the worker ended with {process.returncode}")
            return float(psutil.Process(process.pid).memory_info().rss / 2**20)

    def fair() -> float:
        with bench.store(ours, naps) as dsn, _workers(dsn, "nap", 4) as (board, crew):
            began, ended = _until(board, naps, crew)
            return ended - began

    def ideal() -> float:
        return -(-naps // 4) * 0.1

    return [
        bench.row(key, title, unit, in_turn(title, bench.runs, who))
        for key, title, unit, who in (
            (
                "worker",
                "drain ×1 through fleet-worker, empty handler",
                "jobs/s",
                [(OURS, through_worker), (targets.LIBRARY, library)],
            ),
            ("worker-first", "fleet-worker from its start to its first job", "ms", [(OURS, first)]),
            ("worker-rss", "memory of an idle fleet-worker", "MiB", [(OURS, resident)]),
            (
                "worker-fair",
                f"{naps:,} jobs of 100 ms on 4 workers",
                "s",
                [(OURS, fair), (targets.IDEAL, ideal)],
            ),
        )
    ]


# -- commands


def _took(*command: str | Path, cwd: Path, good: tuple[int, ...] = (0,), says: str = "") -> float:
    """Seconds that a command takes; it must end with one of the *good* codes, and print *says*."""
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN,
    )
    took = time.perf_counter() - began
    if done.returncode not in good:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Failed(f"{Path(command[0]).name} {command[1]}: {said[:160]}")
    if says not in done.stdout:
        raise Failed(f"{Path(command[0]).name} {command[1]} does not say {says!r}")
    return took


def _row(key: str, title: str, unit: str, cells: dict[str, Stat | Problem]) -> Row:
    return Row(title=title, unit=unit, cells=cells, targets=targets.of("", key))


@contextlib.contextmanager
def _site(pipelines: int, command: str, numprocs: int = 1) -> Iterator[Path]:
    """A folder with a manifest of that many pipelines; whatever runs there is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        lines = ["version = 1", 'project = "bench"', "[queue]", 'dsn = "sqlite:///jobs.db"']
        lines += ["[defaults]", 'timeout = "5s"', 'stop = { grace = "20s" }']
        for number in range(pipelines):
            lines += [
                f"[pipelines.p{number}]",
                f"command = {json.dumps(command)}",
                f"numprocs = {numprocs}",
                "supervisor = { startsecs = 1 }",
            ]
        (folder / "fleet.toml").write_text("\n".join(lines) + "\n")
        try:
            yield folder
        finally:
            if (folder / ".fleet").exists():
                subprocess.run([_FLEET, "down"], check=False, cwd=folder, capture_output=True)


def cli(runs: int, scale: float) -> list[Row]:
    with _site(3, "sleep 1000") as folder:
        _took(_FLEET, "queue", "migrate", cwd=folder)
        help_ = in_turn("help", runs, [(OURS, lambda: 1e3 * _took(_FLEET, "--help", cwd=folder))])
        status = in_turn(
            "status", runs, [(OURS, lambda: 1e3 * _took(_FLEET, "status", "--once", cwd=folder))]
        )
    many = max(10, int(1_000 * scale))
    with _site(many, "sleep 1000") as folder:
        render = in_turn(
            "render", runs, [(OURS, lambda: _took(_FLEET, "render", "-o", "conf.d", cwd=folder))]
        )
    return [
        _row("help", "fleet --help", "ms", help_),
        _row("status", "fleet status --once, SQLite", "ms", status),
        _row("render-many", f"fleet render, {many:,} pipelines", "s", render),
    ]


def _silence(groups: int, each: int) -> float:
    """Seconds that the longest call of a second client takes while everything is started."""
    with _site(groups, "sleep 1000", each) as folder:
        return _longest_call(folder)


def _longest_call(folder: Path) -> float:
    client = Supervisor(f"unix://{folder}/.fleet/supervisor.sock", timeout=_WITHIN)
    up = subprocess.Popen(
        [_FLEET, "up", "--timeout", "5m"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    longest = 0.0
    while up.poll() is None:
        began = time.perf_counter()
        with contextlib.suppress(SupervisorUnavailable):  # it is not there yet
            client.state()
            longest = max(longest, time.perf_counter() - began)
        time.sleep(0.01)
    if up.returncode:
        raise Failed(f"fleet up ended with {up.returncode}")
    return longest


def _down(groups: int) -> float:
    """Seconds that it takes to stop as many groups, each of which needs three."""
    with _site(groups, "sh -c 'trap \"sleep 3; exit 0\" TERM; while :; do sleep 0.2; done'") as folder:
        _took(_FLEET, "up", cwd=folder)
        return _took(_FLEET, "down", cwd=folder)


def supervisor(runs: int, scale: float) -> list[Row]:
    """A private supervisord: many processes, and many groups that need three seconds to stop."""
    many = max(8, int(1_000 * scale))
    per_group = 50 if many >= 100 else 4
    rows = []
    with _site(many // per_group, "sleep 1000", per_group) as folder:
        up = in_turn("up", 1, [(OURS, lambda: _took(_FLEET, "up", "--timeout", "5m", cwd=folder))])
        rows.append(_row("up", f"fleet up, {many:,} processes", "s", up))
        status: list[tuple[str, Callable[[], float]]] = [
            (OURS, lambda: _took(_FLEET, "status", "--once", cwd=folder, says=f" {per_group}/{per_group} "))
        ]
        conf = next(folder.glob(".fleet/**/supervisord.conf"), None)
        if conf is not None and _SUPERVISORCTL.exists():
            status.append(
                (
                    targets.SUPERVISORCTL,
                    lambda: _took(_SUPERVISORCTL, "-c", conf, "status", cwd=folder, good=(0, 3)),
                )
            )
        cells = in_turn("status", runs, status)
        rows.append(_row("status-many", f"status of {many:,} processes", "s", cells))
    with _site(many, "sleep 1000") as folder:
        _took(_FLEET, "up", "--timeout", "5m", cwd=folder)
        plan = [(OURS, lambda: _took(_FLEET, "plan", cwd=folder, says="nothing to change"))]
        title = f"fleet plan, {many:,} pipelines that run"
        rows.append(_row("plan-many", title, "s", in_turn("plan", runs, plan)))
    for groups, each in ((max(2, int(50 * scale)), 10), (max(2, int(500 * scale)), 1)):
        cells = in_turn("silence", runs, [(OURS, partial(_silence, groups, each))])
        title = f"longest silence of supervisord, {groups} groups of {each} start"
        rows.append(_row("silence", title, "s", cells))
    drains = max(4, int(100 * scale))
    cells = in_turn("down", runs, [(OURS, lambda: _down(drains))])
    rows.append(_row("down", f"fleet down, {drains} groups that drain for 3 s", "s", cells))
    return rows


WORKER: dict[str, Callable[[Bench], list[Row]]] = {"worker": worker}
COMMANDS: dict[str, Callable[[int, float], list[Row]]] = {"cli": cli, "supervisor": supervisor}
