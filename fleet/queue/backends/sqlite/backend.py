"""
The embedded back end: one SQLite file, many processes of one host.

WAL with ``synchronous=FULL``, so that a put is on the disk when it returns.
Leases are counted on the boot time clock, which no clock change moves; a new
boot id ends them all.  Delays and pauses are wall clock: they outlive a boot.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from fleet.errors import (
    BackendUnavailable,
    DsnError,
    OutcomeUnknown,
    QueueError,
    SchemaError,
    UidConflict,
)
from fleet.queue.backend import EVERYTHING, Capabilities
from fleet.queue.backends.sqlite import rows as values_of
from fleet.queue.backends.sqlite.claim import Claims
from fleet.queue.backends.sqlite.clock import Clock
from fleet.queue.backends.sqlite.connection import Link
from fleet.queue.backends.sqlite.files import boot_id, is_missing, location, refuse_network_file_system
from fleet.queue.backends.sqlite.puts import Puts
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.backends.sqlite.waiting import Waiting
from fleet.queue.backends.sqlite.wake import Nudge
from fleet.queue.causes import KEPT as ERRORS_KEPT
from fleet.queue.causes import ErrorGroup, error_from_row
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import KEPT as MINUTES_KEPT
from fleet.queue.minutes import Minute, minute_from_text, minute_to_text
from fleet.queue.pulse import PULSES_KEPT, PULSES_SHOWN, is_time_to_prune, pulse_from_text, pulse_to_text
from fleet.queue.schema import migrate

# Jobs that an operator changes in one transaction, for a million would stop everybody for seconds;
# and seconds that the lock is then left to others, who ask for it every 10 ms.
_CHANGE_CHUNK, _CHANGE_PAUSE = 5_000, 0.012
_GREATEST_ID = 2**63 - 1
_WAL_RESET_FIXED = (3, 51, 3)  # https://sqlite.org/wal.html, "the WAL-reset bug"


class SqliteBackend:
    """`Backend` over one file, or over the caller's own `sqlite3.Connection`."""

    name = "sqlite"
    capabilities = Capabilities()

    def __init__(
        self,
        path: str = "",
        *,
        connection: sqlite3.Connection | None = None,
        commits: bool = False,
        prefix: str = "fleet",
        synchronous: str = "full",
        force: bool = False,
        create: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """
        Open *path*; with *create* the file and its tables are made when they are missing.

        With *connection* nothing is created or closed, and verbs join the
        caller's transaction.  *commits* says that outside of an open one each
        verb is a transaction of its own, whatever the connection's own mode,
        and that missing tables may be made.

        Raises:
            DsnError, QueueError, SchemaError: the file cannot be used.
        """
        if synchronous not in ("full", "normal", "extra"):
            raise DsnError(f"DSN: synchronous={synchronous[:20]!r}: expected full, normal or extra")
        self._path = path
        self._prefix = prefix
        self._clock = clock or Clock()
        self._sql = Statements(prefix)
        self._boot_checked = False
        self._nudge = Nudge("" if connection is not None or path == ":memory:" else path)
        if connection is None and path != ":memory:" and not force:
            refuse_network_file_system(path)
        if not create and is_missing(path):
            migrate.check(None, location(path))
        self._link = Link(path, connection, commits=commits, synchronous=synchronous, create=create)
        self._puts = Puts(self._link, self._sql, self._clock)
        self._claims = Claims(self._link, self._sql, self._clock)
        self._waiting = Waiting(path, self._link, self._sql, self._clock)
        try:
            found = self._schema_version()
            if found is None and create and (commits or not self._link.borrowed):
                found = self.migrate()[1]
            if found is not None or create:
                migrate.check(found, location(path))
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
        head = (pipeline, values_of.DELAYED if delay else values_of.READY, priority, round(ttr * 1e6))
        ids = self._puts.put(head, round(delay * 1e6), payloads, uids, unique)
        self._nudge()
        return ids

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        if limit and not self._boot_checked:
            self._end_leases_of_former_boots()
        verdicts, jobs = self._claims.exchange(settlements, pipelines, limit, token)
        if settlements and [s for s in settlements if s.verb == "release"]:
            self._nudge()
        return verdicts, jobs

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        def renew(db: sqlite3.Connection) -> list[bool]:
            boot = self._clock.boot()
            return [
                db.execute(
                    self._sql.touch, (boot + round((ttr or job.ttr) * 1e6), job.id, job.token)
                ).rowcount
                == 1
                for job in jobs
            ]

        asked_at = time.monotonic()
        verdicts = self._link.write(renew)
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
        values = [self._clock.wall(), pipeline]
        return self._change(self._sql.kick, JobState.BURIED, values, limit, where)

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        return self._change(self._sql.discard, state, [pipeline], limit, where)

    def release_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, force: bool) -> int:
        statement, values = self._sql.release, [self._clock.wall(), pipeline]
        if state is JobState.RESERVED and not force:
            statement = statement.replace("{where}", " AND deadline <= ?{where}")
            values.append(self._clock.boot())
        return self._change(statement, state, values, limit, where)

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:
        values = [reason, self._clock.wall(), pipeline]
        return self._change(self._sql.bury, state, values, limit, where)

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:
        return self._change(self._sql.move, state, [target, pipeline], limit, where, target)

    def _change(
        self, statement: str, state: JobState, values: list[Any], limit: int, where: Filter, *more: str
    ) -> int:
        """Change jobs, chunk by chunk, and wake who waits for them; how many were changed."""
        condition, chosen = values_of.condition(where)
        # Oldest first, which is no matter when all are meant: then without a sort for each chunk.
        all_are_meant = limit >= EVERYTHING and where.ids is None
        order = values_of.PEEK_ORDER[state] if all_are_meant else "id"
        deletes = statement is self._sql.discard
        statement = statement.format(where=condition, state=values_of.NUMBER[state], order=order)
        moved = 0

        def change(size: int, db: sqlite3.Connection) -> int:
            if deletes:
                db.execute(self._sql.keep_last, (_GREATEST_ID,))
            return db.execute(statement, [*values, *chosen, *more, size]).rowcount

        try:
            while True:
                left = limit - moved
                size = left if self._link.joins() else min(left, _CHANGE_CHUNK)
                changed = self._link.write(partial(change, size))
                moved += changed
                if changed < size or moved == limit:
                    break
                time.sleep(_CHANGE_PAUSE)
        except BackendUnavailable as error:
            if not moved:
                raise
            raise OutcomeUnknown(
                f"{error}; {moved:,} jobs were changed, do it again for the others"
            ) from error
        self._nudge()
        return moved

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = values_of.condition(where)
        order = "id" if where.above is not None else values_of.PEEK_ORDER[state]
        # By the ids alone, or on from one: the index of ready jobs would be read, and sorted, for each page.
        by_id = where.ids is not None or (where.above is not None and state is JobState.READY)
        statement = self._sql.peek.format(
            indexed="NOT INDEXED" if by_id else "",
            where=condition,
            state=values_of.NUMBER[state],
            order=order,
        )
        rows = self._link.read(statement, [pipeline, *values, limit])
        now = self._clock.wall()
        return [values_of.seen(row, now) for row in rows]

    def find(self, job_id: int) -> Job | None:
        rows = self._link.read(self._sql.find, [job_id])
        return values_of.seen(rows[0], self._clock.wall()) if rows else None

    def pause(self, pipeline: str, seconds: float) -> None:
        until = self._clock.wall() + round(seconds * 1e6) if seconds else 0
        self._link.write(lambda db: db.execute(self._sql.pause, (pipeline, until)))
        self._nudge()

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        now = self._clock.wall()
        values = {"pipeline": pipeline, "cap": cap, "now": now, "boot": self._clock.boot()}
        counts = self._link.read(self._sql.stats, values)[0]
        ready, due, delayed, reserved, stale, buried, paused_until, oldest = counts
        ready = min(cap, ready + due)  # a due job is ready, though nobody has moved it yet
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

    def pipelines(self) -> list[str]:
        return [name for (name,) in self._link.read(self._sql.pipelines, [self._clock.wall()])]

    # -- imports -----------------------------------------------------------

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        now = self._clock.wall()
        rows = [values_of.stored(job, now) for job in jobs]

        def insert(db: sqlite3.Connection) -> None:
            db.executemany(self._sql.restore, rows)
            db.execute(self._sql.set_meta, (memo, value))

        try:
            self._link.write(insert)
        except QueueError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise UidConflict(f"{location(self._path)}: one of the ids or uids is taken") from error
            raise
        self._nudge()

    def recall(self, memo: str) -> str | None:
        rows = self._link.read(self._sql.get_meta, [memo])
        return str(rows[0][0]) if rows else None

    # -- pulses ------------------------------------------------------------

    def publish(self, pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
        now = self._clock.wall()
        rows = [(row.minute, row.pipeline, row.process, minute_to_text(row)) for row in minutes]
        groups = [(e.pipeline, e.kind, e.cause, e.place, e.count, now, e.job, e.sample) for e in errors]

        def write(db: sqlite3.Connection) -> None:
            db.execute(self._sql.publish, (pulse.host, pulse.process, now, pulse_to_text(pulse)))
            db.executemany(self._sql.put_minute, rows)
            db.executemany(self._sql.put_error, groups)
            if minutes and is_time_to_prune():
                db.execute(self._sql.prune_minutes, (now // 60_000_000 - MINUTES_KEPT // 60,))
                db.execute(self._sql.prune_errors, (now - ERRORS_KEPT * 1_000_000,))
                db.execute(self._sql.prune_pulses, (now - PULSES_KEPT * 1_000_000,))

        with self._link.in_passing():
            self._link.write(write)

    def pulses(self) -> list[Pulse]:
        now = self._clock.wall()
        rows = self._link.read(self._sql.pulses, [now - PULSES_SHOWN * 1_000_000])
        return [pulse_from_text(text, age=max(0.0, (now - at) / 1e6)) for at, text in rows]

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:
        since = (self._clock.wall() - round(seconds * 1e6)) // 60_000_000 - 1
        return [minute_from_text(*row) for row in self._link.read(self._sql.minutes, [since, pipeline])]

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:
        rows = self._link.read(self._sql.errors, [self._clock.wall(), round(seconds * 1e6), pipeline])
        return [error_from_row(*row) for row in rows]

    # -- the file ----------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if self._link.joins() or (self._link.borrowed and not self._link.commits):
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")

        def upgrade(db: sqlite3.Connection) -> tuple[int, int]:
            found = self._schema_version() or 0
            if found > migrate.WANTED:
                migrate.check(found, location(self._path))
            for version in range(found + 1, migrate.WANTED + 1):
                for statement in migrate.statements("sqlite", version, self._prefix):
                    try:
                        db.execute(statement)
                    except sqlite3.OperationalError as error:
                        if "already exists" not in str(error):
                            raise
                        raise SchemaError(
                            f"{location(self._path)}: {error}, and is not fleet's: choose another ?prefix="
                        ) from error
                db.execute(self._sql.set_meta, ("schema", str(version)))
            migrate.check_complete(self._missing_tables(), location(self._path))
            return found, migrate.WANTED

        return self._link.write(upgrade)

    def _missing_tables(self) -> list[str]:
        there = {
            name for (name,) in self._link.read("SELECT name FROM sqlite_master WHERE type = 'table'", [])
        }
        return [
            name for table in (*migrate.TABLES, "ids") if (name := f"{self._prefix}_{table}") not in there
        ]

    def _schema_version(self) -> int | None:
        if f"{self._prefix}_meta" in self._missing_tables():
            return None
        rows = self._link.read(self._sql.get_meta, ["schema"])
        return int(rows[0][0]) if rows else None

    def _end_leases_of_former_boots(self) -> None:
        # The boot time clock starts again at 0: a deadline of the former boot would last for ever.
        current = boot_id()

        def end(db: sqlite3.Connection) -> None:
            if db.execute(self._sql.get_meta, ("boot",)).fetchone() != (current,):
                db.execute(self._sql.end_leases)
                db.execute(self._sql.set_meta, ("boot", current))

        if self._link.read(self._sql.get_meta, ["boot"]) != [(current,)]:
            self._link.write(end)
        self._boot_checked = True

    def info(self) -> BackendInfo:
        journal = str(self._link.read("PRAGMA journal_mode", [])[0][0])
        synchronous = int(self._link.read("PRAGMA synchronous", [])[0][0])
        notes = []
        durability = "power" if synchronous >= 2 else "process"
        if journal == "memory":
            durability = "memory"
        elif durability == "process":
            notes.append(
                "synchronous is not FULL: a power cut can take the last jobs that put had accepted.\n"
                "leave synchronous out of queue.dsn"
            )
        if sqlite3.sqlite_version_info < _WAL_RESET_FIXED and journal == "wal":
            notes.append(
                f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: rare corruption when two processes "
                "write and checkpoint at once; fixed in 3.51.3.\n"
                "sudo apt-get install --only-upgrade libsqlite3-0   # or a Python with SQLite 3.51.3"
            )
        found = self._schema_version()
        if found is not None:
            migrate.check_complete(self._missing_tables(), location(self._path))
            there = self._link.read("SELECT name FROM sqlite_master WHERE type = 'index'", [])
            notes += migrate.missing_indexes("sqlite", self._prefix, (str(row[0]) for row in there))
        return BackendInfo(
            backend=self.name,
            version=sqlite3.sqlite_version,
            location=location(self._path),
            durability=durability,
            schema_found=found,
            schema_wanted=migrate.WANTED,
            notes=tuple(notes),
        )

    def close(self) -> None:
        self._waiting.close()
        self._nudge.close()
        self._link.close()
