"""Our values as parameters, and rows as our values: pure functions."""

from __future__ import annotations

from typing import Any

from fleet.queue.job import Filter, Job, JobState

READY, DELAYED, RESERVED, BURIED = range(4)
STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
NUMBER = {state: number for number, state in enumerate(STATES)}
PEEK_ORDER = {
    JobState.READY: "priority, id",
    JobState.DELAYED: "run_at, id",
    JobState.RESERVED: "deadline, id",
    JobState.BURIED: "id",
}


# A payload as a parameter.  sqlite3 looks for an adapter of each None and each bytes, which costs far
# more than a copy; a bytearray it takes as it is.
blob = bytearray


def seen(row: tuple[Any, ...], now: int) -> Job:
    """A job that was looked at, at wall clock instant *now*."""
    id_, pipeline, payload, priority, ttr, attempts, crashes, state, run_at, reason, uid, unique = row
    job = Job(id_, pipeline, payload, priority, ttr / 1e6, attempts, crashes, STATES[state])
    if state == DELAYED:
        job.delay = max(0.0, (run_at - now) / 1e6)
    else:
        job.waited = max(0.0, (now - run_at) / 1e6)
    job.reason = reason
    job.uid = uid or b""
    job.unique = unique
    return job


def stored(job: Job, now: int) -> tuple[Any, ...]:
    """A job as `Statements.restore` takes it, at wall clock instant *now*."""
    return (
        job.id,
        job.pipeline,
        NUMBER[job.state],
        job.priority,
        round(job.ttr * 1e6),
        job.attempt,
        job.crashes,
        now + round((job.delay - job.waited) * 1e6),
        job.unique,
        job.uid or None,
        job.reason,
        job.payload,
    )


def condition(where: Filter) -> tuple[str, list[Any]]:
    """A Filter as SQL.  GLOB, because SQLite's LIKE ignores case and other servers' does not."""
    text, values = "", list[Any]()
    if where.ids is not None:
        text += f" AND id IN ({','.join('?' * len(where.ids))})"
        values += where.ids
    if where.above is not None:
        text += " AND id > ?"
        values.append(where.above)
    if where.reason:
        text += " AND reason GLOB ?"
        escaped = "".join(f"[{c}]" if c in "*?[" else c for c in where.reason)
        values.append(escaped.replace("%", "*").replace("_", "?"))
    return text, values
