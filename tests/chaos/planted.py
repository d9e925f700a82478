"""
Bugs planted on purpose into the SQLite back end, to prove that the checker sees them.

`CHAOS_BUG` names one; nothing that is shipped reads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fleet.queue.backend import Backend
from fleet.queue.backends.sqlite import SqliteBackend

VARIABLE = "CHAOS_BUG"
_CLAIMS = ("first", "claim_one")  # the statements that choose jobs: many, or one


def infested(backend: Backend) -> Backend:
    """The back end, with the bug that the environment names."""
    name = os.environ.get(VARIABLE, "")
    if name:
        assert isinstance(backend, SqliteBackend)
        BUGS[name](backend)
    return backend


def _edit(backend: SqliteBackend, statement: str, old: str, new: str) -> None:
    text = getattr(backend._sql, statement)
    assert old in text, f"{statement} no longer has {old!r}: plant the bug elsewhere"
    setattr(backend._sql, statement, text.replace(old, new))


def no_fence(backend: SqliteBackend) -> None:
    """A late delete or release takes effect, whoever holds the job by now."""
    for statement in ("delete", "delete_many", "delete_older"):
        _edit(backend, statement, "AND token = ?", "AND ? IS NOT NULL")
    _edit(backend, "put_back", "AND token = ?7", "AND ?7 IS NOT NULL")


def delete_at_claim(backend: SqliteBackend) -> None:
    """A job is gone as soon as it is handed out."""
    honest = backend.exchange

    def exchange(settlements: Any, pipelines: Any, limit: int, token: int) -> Any:
        honest_verdicts, jobs = honest(settlements, pipelines, limit, token)
        for job in jobs:
            backend._link.db.execute(backend._sql.delete, (job.id, job.token))
        return [True] * len(honest_verdicts), jobs

    backend.exchange = exchange  # type: ignore[method-assign]


def ack_before_commit(backend: SqliteBackend) -> None:
    """Every tenth settlement is confirmed and then rolled back."""
    honest, count = backend.exchange, iter(range(1 << 30))

    def exchange(settlements: Any, pipelines: Any, limit: int, token: int) -> Any:
        if settlements and next(count) % 10 == 9:
            _, jobs = honest((), pipelines, limit, token)
            return [True] * len(settlements), jobs
        return honest(settlements, pipelines, limit, token)

    backend.exchange = exchange  # type: ignore[method-assign]


def lost_put(backend: SqliteBackend) -> None:
    """Every twentieth put is accepted and never stored, as by a client that reconnects and forgets it."""
    honest, count = backend.put, iter(range(1 << 30))

    def put(pipeline: str, payloads: Any, **options: Any) -> list[int]:
        if next(count) % 20 == 19:
            return [0] * len(payloads)
        return honest(pipeline, payloads, **options)

    backend.put = put  # type: ignore[method-assign]


def attempts_reset(backend: SqliteBackend) -> None:
    """A release forgets how often the job was begun, so that a poison job goes round for ever."""
    _edit(backend, "put_back", "attempts = attempts - ?5", "attempts = 0 * ?5")


def order_by_id_only(backend: SqliteBackend) -> None:
    """Priorities are ignored."""
    for statement in _CLAIMS:
        _edit(backend, statement, "ORDER BY priority, id", "ORDER BY id")


def last_in_first_out(backend: SqliteBackend) -> None:
    """The youngest job of a priority comes first."""
    for statement in _CLAIMS:
        _edit(backend, statement, "priority, id LIMIT", "priority, id DESC LIMIT")


def no_rescue(backend: SqliteBackend) -> None:
    """A lease that ran out is never given to anybody else."""
    _edit(backend, "rescue", "deadline <= ?", "deadline < -?")


def early_rescue(backend: SqliteBackend) -> None:
    """A lease is taken for over as soon as somebody else looks."""
    _edit(backend, "rescue", "deadline <= ?", "deadline > ?")
    for statement in (*_CLAIMS, "why_none"):
        _edit(backend, statement, "deadline <= ?3", "deadline > ?3")


def late_rescue(backend: SqliteBackend) -> None:
    """A lease that ran out is given to somebody else six seconds later."""
    _edit(backend, "rescue", "deadline <= ?", "deadline <= ? - 6000000")
    for statement in (*_CLAIMS, "why_none"):
        _edit(backend, statement, "deadline <= ?3", "deadline <= ?3 - 6000000")


def double_claim(backend: SqliteBackend) -> None:
    """A claim reads first and updates later, without looking whether the job is still free."""
    for statement in _CLAIMS:
        _edit(backend, statement, "state = 0 AND NOT", "(state = 0 OR state = 2 AND id % 7 = 0) AND NOT")


def dropped_release(backend: SqliteBackend) -> None:
    """A failed job is deleted instead of being kept for its next attempt."""
    honest = backend.exchange

    def exchange(settlements: Any, pipelines: Any, limit: int, token: int) -> Any:
        changed = [replace(s, verb="delete") if s.verb == "release" else s for s in settlements]
        return honest(changed, pipelines, limit, token)

    backend.exchange = exchange  # type: ignore[method-assign]


def swallowed_error(backend: SqliteBackend) -> None:
    """A put that the server refused is reported as done."""
    honest, count = backend._link.write, iter(range(1 << 30))

    def write(work: Any, *, puts: bool = False, **options: Any) -> Any:
        if puts and next(count) % 20 == 19:
            return _Swallowed()
        return honest(work, puts=puts, **options)

    backend._link.write = write  # type: ignore[method-assign]


class _Swallowed(list[int]):
    """What a write gives when its error was dropped: a cursor, or ids, of nothing."""

    lastrowid = 0

    def __init__(self) -> None:
        super().__init__([0] * 128)


def early_start(backend: SqliteBackend) -> None:
    """Delayed jobs are handed out at once."""
    _edit(backend, "promote", "run_at <= ?", "run_at > -?")
    for statement in (*_CLAIMS, "why_none"):
        _edit(backend, statement, "run_at <= ?2", "run_at > -?2")


def bad_payload(backend: SqliteBackend) -> None:
    """Every fiftieth payload comes back with one byte changed."""
    honest, count = backend.exchange, iter(range(1 << 30))

    def exchange(settlements: Any, pipelines: Any, limit: int, token: int) -> Any:
        verdicts, jobs = honest(settlements, pipelines, limit, token)
        for job in jobs:
            if next(count) % 50 == 49:
                job.payload = job.payload.replace(b'"spend": 0', b'"spend": 1', 1)
        return verdicts, jobs

    backend.exchange = exchange  # type: ignore[method-assign]


def synchronous_normal(backend: SqliteBackend) -> None:
    """A commit is not synced, so that a power cut takes it back."""
    backend._link._synchronous = "normal"
    backend._link.db.execute("PRAGMA synchronous = normal")


BUGS: dict[str, Callable[[SqliteBackend], None]] = {
    bug.__name__: bug
    for bug in (
        no_fence,
        delete_at_claim,
        ack_before_commit,
        lost_put,
        attempts_reset,
        order_by_id_only,
        last_in_first_out,
        no_rescue,
        early_rescue,
        late_rescue,
        double_claim,
        dropped_release,
        swallowed_error,
        early_start,
        bad_payload,
        synchronous_normal,
    )
}
