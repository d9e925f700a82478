"""Our values as parameters, and rows as our values: pure functions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fleet.queue.backends.postgres.exchange import Settles
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import Filter, Job, JobState, Pulse, Settlement
from fleet.queue.minutes import Minute, minute_to_text
from fleet.queue.pulse import pulse_to_text

READY, DELAYED, RESERVED, BURIED = range(4)
STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
_BIGINT = 2**63


def settle_values(settlements: Sequence[Settlement]) -> tuple[Settles, dict[str, Any]]:
    """The statement's kind and values; in the order of ids, in which everybody takes their locks."""
    deletes = [s.job for s in settlements if s.verb == "delete"]
    deletes.sort(key=lambda job: job.id)
    values: dict[str, Any] = {
        "ids": numbers([job.id for job in deletes]),
        "wanted": len(settlements),
    }
    tokens = [job.token for job in deletes]
    all_deletes = len(deletes) == len(settlements)
    if all_deletes and tokens.count(tokens[0]) == len(tokens):
        values["held"] = tokens[0]
        return "batch", values
    values["tokens"] = numbers(tokens)
    if all_deletes:
        return "deletes", values
    rows = [
        {
            "id": s.job.id,
            "token": s.job.token,
            "state": BURIED if s.verb == "bury" else DELAYED if s.delay else READY,
            "delay": round(s.delay * 1e6),
            "priority": s.priority,
            "reason": storable(s.reason),
            "uncounted": 0 if s.counted else 1,
        }
        for s in sorted(settlements, key=lambda s: s.job.id)
        if s.verb != "delete"
    ]
    values["back"] = json.dumps(rows)
    return "all", values


def verdicts(settlements: Sequence[Settlement], settled: Sequence[Sequence[int]]) -> list[bool]:
    """One verdict a settlement, from the [id, token] that took effect; the same one again is lost."""
    left = Counter((id_, token) for id_, token in settled)
    found = []
    for s in settlements:
        key = (s.job.id, s.job.token)
        found.append(left[key] > 0)
        left[key] -= 1
    return found


def reserved(
    rows: list[tuple[Any, ...]], token: int, now: int, asked_at: float, pipelines: tuple[str, ...]
) -> list[Job]:
    """
    Jobs in claim order: RETURNING promises none, so the rows are sorted here.

    *now* is the server's instant in microseconds, *asked_at* the same on the monotonic clock in seconds.
    """
    if len(pipelines) == 1:
        rows.sort()  # by priority, then id
    else:
        place = {name: n for n, name in reversed(list(enumerate(pipelines)))}
        rows.sort(key=lambda row: (place[row[2]], row[0], row[1]))
    jobs = []
    for priority, id_, pipeline, payload, ttr, attempts, crashes, run_at, reason, uid, unique, *_ in rows:
        seconds = ttr / 1e6
        job = Job(
            id_, pipeline, payload, priority, seconds, attempts, crashes, JobState.RESERVED, token,
            asked_at + seconds, max(0, now - run_at) / 1e6, 0.0, reason, uid or b"", unique,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def published(
    pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]
) -> dict[str, str | list[int] | list[str]]:
    """A pulse, and what goes with it as one array a column."""
    return {
        "host": pulse.host,
        "process": pulse.process,
        "body": pulse_to_text(pulse),
        "minutes": [row.minute for row in minutes],
        "pipelines": [row.pipeline for row in minutes],
        "processes": [row.process for row in minutes],
        "bodies": [minute_to_text(row) for row in minutes],
        "of": [group.pipeline for group in errors],
        "kinds": [group.kind for group in errors],
        "causes": [group.cause for group in errors],
        "places": [group.place for group in errors],
        "counts": [group.count for group in errors],
        "jobs": [group.job for group in errors],
        "samples": [group.sample for group in errors],
    }


def seen(row: tuple[Any, ...]) -> Job:
    """A job that was looked at."""
    id_, pipeline, payload, priority, ttr, attempts, crashes, state, left, reason, uid, unique = row
    job = Job(id_, pipeline, payload, priority, ttr / 1e6, attempts, crashes, STATES[state])
    if state == DELAYED:
        job.delay = max(0.0, left / 1e6)
    else:
        job.waited = max(0.0, -left / 1e6)
    job.reason = reason
    job.uid = uid or b""
    job.unique = unique
    return job


def stored(job: Job) -> dict[str, Any]:
    """A job as `Statements.restore` takes it."""
    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "state": STATES.index(job.state),
        "priority": job.priority,
        "ttr": round(job.ttr * 1e6),
        "attempts": job.attempt,
        "crashes": job.crashes,
        "due_in": round((job.delay - job.waited) * 1e6),
        "unique": job.unique,
        "uid": job.uid or None,
        "reason": storable(job.reason),
        "payload": job.payload,
    }


def condition(where: Filter) -> tuple[bytes, dict[str, Any]]:
    """A Filter as SQL."""
    text, values = b"", dict[str, Any]()
    if where.ids is not None:
        text += b" AND id = ANY (%(only)s::bigint[])"
        values["only"] = numbers(id_ for id_ in where.ids if 0 < id_ < _BIGINT)
    if where.above is not None:
        text += b" AND id > %(above)s"
        values["above"] = where.above
    if where.reason:
        text += b" AND reason LIKE %(reason)s ESCAPE ''"
        values["reason"] = storable(where.reason)
    return text, values


def is_id(number: int) -> bool:
    return 0 < number < _BIGINT


def numbers(values: Iterable[int]) -> str:
    """An array as PostgreSQL writes it: much faster than the driver's own way for lists."""
    return "{" + ",".join(map(str, values)) + "}"


def storable(text: str) -> str:
    """What PostgreSQL can store of a reason: no NUL, no half of a character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
