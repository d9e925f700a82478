"""
Jobs in MySQL 8.0 or MariaDB 10.6: every verb.

The server's clock counts everything.  READ COMMITTED, and rows in the order of
their ids: with gap locks, or in another order, rivals would deadlock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fleet.errors import OutcomeUnknown, SchemaError
from fleet.queue.backend import EVERYTHING, Capabilities
from fleet.queue.backends.mysql import server
from fleet.queue.backends.mysql.claim import CHUNK, Claims
from fleet.queue.backends.mysql.connection import Link
from fleet.queue.backends.mysql.literal import bind, like
from fleet.queue.backends.mysql.mishaps import Lost
from fleet.queue.backends.mysql.put import Put, restore
from fleet.queue.backends.mysql.rows import BURIED, NUMBER, seen, text
from fleet.queue.backends.mysql.statements import NOW, Statements
from fleet.queue.backends.mysql.waiting import Waiting
from fleet.queue.causes import KEPT as ERRORS_KEPT
from fleet.queue.causes import ErrorGroup, error_from_row
from fleet.queue.dsn import Dsn
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import KEPT as MINUTES_KEPT
from fleet.queue.minutes import Minute, minute_from_text, minute_to_text
from fleet.queue.pulse import PULSES_KEPT, PULSES_SHOWN, is_time_to_prune, pulse_from_text, pulse_to_text
from fleet.queue.schema import migrate
from fleet.queue.uids import fresh

_MOST_PRIORITIES = 64  # that stats looks at for the oldest job


class MysqlBackend:
    """`Backend` over a MySQL or MariaDB database, or over the caller's own PyMySQL connection."""

    name = "mysql"
    capabilities = Capabilities()

    def __init__(
        self,
        dsn: Dsn | None = None,
        *,
        connection: Any = None,
        commits: bool = False,
        prefix: str = "fleet",
        create: bool = True,
    ) -> None:
        """
        Connect to *dsn*; with *create* the tables are made when they are missing.

        With *connection* nothing is created, set or closed, and verbs join
        the caller's transaction.  *commits* says that outside of an open one
        each verb is a transaction of its own, whatever its autocommit mode,
        and that missing tables may be made.

        Raises:
            DsnError, QueueError, SchemaError: the database cannot be used.
        """
        self._prefix = prefix
        self._sql = Statements(prefix)
        self._link = Link(dsn, connection=connection, commits=commits)
        self._claims = Claims(self._link, self._sql)
        self._waiting = Waiting(self._link, self._sql, prefix)
        try:
            if not self._link.borrowed:
                server.check_version(self._link)
            found = server.schema_version(self._link, self._sql)
            if found is None and create and self._link.may_change_tables:
                found = self.migrate()[1]
            if found is not None or create:
                migrate.check(found, self._link.where)
            server.check_tables(self._link, self._sql)
        except BaseException:
            self._link.close()
            raise

    # -- put ---------------------------------------------------------------

    def put(
        self,
        pipeline: str,
        payloads: Sequence[bytes],
        *,
        priority: int,
        delay: float,
        ttr: float,
        uids: Sequence[bytes],
        unique: str | None,
    ) -> list[int]:
        put = Put(self._link, self._sql, pipeline, priority=priority, delay=delay, ttr=ttr, unique=unique)
        ids = put.store(uids or fresh(len(payloads)), payloads)
        self._waiting.nudge()
        return ids

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        if limit and not settlements and self._waiting.is_in_vain(pipelines):
            return [], []  # so idle workers go on
        verdicts, jobs = self._claims.exchange(settlements, pipelines, limit, token)
        if any(s.verb == "release" for s in settlements):
            self._waiting.nudge()
        return verdicts, jobs

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        groups: dict[tuple[int, float], list[int]] = {}
        for job in jobs:
            groups.setdefault((job.token, ttr or job.ttr), []).append(job.id)
        statements = []
        for (token, seconds), ids in groups.items():
            statements.append(bind(self._sql.touch, round(seconds * 1e6), sorted(ids), token))
            # A row count would leave out a lease that ends when it did before.
            statements.append(bind(self._sql.held, ids, token))
        asked_at = time.monotonic()
        try:
            results = self._link.transact(
                lambda: self._link.run(*statements, begin=True, commit=True), again=True
            )
        except Lost as lost:
            raise OutcomeUnknown(f"{self._link.where}: {lost} during a touch") from lost
        held = {
            (id_, token)
            for (token, _), result in zip(groups, results[1::2], strict=True)
            for (id_,) in result.rows
        }
        verdicts = [(job.id, job.token) in held for job in jobs]
        for job, renewed in zip(jobs, verdicts, strict=True):
            if renewed:
                job.expires_at = asked_at + (ttr or job.ttr)
        return verdicts

    # -- waiting -----------------------------------------------------------

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        self._waiting.wait(pipelines, timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        def change(ids: list[int]) -> list[str]:
            return [bind(self._sql.kick, ids), bind(self._sql.returned, pipeline)]

        moved = self._in_chunks(pipeline, BURIED, limit, where, change)
        self._waiting.nudge()
        return moved

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        number = NUMBER[state]
        return self._in_chunks(
            pipeline, number, limit, where, lambda ids: [bind(self._sql.discard, ids, number)]
        )

    def release_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, force: bool) -> int:
        number = NUMBER[state]
        over = self._sql.lease_is_over if state is JobState.RESERVED and not force else ""

        def change(ids: list[int]) -> list[str]:
            return [bind(self._sql.release, ids, number), bind(self._sql.returned, pipeline)]

        moved = self._in_chunks(pipeline, number, limit, where, change, over)
        self._waiting.nudge()
        return moved

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:
        number = NUMBER[state]
        return self._in_chunks(
            pipeline, number, limit, where, lambda ids: [bind(self._sql.bury, reason, ids, number)]
        )

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:
        number = NUMBER[state]

        def change(ids: list[int]) -> list[str]:
            return [bind(self._sql.move, target, ids, number), bind(self._sql.returned, target)]

        moved = self._in_chunks(pipeline, number, limit, where, change, self._sql.key_is_free, target)
        self._waiting.nudge()
        return moved

    def _in_chunks(
        self,
        pipeline: str,
        state: int,
        limit: int,
        where: Filter,
        change: Callable[[list[int]], list[str]],
        also: str = "",
        *others: str,
    ) -> int:
        """Change the jobs that *where* and the condition *also* choose; its values are *others*."""
        condition, values = _condition(where)
        condition, values = f"{condition} {also}", [*values, *others]
        # Oldest first, which is the index's own order for buried jobs, and no matter when all are meant.
        order = "turn, id" if state == BURIED or limit >= EVERYTHING else "id"
        select = self._sql.select.format(table=self._table(where), where=condition, order=order)
        moved = 0

        def chunk() -> tuple[int, bool]:
            size = min(CHUNK, limit - moved)
            statement = bind(select, pipeline, state, *values, size)
            ids = sorted(id_ for (id_,) in self._link.run(statement, begin=True)[0].rows)
            changed = self._link.run(*(change(ids) if ids else ()), commit=True)
            count = changed[0].changed if ids else 0
            return count, count > 0 and len(ids) == size

        try:
            more = limit > 0
            while more and moved < limit:
                count, more = self._link.transact(chunk)
                moved += count
        except Lost as lost:
            raise OutcomeUnknown(f"{self._link.where}: {lost}; doing it again is safe") from lost
        return moved

    def _table(self, where: Filter) -> str:
        return self._sql.by_turn if where.ids is None else self._sql.by_id

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = _condition(where)
        table, order = self._table(where), "turn, id"
        if where.above is not None and state is not JobState.BURIED:  # there the two orders are one
            table, order = self._sql.by_id, "id"
        select = self._sql.peek.format(table=table, where=condition, order=order)
        statement = bind(select, pipeline, NUMBER[state], *values, limit)
        return [seen(row) for row in self._link.read(statement)[0].rows]

    def find(self, job_id: int) -> Job | None:
        rows = self._link.read(bind(self._sql.find, job_id))[0].rows
        return seen(rows[0]) if rows else None

    def pause(self, pipeline: str, seconds: float) -> None:
        until = f"{NOW} + {round(seconds * 1e6)}" if seconds else "0"
        self._write(bind(self._sql.pause.format(until=until), pipeline))
        self._waiting.nudge()

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        values: list[str | int] = [pipeline, cap]
        counts, first = self._link.read(
            bind(self._sql.counts, pipeline, *values * 6, pipeline),
            bind(self._sql.first_of_next_priority, pipeline, -1),
        )
        now, paused_until, ready, due, delayed, reserved, stale, buried, first_due = counts.rows[0]
        ready = min(cap, ready + due)  # a due job is ready, though nobody has moved it yet
        oldest = self._oldest_ready(pipeline, first.rows)
        if due:
            oldest = min(oldest or first_due, first_due)
        return PipelineStats(
            pipeline=pipeline,
            ready=ready,
            delayed=delayed - due,
            reserved=reserved,
            buried=buried,
            stale=stale,
            oldest_ready=None if oldest is None else max(0.0, (now - oldest) / 1e6),
            paused=max(0.0, ((paused_until or 0) - now) / 1e6),
            cap=cap if cap in (ready, delayed, reserved, buried) else 0,
        )

    def _oldest_ready(self, pipeline: str, first: Sequence[tuple[int, int]]) -> int | None:
        """When the longest waiting of the first jobs of each priority became ready; one hop a priority."""
        rows, oldest = first, None
        for _ in range(_MOST_PRIORITIES):
            if not rows:
                break
            priority, since = rows[0]
            oldest = since if oldest is None else min(oldest, since)
            rows = self._link.read(bind(self._sql.first_of_next_priority, pipeline, priority))[0].rows
        return oldest

    def pipelines(self) -> list[str]:
        return sorted(text(name) for (name,) in self._link.read(self._sql.pipelines)[0].rows)

    # -- imports -----------------------------------------------------------

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        restore(self._link, self._sql, jobs, memo, value)
        self._waiting.nudge()

    def recall(self, memo: str) -> str | None:
        rows = self._link.read(bind(self._sql.get_meta, memo))[0].rows
        return text(rows[0][0]) if rows else None

    # -- pulses ------------------------------------------------------------

    def publish(self, pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
        sql, body = self._sql, pulse_to_text(pulse)
        statements = [bind(sql.publish, pulse.host, pulse.process, body, body)]
        for row in minutes:
            told = minute_to_text(row)
            statements.append(bind(sql.put_minute, row.minute, row.pipeline, row.process, told))
        for e in errors:
            values = (e.pipeline, e.kind, e.cause, e.place, e.count, e.job, e.sample)
            statements.append(bind(sql.put_error, *values))
        if minutes and is_time_to_prune():
            statements.append(bind(sql.prune_minutes, MINUTES_KEPT))
            statements.append(bind(sql.prune_errors, ERRORS_KEPT))
            statements.append(bind(sql.prune_pulses, PULSES_KEPT))
        self._write(*statements)

    def pulses(self) -> list[Pulse]:
        rows = self._link.read(bind(self._sql.pulses, PULSES_SHOWN * 1_000_000))[0].rows
        return [pulse_from_text(text(body), age=max(0.0, age / 1e6)) for age, body in rows]

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:
        rows = self._link.read(bind(self._sql.minutes, round(seconds * 1e6), pipeline))[0].rows
        return [
            minute_from_text(text(name), minute, text(process), text(body))
            for name, minute, process, body in rows
        ]

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:
        rows = self._link.read(bind(self._sql.errors, round(seconds * 1e6), pipeline))[0].rows
        return [
            error_from_row(text(name), text(kind), text(cause), text(place), count, job, text(sample), *ago)
            for name, kind, cause, place, count, job, sample, *ago in rows
        ]

    # -- the database ------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if not self._link.may_change_tables:
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")
        return server.migrate_tables(self._link, self._sql, self._prefix)

    def info(self) -> BackendInfo:
        return server.describe(self._link, self._sql, self._prefix)

    def close(self) -> None:
        self._link.close()
        self._waiting.close()

    def _write(self, *statements: str) -> None:
        """Statements of one transaction that do no harm when they are done twice."""
        try:
            self._link.transact(lambda: self._link.run(*statements, begin=True, commit=True), again=True)
        except Lost as lost:
            raise OutcomeUnknown(f"{self._link.where}: {lost}; doing it again is safe") from lost


def _condition(where: Filter) -> tuple[str, list[Any]]:
    """A Filter as SQL.  The column's collation is binary, so LIKE tells upper from lower case."""
    condition, values = "", list[Any]()
    if where.ids is not None:
        condition += " AND id %s"
        values.append(where.ids)
    if where.above is not None:
        condition += " AND id > %s"
        values.append(where.above)
    if where.reason:
        condition += " AND reason LIKE %s ESCAPE '|'"
        values.append(like(where.reason))
    return condition, values
