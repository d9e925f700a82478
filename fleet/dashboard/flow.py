"""
Rates, waits and run times of one pipeline, out of the minutes that its workers wrote.  Pure.

Nobody counts puts: what came in is what went out plus what is held more than
before.  `held` is the jobs that are ready, delayed or reserved, so a kick
counts as an arrival, and buried jobs that are deleted do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.queue.minutes import MINUTE, Minute, quantile, total

WINDOW = 300.0  # seconds that rates and quantiles look back
SPARKS = 8  # minutes in a sparkline
_SOONEST = 5.0  # seconds: over less, a rate is mostly chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one pipeline did lately.  None is a number that could not be had."""

    window: float = WINDOW  # seconds that were asked for
    span: float = 0.0  # seconds that the numbers cover
    out: float | None = None  # jobs a second that were done or buried
    arrivals: float | None = None  # jobs a second that came in
    errors: float | None = None  # share of the attempts that failed
    wait_p50: float | None = None
    wait_p95: float | None = None
    run_p50: float | None = None
    run_p95: float | None = None
    run_mean: float | None = None
    busy: float | None = None  # processes that were at work, on average
    ended: int = 0  # attempts
    per_minute: tuple[int, ...] = ()  # jobs out, the running minute last
    failed_per_minute: tuple[int, ...] = ()
    ready: tuple[tuple[float, int], ...] = ()  # (Unix time, ready jobs), as workers counted them


def flow(
    rows: Sequence[Minute],
    now: float,
    *,
    window: float = WINDOW,
    until: float | None = None,
    held: int | None = None,
) -> Flow:
    """
    The numbers of one pipeline over the last *window* seconds, or those that ended at *until*.

    *rows* are its minutes, of all processes.  *held* is what it holds now,
    None when nobody could count it.
    """
    end = now if until is None else until
    recent = [row for row in rows if end - window < (row.minute + 1) * MINUTE and row.minute * MINUTE < end]
    if not recent:
        return Flow(window=window)
    summed = total(recent)
    span = max(end - summed.began, 1.0)
    attempts = sum(summed.runs)
    return Flow(
        window=window,
        span=span,
        out=summed.out / span,
        arrivals=_arrivals(recent, end, held) if until is None else None,
        errors=summed.failed / attempts if attempts else 0.0,
        wait_p50=quantile(summed.waits, 0.5),
        wait_p95=quantile(summed.waits, 0.95),
        run_p50=quantile(summed.runs, 0.5),
        run_p95=quantile(summed.runs, 0.95),
        run_mean=summed.busy / attempts if attempts else None,
        busy=summed.busy / span,
        ended=attempts,
        per_minute=_per_minute(rows, end, "out"),
        failed_per_minute=_per_minute(rows, end, "failed"),
        ready=_samples(rows),
    )


def _arrivals(rows: Sequence[Minute], now: float, held: int | None) -> float | None:
    """Departures since the earliest sample, and the change of what is held."""
    samples = [row for row in rows if row.held is not None and now - row.began >= _SOONEST]
    if held is None or not samples:
        return None
    first = min(samples, key=lambda row: row.began)
    left = sum(row.out for row in rows if row.minute >= first.minute)
    return max(0.0, (left + held - (first.held or 0)) / (now - first.began))


def _per_minute(rows: Iterable[Minute], end: float, what: str) -> tuple[int, ...]:
    last = int(end) // MINUTE
    counts = dict.fromkeys(range(last - SPARKS + 1, last + 1), 0)
    for row in rows:
        if row.minute in counts:
            counts[row.minute] += getattr(row, what)
    return tuple(counts.values())


def _samples(rows: Iterable[Minute]) -> tuple[tuple[float, int], ...]:
    return tuple(sorted((row.began, row.ready) for row in rows if row.ready is not None))


def drains_in(ready: int | None, flow: Flow) -> float | None:
    """Seconds until nothing is ready if all goes on as now; infinity is never, None is unknown."""
    if ready == 0:
        return 0.0
    if ready is None or flow.out is None or flow.arrivals is None:
        return None
    gain = flow.out - flow.arrivals
    return ready / gain if gain > 1e-9 else float("inf")


def workers_for(arrivals: float, run_mean: float, *, backlog: int = 0, within: float = 600.0) -> int:
    """Processes that keep up with *arrivals* a second, and do a *backlog* in *within* seconds besides."""
    need = (arrivals + backlog / within) * run_mean
    return max(1, -int(-need // 1))
