"""
The PostgreSQL back end.

Every statement is a transaction of its own, and says `clock_timestamp()` for
every instant.  Nothing is kept in the session but what a pooler in transaction
mode allows: no advisory lock beyond a transaction, and LISTEN only on a
connection of its own that leads straight to the server.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from fleet.errors import OutcomeUnknown, QueueError, SchemaError, UidConflict
from fleet.queue.backend import Capabilities
from fleet.queue.backends.postgres import rows as values_of
from fleet.queue.backends.postgres.bell import Bell
from fleet.queue.backends.postgres.claim import Claims
from fleet.queue.backends.postgres.facts import clock, durability, missing_indexes
from fleet.queue.backends.postgres.puts import Puts
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Cut, Door, Session
from fleet.queue.backends.postgres.statements import Statements
from fleet.queue.backends.postgres.waiting import LOOK_SECONDS, Waiting
from fleet.queue.causes import KEPT as ERRORS_KEPT
from fleet.queue.causes import ErrorGroup, error_from_row
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import KEPT as MINUTES_KEPT
from fleet.queue.minutes import Minute, minute_from_text
from fleet.queue.pulse import PULSES_KEPT, PULSES_SHOWN, is_time_to_prune, pulse_from_text
from fleet.queue.schema import migrate
from fleet.queue.uids import may_be_ours

_PEEK_ORDER = {
    JobState.READY: b"priority, id",
    JobState.DELAYED: b"run_at, id",
    JobState.RESERVED: b"deadline, id",
    JobState.BURIED: b"id",
}


class PostgresBackend:
    """`Backend` over a PostgreSQL server, or over the caller's own `psycopg.Connection`."""

    name = "postgresql"
    capabilities = Capabilities()

    def __init__(
        self,
        door: Door | None = None,
        *,
        connection: psycopg.Connection[Any] | None = None,
        commits: bool = False,
        prefix: str = "fleet",
        push: bool = True,
        create: bool = True,
    ) -> None:
        """
        Connect through *door*; with *create* the tables are made when they are missing.

        With *connection* nothing is created or closed, and verbs join the
        caller's transaction.  *commits* says that outside of an open one each
        verb is a transaction of its own, whatever the connection's own mode,
        and that missing tables may be made.  Without *push* nothing is
        notified or listened for.

        Raises:
            BackendUnavailable, DsnError, SchemaError: the server or its tables cannot be used.
        """
        self._prefix = prefix
        self._commits = commits
        self._sql = Statements(prefix)
        self._runner = Runner(door, connection, commits, prefix)
        self._bell = Bell(self._runner, self._sql, f"{prefix}_ready", push=push, within=LOOK_SECONDS)
        self._puts = Puts(self._runner, self._sql, self._bell)
        self._waiting = Waiting(door, self._runner, self._bell.channel, push=push)
        self._claims = Claims(self._runner, self._sql, self._waiting)
        try:
            found = self._schema_version()
            if found is None and create and (not self._runner.borrowed or commits):
                found = self.migrate()[1]
            if found is not None or create:
                migrate.check(found, self._runner.where)
        except BaseException:
            self.close()
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
        values = {
            "pipeline": pipeline,
            "state": values_of.DELAYED if delay else values_of.READY,
            "priority": priority,
            "ttr": round(ttr * 1e6),
            "delay": round(delay * 1e6),
            "unique": unique,
            "channel": self._bell.channel,
        }
        return self._puts.put(values, uids, payloads)

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        verdicts, jobs = self._claims.exchange(settlements, pipelines, limit, token)
        released = [s for s in settlements if s.verb == "release"]
        if released:
            soonest = round(min(s.delay for s in released) * 1e6)
            self._bell.ring({s.job.pipeline for s in released}, soonest)
        return verdicts, jobs

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        ordered = sorted(jobs, key=lambda job: job.id)
        values = {
            "ids": values_of.numbers(job.id for job in ordered),
            "tokens": values_of.numbers(job.token for job in ordered),
            "ttrs": values_of.numbers(round((ttr or job.ttr) * 1e6) for job in ordered),
        }
        asked_at = time.monotonic()
        renewed = set(
            self._runner.twice(lambda session: self._runner.ask(session, self._sql.touch, values).fetchall())
        )
        verdicts = [(job.id, job.token) in renewed for job in jobs]
        for job, held in zip(jobs, verdicts, strict=True):
            if held:
                job.expires_at = asked_at + (ttr or job.ttr)
        return verdicts

    # -- waiting -----------------------------------------------------------

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        self._waiting.wait(tuple(pipelines), timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        return self._heard(pipeline, self._change(self._sql.kick, pipeline, JobState.BURIED, limit, where))

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        return self._change(self._sql.discard, pipeline, state, limit, where)

    def release_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, force: bool) -> int:
        over = self._sql.lease_is_over if state is JobState.RESERVED and not force else b""
        statement = self._sql.release.replace(b"{where}", b"{where}" + over)
        return self._heard(pipeline, self._change(statement, pipeline, state, limit, where))

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:
        because = values_of.storable(reason)
        return self._change(self._sql.bury, pipeline, state, limit, where, because=because)

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:
        moved = self._change(self._sql.move, pipeline, state, limit, where, target=target)
        return self._heard(target, moved)

    def _heard(self, pipeline: str, moved: int) -> int:
        if moved:
            self._bell.ring([pipeline])
        return moved

    def _change(
        self, statement: bytes, pipeline: str, state: JobState, limit: int, where: Filter, **more: str
    ) -> int:
        condition, values = values_of.condition(where)
        statement = statement.replace(b"{where}", condition)
        statement = statement.replace(b"{state}", b"%d" % values_of.STATES.index(state))
        statement = statement.replace(b"{order}", _oldest(state))
        values |= {"pipeline": pipeline, "limit": limit, **more}
        try:
            return self._runner.run(lambda session: self._runner.ask(session, statement, values).rowcount)
        except Cut as cut:
            raise OutcomeUnknown(f"{cut}; jobs may have been changed. Doing it again is safe.") from cut

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = values_of.condition(where)
        statement = self._sql.peek.replace(b"{state}", b"%d" % values_of.STATES.index(state))
        order = _oldest(state) if where.above is not None else _PEEK_ORDER[state]
        if where.ids is not None:
            order = order.replace(
                b",", b" + 0,"
            )  # so that the index of that order is not read from its start
        statement = statement.replace(b"{where}", condition).replace(b"{order}", order)
        return [
            values_of.seen(row)
            for row in self._runner.read(statement, values | {"pipeline": pipeline, "limit": limit})
        ]

    def find(self, job_id: int) -> Job | None:
        rows = self._runner.read(self._sql.find, {"id": job_id}) if values_of.is_id(job_id) else []
        return values_of.seen(rows[0]) if rows else None

    def pause(self, pipeline: str, seconds: float) -> None:
        values = {"pipeline": pipeline, "us": round(seconds * 1e6)}
        self._runner.twice(lambda session: self._runner.ask(session, self._sql.pause, values))
        self._bell.ring([pipeline])

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        counts = self._runner.read(self._sql.stats, {"pipeline": pipeline, "cap": cap})[0]
        ready, due, delayed, reserved, stale, buried, paused, oldest = counts
        ready = min(cap, ready + due)  # a due job is ready, though nobody has moved it yet
        return PipelineStats(
            pipeline=pipeline,
            ready=ready,
            delayed=delayed - due,
            reserved=reserved,
            buried=buried,
            stale=stale,
            oldest_ready=None if oldest is None else max(0.0, oldest / 1e6),
            paused=max(0.0, (paused or 0) / 1e6),
            cap=cap if cap in (ready, delayed, reserved, buried) else 0,
        )

    def pipelines(self) -> list[str]:
        return [name for (name,) in self._runner.read(self._sql.names)]

    # -- imports -----------------------------------------------------------

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        ours = {"uids": [job.uid for job in jobs if job.uid and may_be_ours(job.uid)]}

        def insert(session: Session) -> None:
            with self._runner.atomic(session, self._sql, looks=bool(ours["uids"])):
                for job in jobs:
                    self._runner.ask(session, self._sql.restore, values_of.stored(job))
                if ours["uids"] and self._runner.ask(session, self._sql.leased, ours).fetchall():
                    raise UidConflict(f"{self._runner.where}: one of the uids is taken")
                self._runner.ask(session, self._sql.set_meta, {"name": memo, "value": value})
                if jobs:
                    self._runner.ask(session, self._sql.pass_ids)

        try:
            self._runner.run(insert)
        except Cut as cut:
            raise OutcomeUnknown(f"{cut}; importing again is safe.") from cut
        except QueueError as error:
            if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise UidConflict(f"{self._runner.where}: one of the ids or uids is taken") from error
            raise
        self._bell.ring({job.pipeline for job in jobs})

    def recall(self, memo: str) -> str | None:
        rows = self._runner.read(self._sql.get_meta, {"name": memo})
        return str(rows[0][0]) if rows else None

    # -- pulses ------------------------------------------------------------

    def publish(self, pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
        values = values_of.published(pulse, minutes, errors)
        self._runner.twice(lambda session: self._runner.ask(session, self._sql.publish, values))
        if minutes and is_time_to_prune():
            ages = {"minutes": MINUTES_KEPT, "errors": ERRORS_KEPT, "pulses": PULSES_KEPT}
            self._runner.twice(lambda session: self._runner.ask(session, self._sql.prune, ages))

    def pulses(self) -> list[Pulse]:
        rows = self._runner.read(self._sql.pulses, {"us": PULSES_SHOWN * 1_000_000})
        return [pulse_from_text(text, age=max(0.0, age / 1e6)) for age, text in rows]

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:
        values = {"us": round(seconds * 1e6), "pipeline": pipeline}
        return [minute_from_text(*row) for row in self._runner.read(self._sql.minutes, values)]

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:
        values = {"us": round(seconds * 1e6), "pipeline": pipeline}
        return [error_from_row(*row) for row in self._runner.read(self._sql.errors, values)]

    # -- tables and server -------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if self._runner.joins() or (self._runner.borrowed and not self._commits):
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")

        def upgrade(session: Session) -> tuple[int, int]:
            with session.db.transaction():
                session.cursor.execute("SET LOCAL lock_timeout = '60s'")
                session.cursor.execute(self._sql.lock_schema)
                found = self._version_in(session) or 0
                if found > migrate.WANTED:
                    migrate.check(found, self._runner.where)
                for version in range(found + 1, migrate.WANTED + 1):
                    for statement in migrate.statements("postgresql", version, self._prefix):
                        session.cursor.execute(statement.encode())
                    self._runner.ask(session, self._sql.set_schema, {"version": str(version)})
                migrate.check_complete(self._missing_in(session), self._runner.where)
            return found, migrate.WANTED

        return self._runner.twice(upgrade)

    def _schema_version(self) -> int | None:
        return self._runner.twice(self._version_in, reads=True)

    def _version_in(self, session: Session) -> int | None:
        if not self._has(session, f"{self._prefix}_meta"):
            return None
        rows = self._runner.ask(session, self._sql.get_schema).fetchall()
        return int(rows[0][0]) if rows else None

    def _missing_in(self, session: Session) -> list[str]:
        names = [f"{self._prefix}_{table}" for table in migrate.TABLES]
        return [name for name in names if not self._has(session, name)]

    def _has(self, session: Session, table: str) -> bool:
        return bool(self._runner.ask(session, self._sql.has_table, {"table": table}).fetchall()[0][0])

    def info(self) -> BackendInfo:
        level, version, notes = self._runner.twice(durability, reads=True)
        found = self._schema_version()
        if found is not None:
            migrate.check_complete(self._runner.twice(self._missing_in, reads=True), self._runner.where)
            notes += self._runner.twice(lambda session: missing_indexes(session, self._prefix), reads=True)
        if self._runner.pooled and not self._runner.borrowed:
            notes.append(
                "A pooler stands in front of the server: nothing is pushed, workers look by themselves."
            )
        if not self._runner.is_private:
            notes.append(
                "The connection is not verified: add ?sslmode=verify-full&sslrootcert=FILE, "
                "so that nobody can listen or pose."
            )
        return BackendInfo(
            backend=self.name,
            version=version,
            location=self._runner.where,
            durability=level,
            schema_found=found,
            schema_wanted=migrate.WANTED,
            notes=tuple(notes),
            clock_ahead=self._runner.twice(clock, reads=True),
        )

    def close(self) -> None:
        self._waiting.close()
        self._runner.close()


def _oldest(state: JobState) -> bytes:
    """The order of ids.  The few reserved jobs are sorted: the primary key would lead past all others."""
    return b"id + 0" if state is JobState.RESERVED else b"id"
