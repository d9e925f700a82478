"""What is measured on a back end: each measure gives the rows it makes of one run after another."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import harness, targets
from benchmarks.arenas import Arena
from benchmarks.contender import Unsupported
from benchmarks.harness import Failed, Who
from benchmarks.report import OURS, Problem, Row, Stat

_MILLION = 1_000_000
_WITHIN = 60.0  # seconds a drain may take; its rate is told all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One back end, those who are compared on it, and how much of it."""

    arena: Arena
    who: Sequence[Who]  # ours first
    runs: int
    scale: float

    def count(self, jobs: int, who: Who | None = None) -> int:
        """That many jobs at this scale; a twentieth for who commits job by job."""
        one_by_one = who is not None and (who.slow or self.arena.job_by_job)
        return max(20, int(jobs * self.scale / (20 if one_by_one else 1)))

    def row(self, key: str, title: str, unit: str, cells: dict[str, Stat | Problem]) -> Row:
        return Row(title=title, unit=unit, cells=cells, targets=targets.of(self.arena.name, key))

    @property
    def ours(self) -> Who:
        return self.who[0]

    @contextlib.contextmanager
    def store(self, who: Who, count: int = 0, crowd: int = 0) -> Iterator[str]:
        """A fresh store with *count* jobs, and *crowd* delayed and as many buried ones."""
        with self.arena.fresh() as dsn:
            harness.create(who, dsn, count, crowd)
            self.arena.calm(dsn)
            yield dsn


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_turn(
    title: str, runs: int, who: Sequence[tuple[str, Callable[[], float]]]
) -> dict[str, Stat | Problem]:
    """Run each once, then each once more: what disturbs the machine disturbs all of them."""
    values: dict[str, list[float]] = {name: [] for name, _ in who}
    problems: dict[str, Problem] = {}
    for run in range(runs):
        for name, once in who:
            if name in problems:
                continue
            began = time.monotonic()
            try:
                values[name].append(once())
            except Unsupported:
                problems[name] = Problem()
            except Exception as error:
                # Whatever it is, it belongs into its row, and the others are still measured.
                problems[name] = Problem(str(error) or type(error).__name__)
                say(f"  {title}: {name} failed: {error}")
            else:
                took = time.monotonic() - began
                say(f"  {title}, run {run + 1}: {name} {values[name][-1]:,.4g} ({took:.1f} s)")
    return {name: problems.get(name) or Stat(tuple(values[name])) for name, _ in who}


def _compare(bench: Bench, title: str, once: Callable[[Who], float]) -> dict[str, Stat | Problem]:
    return in_turn(title, bench.runs, [(who.name, partial(once, who)) for who in bench.who])


# -- producers


def put(bench: Bench) -> list[Row]:
    def once(who: Who) -> float:
        count = bench.count(10_000)
        with bench.store(who) as dsn:
            return count / harness.timed(who, "put", dsn, count)

    return [bench.row("put", "put, one by one", "jobs/s", _compare(bench, "put", once))]


def put_many(bench: Bench) -> list[Row]:
    def once(who: Who) -> float:
        count = bench.count(100_000, who)
        with bench.store(who) as dsn:
            return count / harness.timed(who, "put_many", dsn, count)

    return [bench.row("put_many", "put many, ids back", "jobs/s", _compare(bench, "put many", once))]


# -- consumers


def _drain(bench: Bench, key: str, title: str, task: str, jobs: int, workers: int = 1) -> list[Row]:
    def once(who: Who) -> float:
        count = bench.count(jobs, who)
        with bench.store(who, count) as dsn:
            return harness.drained(who, task, dsn, count, workers, _WITHIN)

    return [bench.row(key, title, "jobs/s", _compare(bench, title, once))]


def one(bench: Bench) -> list[Row]:
    return _drain(bench, "one", "reserve and delete, one by one", "one", 8_000)


def drain(bench: Bench) -> list[Row]:
    return _drain(bench, "drain", "drain ×1, batched", "drain", 100_000)


def drain4(bench: Bench) -> list[Row]:
    return _drain(bench, "drain4", "drain ×4, batched", "drain", 200_000, workers=4)


def _grown(bench: Bench, key: str, title: str, take: int, *, old: bool) -> Row:
    """Ours in a store of three million jobs, beside ours in a small one."""
    ours, million = bench.ours, bench.count(_MILLION)
    small_count, take = bench.count(20_000), bench.count(take)
    with contextlib.ExitStack() as stack:
        say(f"  {title}: filling {3 * million:,} jobs …")
        big = stack.enter_context(bench.store(ours, million, crowd=million))
        if old and (transaction := bench.arena.old_transaction(big)) is not None:
            stack.enter_context(transaction)

        def large() -> float:
            return harness.drained(ours, "drain", big, take, 1, _WITHIN)

        def small() -> float:
            with bench.store(ours, small_count) as dsn:
                return harness.drained(ours, "drain", dsn, small_count, 1, _WITHIN)

        cells = in_turn(title, bench.runs, [(OURS, large), (targets.AT_20_000, small)])
    return bench.row(key, title, "jobs/s", cells)


def growth(bench: Bench) -> list[Row]:
    if "growth" not in targets.TARGETS[bench.arena.name]:
        return []
    return [_grown(bench, "growth", "drain beside 1 M ready, delayed, buried", 20_000, old=False)]


def old_tx(bench: Bench) -> list[Row]:
    if "old-tx" not in targets.TARGETS[bench.arena.name]:
        return []
    return [_grown(bench, "old-tx", "the same under an old open transaction", 60_000, old=True)]


# -- waiting


def _idle(
    bench: Bench, seconds: float, jobs: int, settle: float = 1.5
) -> dict[str, list[harness.Idle] | Problem]:
    watched: dict[str, list[harness.Idle]] = {who.name: [] for who in bench.who}

    def once(who: Who) -> float:
        with bench.store(who) as dsn:
            seen = harness.idle(
                who, dsn, settle=settle, seconds=seconds, jobs=jobs, questions=bench.arena.questions
            )
        watched[who.name].append(seen)
        return statistics.median(seen.pickups or [0])

    cells = _compare(bench, "idle worker", once)
    return {name: cell if isinstance(cell, Problem) else watched[name] for name, cell in cells.items()}


def _pick(
    watched: dict[str, list[harness.Idle] | Problem], value: Callable[[harness.Idle], float]
) -> dict[str, Stat | Problem]:
    return {
        name: seen if isinstance(seen, Problem) else Stat(tuple(value(each) for each in seen))
        for name, seen in watched.items()
    }


def wake(bench: Bench) -> list[Row]:
    watched = _idle(bench, 0.2, bench.count(100))
    return [
        bench.row(
            "wake",
            "pick-up p50, from before the put",
            "ms",
            _pick(watched, lambda seen: statistics.median(seen.pickups)),
        ),
        bench.row(
            "wake-after",
            "pick-up p50, from the put's return",
            "ms",
            _pick(watched, lambda seen: max(0.0, statistics.median(seen.after_commit))),
        ),
        bench.row(
            "wake-99",
            "pick-up p99, from before the put",
            "ms",
            _pick(watched, lambda seen: statistics.quantiles(seen.pickups, n=100)[98]),
        ),
    ]


def idle(bench: Bench) -> list[Row]:
    # PostgreSQL counts what a session asked before it fell idle up to ten seconds later.
    watched = _idle(bench, max(5.0, 20 * bench.scale), 0, settle=11)
    rows = [bench.row("idle", "idle worker", "% of a core", _pick(watched, lambda seen: seen.cpu))]
    if bench.arena.questions() is not None:
        rows.append(
            bench.row(
                "questions",
                "idle worker",
                "transactions/s" if bench.arena.name == "postgresql" else "queries/s",
                _pick(watched, lambda seen: max(0.0, seen.questions or 0.0)),
            )
        )
    return rows


def rss(bench: Bench) -> list[Row]:
    watched = _idle(bench, 0.1, 0)
    return [bench.row("rss", "memory of an idle process", "MiB", _pick(watched, lambda seen: seen.rss))]


# -- numbers


def stats(bench: Bench) -> list[Row]:
    if "stats" not in targets.TARGETS[bench.arena.name]:
        return []
    count = bench.count(_MILLION)
    cells: dict[str, Stat | Problem] = {}
    for who in bench.who:
        cells[who.name] = Problem()
        if who.slow:
            continue  # it would take minutes to store so many
        try:
            with bench.store(who, count) as dsn:
                cells |= in_turn("stats", bench.runs, [(who.name, partial(_ask, who, dsn))])
        except Failed as error:
            cells[who.name] = Problem(str(error))
    return [bench.row("stats", f"stats of one pipeline at {count:,} jobs", "ms", cells)]


def _ask(who: Who, dsn: str) -> float:
    return 1e3 * harness.timed(who, "stats", dsn, 20)


def import_(bench: Bench) -> list[Row]:
    modules = {OURS: "fleet"} | {peer.name: peer.module for peer in bench.arena.peers}
    who = [
        (each.name, partial(_import, each.python, modules[each.name]))
        for each in bench.who
        if each.name in modules
    ]
    return [bench.row("import", "import", "ms", in_turn("import", bench.runs, who))]


def _import(python: str, module: str) -> float:
    """What it adds to the start of an interpreter; the best of five, as all else only disturbs."""

    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([python, "-c", code], check=True, cwd=harness.ROOT, capture_output=True)
        return time.perf_counter() - began

    return 1e3 * (min(run(f"import {module}") for _ in range(5)) - min(run("pass") for _ in range(5)))


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "put": put,
    "put_many": put_many,
    "one": one,
    "drain": drain,
    "drain4": drain4,
    "growth": growth,
    "old-tx": old_tx,
    "wake": wake,
    "idle": idle,
    "stats": stats,
    "import": import_,
    "rss": rss,
}
