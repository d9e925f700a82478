"""Half an hour of steady work: does what a worker takes, and what a job waits, stay as it was?"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.arena import Arena
from tests.chaos.history import SECOND
from tests.chaos.ledger import Ledger, now, read

KINDS = ("quick", "slow", "late", "flaky", "chatty")  # none that ends its worker
_EVERY = 5.0  # seconds
_PARTS = 10
_MiB = 1 << 20
_MORE_MEMORY = 1.10  # of the second part; the first one warms up
_MORE_WAIT, _SLACK = 2.0, 0.05  # likewise, and seconds


@dataclass(frozen=True, slots=True)
class Row:
    """
    One part of the time.

    until           seconds from the start
    jobs            that were begun
    worker, server  MiB of the largest worker, and of all processes of the server
    p50, p99        seconds from the moment that a job was ready to its start
    """

    until: float
    jobs: int
    worker: float
    server: float
    p50: float
    p99: float


@contextlib.contextmanager
def watch(arena: Arena) -> Iterator[None]:
    """Write down every few seconds how much memory everybody has."""
    ledger, over = Ledger(arena.folder, "memory"), threading.Event()

    def sample() -> None:
        while not over.wait(_EVERY):
            crew = [_rss(worker) for worker in arena.crew()]
            server = 0
            if arena.server is not None:
                main = psutil.Process(arena.server.pid)
                server = sum(_rss(process) for process in (main, *main.children(recursive=True)))
            ledger.write(t=now(), worker=max(crew, default=0), server=server)

    thread = threading.Thread(target=sample, name="chaos-soak", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ledger.close()


def windows(folder: Path) -> list[Row]:
    """The time in ten parts, from the files of a run."""
    ready: dict[str, int] = {}
    delays: dict[str, float] = {}
    for r in read(folder, "put"):
        if r["phase"] == "try":
            delays[r["uid"]] = r["delay"]
        elif r["phase"] == "accepted":
            ready[r["uid"]] = r["t"] + round(delays[r["uid"]] * SECOND)
    first: dict[str, int] = {}
    for r in read(folder, "run"):
        if r["event"] == "start":
            first[r["uid"]] = min(r["t"], first.get(r["uid"], r["t"]))
    memory = list(read(folder, "memory"))
    begin, end = min(first.values()), max(first.values()) + 1
    rows = []
    for part in range(_PARTS):
        low, high = (begin + (end - begin) * edge // _PARTS for edge in (part, part + 1))
        waits = sorted(
            max(0, t - ready[uid]) / SECOND for uid, t in first.items() if low <= t < high and uid in ready
        )
        samples = [r for r in memory if low <= r["t"] < high]
        rows.append(
            Row(
                until=(high - begin) / SECOND,
                jobs=len(waits),
                worker=max((r["worker"] for r in samples), default=0) / _MiB,
                server=max((r["server"] for r in samples), default=0) / _MiB,
                p50=_at(waits, 0.5),
                p99=_at(waits, 0.99),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    lines = ["  minute     jobs  worker MiB  server MiB  wait p50 ms  wait p99 ms"]
    lines += [
        f"{row.until / 60:8.1f} {row.jobs:8,} {row.worker:11.1f} {row.server:11.1f} "
        f"{row.p50 * 1000:12.1f} {row.p99 * 1000:12.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def not_flat(rows: Sequence[Row]) -> list[str]:
    """What grew from the second part to the last but one; the first warms up, and the last is the rest."""
    before, after = rows[1], rows[-2]
    grown = []
    if after.worker > before.worker * _MORE_MEMORY:
        grown.append(f"the largest worker grew from {before.worker:.1f} to {after.worker:.1f} MiB")
    if after.p99 > before.p99 * _MORE_WAIT + _SLACK:
        grown.append(f"p99 of the wait grew from {before.p99 * 1000:.0f} to {after.p99 * 1000:.0f} ms")
    return grown


def _rss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _at(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
