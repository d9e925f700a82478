"""Rows of the driver as jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fleet.queue.job import Job, JobState

READY, DELAYED, RESERVED, BURIED = range(4)
STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
NUMBER = {state: number for number, state in enumerate(STATES)}


def text(value: str | bytes) -> str:
    """Binary columns come as bytes, and so does everything on a connection with use_unicode=False."""
    return value if isinstance(value, str) else value.decode()


def claimed(
    rows: Iterable[tuple[Any, ...]], pipeline: str, token: int, *, now: int, asked_at: float, starts: int = 1
) -> list[Job]:
    """
    The jobs of one claim, of rows as `Statements.scan` packs them.

    *now* is the server's clock in microseconds, *asked_at* this host's
    `time.monotonic()` before it was asked; *starts* is 0 when the attempts
    in the rows count this start already.
    """
    jobs = []
    reserved = JobState.RESERVED
    for head, payload in rows:
        id_, priority, ttr, attempts, crashes, run_at, uid, unique, reason = text(head).split(",")
        seconds, since = int(ttr) / 1e6, int(run_at)
        job = Job(
            int(id_), pipeline, payload, int(priority), seconds, int(attempts) + starts, int(crashes),
            reserved, token, asked_at + seconds, (now - since) / 1e6 if now > since else 0.0,
        )  # fmt: skip
        job.uid = bytes.fromhex(uid)
        if reason:
            job.reason = bytes.fromhex(reason).decode()
        if unique:
            job.unique = bytes.fromhex(unique).decode()
        jobs.append(job)
    return jobs


def key_of(row: tuple[Any, ...]) -> tuple[int, int]:
    """(priority, id) of a packed row."""
    id_, priority, _ = text(row[0]).split(",", 2)
    return int(priority), int(id_)


def seen(row: tuple[Any, ...]) -> Job:
    """A job that was only looked at."""
    id_, pipeline, payload, priority, ttr, attempts, crashes, state, due_in, reason, uid, unique = row
    job = Job(id_, text(pipeline), payload, priority, ttr / 1e6, attempts, crashes, STATES[state])
    if state == DELAYED:
        job.delay = max(0.0, due_in / 1e6)
    else:
        job.waited = max(0.0, -due_in / 1e6)
    job.reason = text(reason)
    job.uid = uid or b""
    job.unique = None if unique is None else text(unique)
    return job
