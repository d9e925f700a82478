"""
The embedded back end: one SQLite file, many processes of one host.

WAL with ``synchronous=FULL``, so that a put is on the disk when it returns.
Leases are counted on the boot time clock, which no clock change moves; a new
boot id ends them all.  Delays and pauses are wall clock: they outlive a boot.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from fleet.errors import (
    BackendBusy,
    BackendUnavailable,
    DsnError,
    PutUnknown,
    QueueError,
    SchemaError,
    UidConflict,
)
from fleet.queue.backend import Capabilities
from fleet.queue.backends.sqlite.files import boot_id, location, refuse_network_file_system
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.backends.sqlite.wake import Nudge, Watch
from fleet.queue.causes import KEPT as ERRORS_KEPT
from fleet.queue.causes import ErrorGroup, error_from_row
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import KEPT as MINUTES_KEPT
from fleet.queue.minutes import Minute, minute_from_text, minute_to_text
from fleet.queue.pulse import (
    PULSES_KEPT,
    PULSES_SHOWN,
    is_time_to_prune,
    pulse_from_text,
    pulse_to_text,
)
from fleet.queue.schema import migrate

_READY, _DELAYED, _RESERVED, _BURIED = range(4)
_STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
_NUMBER = {state: number for number, state in enumerate(_STATES)}
_PEEK_ORDER = {
    JobState.READY: "priority, id",
    JobState.DELAYED: "run_at, id",
    JobState.RESERVED: "deadline, id",
    JobState.BURIED: "id",
}
_BUSY_SECONDS = 5.0
_IN_PASSING_SECONDS = 0.05
# SQLite's own wait sleeps longer each time, up to 0.1 s: beside busy writers, who leave the lock free for
# microseconds, it can miss every gap of five seconds.  Short waits, begun again and again, do not.
_BUSY_SLICE = 0.02
_PROMOTE_CHUNK = 10_000  # due jobs made ready in one transaction: a million at once must not stop everybody
_PUT_CHUNK = 5_000
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_WAL_RESET_FIXED = (3, 51, 3)  # https://sqlite.org/wal.html, "the WAL-reset bug"
_HINTS = {
    sqlite3.SQLITE_FULL: "The disk is full and nothing was stored: free some space.",
    sqlite3.SQLITE_READONLY: "The file or its folder is read-only for this user.",
    sqlite3.SQLITE_CANTOPEN: "Its folder must exist and be writable for this user.",
    sqlite3.SQLITE_CORRUPT: "Stop all workers, then: sqlite3 FILE 'PRAGMA integrity_check'.",
    sqlite3.SQLITE_NOTADB: "It is not a SQLite file: name another one.",
}

T = TypeVar("T")


class Clock:
    """Both clocks, in microseconds.  Tests hand in one that they move by hand."""

    def wall(self) -> int:
        return time.time_ns() // 1000

    def boot(self) -> int:
        return time.clock_gettime_ns(_LEASE_CLOCK) // 1000


class SqliteBackend:
    """`Backend` over one file, or over the caller's own `sqlite3.Connection`."""

    name = "sqlite"
    capabilities = Capabilities(auto_uid=False)

    def __init__(
        self,
        path: str = "",
        *,
        connection: sqlite3.Connection | None = None,
        commits: bool = False,
        prefix: str = "fleet",
        synchronous: str = "full",
        force: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """
        Open *path*, creating the file and its tables when they are missing.

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
        self._synchronous = synchronous
        self._clock = clock or Clock()
        self._sql = Statements(prefix)
        self._borrowed = connection is not None
        self._commits = commits
        self._patience = _BUSY_SECONDS
        self._boot_checked = False
        self._nudge = Nudge("" if connection is not None or path == ":memory:" else path)
        self._watch: Watch | None = None
        self._interrupted = False
        self._waiting = threading.Lock()
        if connection is not None:
            self._db = connection
            if commits and self._schema_version() is None:
                self.migrate()
            migrate.check(self._schema_version(), location(path))
            return
        if path != ":memory:" and not force:
            refuse_network_file_system(path)
        self._db = self._open()
        try:
            if self._schema_version() is None:
                self.migrate()
            migrate.check(self._schema_version(), location(path))
        except BaseException:
            self._db.close()
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
        head = (pipeline, _DELAYED if delay else _READY, priority, round(ttr * 1e6))
        ids: list[int] = []
        if len(payloads) == 1 and not uids and unique is None:
            row = (*head, self._clock.wall() + round(delay * 1e6), None, None, payloads[0])
            cursor = self._write(lambda db: db.execute(self._sql.insert, row), puts=True, alone=True)
            ids = [int(cursor.lastrowid or 0)]
        elif uids or unique is not None:
            checked = partial(self._put_checked, head, delay, unique, payloads, uids or [None])
            ids = self._write(checked, puts=True)
        else:
            for start in range(0, len(payloads), _PUT_CHUNK):
                chunk = partial(self._put_chunk, head, delay, payloads[start : start + _PUT_CHUNK])
                ids += self._write(chunk, puts=True)
        self._nudge()
        return ids

    def _put_checked(
        self,
        head: tuple[Any, ...],
        delay: float,
        unique: str | None,
        payloads: Sequence[bytes],
        uids: Sequence[bytes | None],
        db: sqlite3.Connection,
    ) -> list[int]:
        run_at = self._clock.wall() + round(delay * 1e6)
        ids = []
        for payload, uid in zip(payloads, uids, strict=True):
            stored = db.execute(self._sql.by_uid, (uid,)).fetchone() if uid is not None else None
            if stored and stored[1] != payload:
                raise UidConflict(f"job {stored[0]} has this uid and another payload")
            if not stored and unique is not None:
                stored = db.execute(self._sql.by_unique, (head[0], unique)).fetchone()
            if stored:
                ids.append(int(stored[0]))
            else:
                row = (*head, run_at, unique, uid, payload)
                ids.append(int(db.execute(self._sql.insert, row).lastrowid or 0))
        return ids

    def _put_chunk(
        self, head: tuple[Any, ...], delay: float, payloads: Sequence[bytes], db: sqlite3.Connection
    ) -> list[int]:
        row = (*head, self._clock.wall() + round(delay * 1e6), None, None)
        db.executemany(self._sql.insert, [(*row, payload) for payload in payloads])
        # The write lock is ours, so AUTOINCREMENT handed out consecutive numbers.
        last = int(db.execute("SELECT last_insert_rowid()").fetchone()[0])
        return list(range(last - len(payloads) + 1, last + 1))

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        if limit and not self._boot_checked:
            self._end_leases_of_former_boots()
        verdicts: list[bool] = []
        pending = settlements
        while True:
            settled, jobs, more = self._settle_and_claim(pending, pipelines, limit, token)
            verdicts, pending = verdicts or settled, ()
            if jobs or not more:
                break
        if [s for s in settlements if s.verb == "release"]:
            self._nudge()
        return verdicts, jobs

    def _settle_and_claim(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job], bool]:
        def step(db: sqlite3.Connection) -> tuple[list[bool], list[Job], bool]:
            verdicts = self._settle(db, settlements, one_by_one)
            return verdicts, *self._claim(db, pipelines, limit, token)

        one_by_one = (
            len(settlements) == 1 or self._joins()
        )  # the caller's transaction is not ours to roll back
        # One delete, or a claim from one pipeline, commits as the single statement that writes.
        alone = len(settlements) + (len(pipelines) if limit else 0) == 1
        try:
            return self._write(step, hands_out=limit > 0, alone=alone)
        except _SomeLeaseLost:
            one_by_one = True
            return self._write(step, hands_out=limit > 0)

    def _settle(
        self, db: sqlite3.Connection, settlements: Sequence[Settlement], one_by_one: bool
    ) -> list[bool]:
        deletes = [(s.job.id, s.job.token) for s in settlements if s.verb == "delete"]
        # A whole batch has one row count.  If it does not add up, roll back and ask one by one.
        if deletes and not one_by_one and db.executemany(self._sql.delete, deletes).rowcount != len(deletes):
            raise _SomeLeaseLost
        if len(deletes) == len(settlements) and not one_by_one:
            return [True] * len(deletes)
        verdicts = []
        now = self._clock.wall()
        for s in settlements:
            fence = (s.job.id, s.job.token)
            if s.verb != "delete":
                state = _BURIED if s.verb == "bury" else _DELAYED if s.delay else _READY
                values = (
                    state,
                    now + round(s.delay * 1e6),
                    s.priority,
                    s.reason,
                    0 if s.counted else 1,
                    *fence,
                )
                verdicts.append(db.execute(self._sql.put_back, values).rowcount == 1)
            else:
                verdicts.append(not one_by_one or db.execute(self._sql.delete, fence).rowcount == 1)
        return verdicts

    def _claim(
        self, db: sqlite3.Connection, pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[Job], bool]:
        """The claimed jobs, and whether more jobs are due than one transaction makes ready."""
        jobs: list[Job] = []
        asked_at, reserved = time.monotonic(), JobState.RESERVED
        for pipeline in pipelines:
            if len(jobs) >= limit:
                break
            now, boot = self._clock.wall(), self._clock.boot()
            paused, due = db.execute(self._sql.due, (pipeline, now, boot)).fetchone()
            if paused:
                continue
            if due and self._make_ready(db, pipeline, now, boot):
                return jobs, True
            room = limit - len(jobs)
            statement = self._sql.claim_one if room == 1 else self._sql.claim
            rows = db.execute(statement, (token, boot, pipeline, room)).fetchall()
            rows.sort()  # by priority, then id: RETURNING promises no order
            jobs += [
                Job(  # by position, which takes a quarter less time than by name
                    id_,
                    pipeline,
                    payload,
                    priority,
                    ttr / 1e6,
                    attempts,
                    crashes,
                    reserved,
                    token,
                    asked_at + ttr / 1e6,
                    (now - run_at) / 1e6 if now > run_at else 0.0,
                    0.0,
                    reason,
                    uid or b"",
                    unique,
                )
                for priority, id_, payload, ttr, attempts, crashes, run_at, reason, uid, unique in rows
            ]
        return jobs, False

    def _make_ready(self, db: sqlite3.Connection, pipeline: str, now: int, boot: int) -> bool:
        """Due jobs and lost leases become ready; True when there are more than one transaction takes."""
        due = db.execute(self._sql.promote, (pipeline, now, _PROMOTE_CHUNK)).rowcount
        over = db.execute(self._sql.rescue, (now, pipeline, boot, _PROMOTE_CHUNK)).rowcount
        return due == _PROMOTE_CHUNK or over == _PROMOTE_CHUNK

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
        verdicts = self._write(renew)
        for job, renewed in zip(jobs, verdicts, strict=True):
            if renewed:
                job.expires_at = asked_at + (ttr or job.ttr)
        return verdicts

    # -- waiting -----------------------------------------------------------

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        if self._borrowed or self._path == ":memory:":
            time.sleep(min(timeout, 0.01))  # there is no second connection to watch with
            return
        with self._waiting:
            if self._watch is None:
                self._watch = Watch(self._path, self._open(reader=True))
            if self._interrupted:  # before there was a watch, perhaps
                self._interrupted = False
                return
            self._watch.wait(partial(self._next_due, pipelines), timeout)

    def interrupt(self) -> None:
        self._interrupted = True
        if self._watch is not None:
            self._watch.interrupt()

    def _next_due(self, pipelines: Sequence[str], db: sqlite3.Connection) -> float:
        """Seconds until something is claimable: 0 is now, infinity is "not by waiting alone"."""
        now, boot = self._clock.wall(), self._clock.boot()
        paused = dict(db.execute(self._sql.paused, (now,)).fetchall())
        soonest = [float("inf")]
        for pipeline in pipelines:
            if pipeline in paused:
                soonest.append((paused[pipeline] - now) / 1e6)
                continue
            ready, run_at, deadline = db.execute(self._sql.next_due, {"pipeline": pipeline}).fetchone()
            if ready:
                return 0.0
            if run_at is not None:
                soonest.append((run_at - now) / 1e6)
            if deadline is not None:
                soonest.append((deadline - boot) / 1e6)
        return max(0.0, min(soonest))

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        condition, values = _condition(where)
        statement = self._sql.kick.format(where=condition)
        return self._change(statement, [self._clock.wall(), pipeline, *values, limit])

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        condition, values = _condition(where)
        statement = self._sql.discard.format(where=condition, state=_NUMBER[state])
        return self._write(lambda db: db.execute(statement, [pipeline, *values, limit]).rowcount)

    def release_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, force: bool) -> int:
        condition, values = _condition(where)
        if state is JobState.RESERVED and not force:
            condition, values = condition + " AND deadline <= ?", [*values, self._clock.boot()]
        statement = self._sql.release.format(where=condition, state=_NUMBER[state])
        return self._change(statement, [self._clock.wall(), pipeline, *values, limit])

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:
        condition, values = _condition(where)
        statement = self._sql.bury.format(where=condition, state=_NUMBER[state])
        return self._change(statement, [reason, self._clock.wall(), pipeline, *values, limit])

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:
        condition, values = _condition(where)
        statement = self._sql.move.format(where=condition, state=_NUMBER[state])
        return self._change(statement, [target, pipeline, *values, target, limit])

    def _change(self, statement: str, values: list[Any]) -> int:
        """Change jobs, and wake who waits for them; how many were changed."""
        moved = self._write(lambda db: db.execute(statement, values).rowcount)
        self._nudge()
        return moved

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = _condition(where)
        order = "id" if where.above is not None else _PEEK_ORDER[state]
        statement = self._sql.peek.format(where=condition, state=_NUMBER[state], order=order)
        return [self._job(row) for row in self._read(statement, [pipeline, *values, limit])]

    def find(self, job_id: int) -> Job | None:
        rows = self._read(self._sql.find, [job_id])
        return self._job(rows[0]) if rows else None

    def _job(self, row: tuple[Any, ...]) -> Job:
        id_, pipeline, payload, priority, ttr, attempts, crashes, state, run_at, reason, uid, unique = row
        job = Job(id_, pipeline, payload, priority, ttr / 1e6, attempts, crashes, _STATES[state])
        if state == _DELAYED:
            job.delay = max(0.0, (run_at - self._clock.wall()) / 1e6)
        else:
            job.waited = max(0.0, (self._clock.wall() - run_at) / 1e6)
        job.reason = reason
        job.uid = uid or b""
        job.unique = unique
        return job

    def pause(self, pipeline: str, seconds: float) -> None:
        until = self._clock.wall() + round(seconds * 1e6) if seconds else 0
        self._write(lambda db: db.execute(self._sql.pause, (pipeline, until)))
        self._nudge()

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        now = self._clock.wall()
        values = {"pipeline": pipeline, "cap": cap, "now": now, "boot": self._clock.boot()}
        counts = self._read(self._sql.stats, values)[0]
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
        return [name for (name,) in self._read(self._sql.pipelines, [self._clock.wall()])]

    # -- imports -----------------------------------------------------------

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        now = self._clock.wall()
        rows = [
            (
                job.id,
                job.pipeline,
                _NUMBER[job.state],
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
            for job in jobs
        ]

        def insert(db: sqlite3.Connection) -> None:
            db.executemany(self._sql.restore, rows)
            db.execute(self._sql.set_meta, (memo, value))

        try:
            self._write(insert)
        except QueueError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise UidConflict(f"{location(self._path)}: one of the ids or uids is taken") from error
            raise
        self._nudge()

    def recall(self, memo: str) -> str | None:
        rows = self._read(self._sql.get_meta, [memo])
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

        with self._in_passing():
            self._write(write)

    def pulses(self) -> list[Pulse]:
        now = self._clock.wall()
        rows = self._read(self._sql.pulses, [now - PULSES_SHOWN * 1_000_000])
        return [pulse_from_text(text, age=max(0.0, (now - at) / 1e6)) for at, text in rows]

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:
        since = (self._clock.wall() - round(seconds * 1e6)) // 60_000_000 - 1
        return [minute_from_text(*row) for row in self._read(self._sql.minutes, [since, pipeline])]

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:
        rows = self._read(self._sql.errors, [self._clock.wall(), round(seconds * 1e6), pipeline])
        return [error_from_row(*row) for row in rows]

    # -- the file ----------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if self._joins() or (self._borrowed and not self._commits):
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")

        def upgrade(db: sqlite3.Connection) -> tuple[int, int]:
            found = self._schema_version() or 0
            if found > migrate.WANTED:
                migrate.check(found, location(self._path))
            for version in range(found + 1, migrate.WANTED + 1):
                for statement in migrate.statements("sqlite", version, self._prefix):
                    db.execute(statement)
                db.execute(self._sql.set_meta, ("schema", str(version)))
            return found, migrate.WANTED

        return self._write(upgrade)

    def _schema_version(self) -> int | None:
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        if not self._read(query, [f"{self._prefix}_meta"]):
            return None
        rows = self._read(self._sql.get_meta, ["schema"])
        return int(rows[0][0]) if rows else None

    def _end_leases_of_former_boots(self) -> None:
        # The boot time clock starts again at 0: a deadline of the former boot would last for ever.
        current = boot_id()

        def end(db: sqlite3.Connection) -> None:
            if db.execute(self._sql.get_meta, ("boot",)).fetchone() != (current,):
                db.execute(self._sql.end_leases)
                db.execute(self._sql.set_meta, ("boot", current))

        if self._read(self._sql.get_meta, ["boot"]) != [(current,)]:
            self._write(end)
        self._boot_checked = True

    def info(self) -> BackendInfo:
        journal = str(self._read("PRAGMA journal_mode", [])[0][0])
        synchronous = int(self._read("PRAGMA synchronous", [])[0][0])
        notes = []
        durability = "power" if synchronous >= 2 else "process"
        if journal == "memory":
            durability = "memory"
        elif durability == "process":
            notes.append("synchronous is not FULL: a power cut can take the last jobs that put had accepted.")
        if sqlite3.sqlite_version_info < _WAL_RESET_FIXED and journal == "wal":
            notes.append(
                f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: rare corruption when two processes "
                "write and checkpoint at once; fixed in 3.51.3."
            )
        return BackendInfo(
            backend=self.name,
            version=sqlite3.sqlite_version,
            location=location(self._path),
            durability=durability,
            schema_found=self._schema_version(),
            schema_wanted=migrate.WANTED,
            notes=tuple(notes),
        )

    def close(self) -> None:
        with self._waiting:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self._nudge.close()
        if not self._borrowed:
            self._db.close()

    def _open(self, *, reader: bool = False) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(
                self._path,
                timeout=_BUSY_SECONDS if reader else _BUSY_SLICE,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._translate(error) from error
        try:
            # Another process may be making the tables, or switching the file to WAL, for the first time.
            self._patiently(partial(self._configure, db, reader))
        except sqlite3.Error as error:
            db.close()
            raise self._translate(error) from error
        return db

    # -- transactions ------------------------------------------------------

    def _configure(self, db: sqlite3.Connection, reader: bool) -> None:
        # In a file, every multi-row UPDATE would open its statement journal as a temporary file.
        db.execute("PRAGMA temp_store = memory")
        db.execute("PRAGMA cache_size = -8192")
        if reader:
            db.execute("PRAGMA query_only = on")
        else:
            db.execute("PRAGMA journal_mode = wal")
            db.execute(f"PRAGMA synchronous = {self._synchronous}")

    @contextmanager
    def _in_passing(self) -> Iterator[sqlite3.Connection]:
        """
        For a write that nobody would miss: it waits neither for other writers nor for the disk.

        Claims wait behind it, for this connection is theirs.
        """
        db = self._db
        if self._borrowed:  # its settings are the caller's
            yield db
            return
        self._patience = _IN_PASSING_SECONDS
        db.execute("PRAGMA synchronous = normal")
        try:
            yield db
        finally:
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._patience = _BUSY_SECONDS

    def _joins(self) -> bool:
        """Whether the next statement lands in a transaction that is the caller's to commit."""
        if not self._borrowed:
            return False
        opens_by_itself = self._db.isolation_level is not None and getattr(self._db, "autocommit", -1) == -1
        return self._db.in_transaction or (opens_by_itself and not self._commits)

    def _write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        puts: bool = False,
        hands_out: bool = False,
        alone: bool = False,
    ) -> T:
        """
        Run *work* in one transaction that is committed when this returns, or in the caller's.

        *alone* says that it is one statement, which is a transaction by itself.
        """
        db = self._db
        try:
            if self._joins():
                if hands_out:
                    raise ValueError(
                        "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                        "fleet.connect(dsn), or a connection with isolation_level=None that is not in one."
                    )
                return work(db)
            if alone and db.isolation_level is None:
                return self._patiently(partial(work, db))
            self._patiently(partial(db.execute, "BEGIN IMMEDIATE"))
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                _roll_back(db)
                raise
            return result
        except sqlite3.Error as error:
            if puts and _primary_code(error) == sqlite3.SQLITE_IOERR:
                # The commit record may have reached the disk or not; only reading the file again could tell.
                raise PutUnknown(f"{location(self._path)}: {error} during a put; it may be stored") from error
            raise self._translate(error) from error

    def _read(self, statement: str, values: Sequence[Any] | dict[str, Any]) -> list[Any]:
        try:
            return self._patiently(lambda: self._db.execute(statement, values).fetchall())
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try again for a while what could not begin because another connection holds the lock."""
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if self._borrowed or not _is_busy(error) or time.monotonic() >= give_up:
                    raise
                time.sleep(0.001)  # some locks are refused at once, without the busy time-out

    def _translate(self, error: sqlite3.Error) -> QueueError:
        where = location(self._path)
        if _is_busy(error):
            return BackendBusy(f"{where}: another connection held the write lock for {_BUSY_SECONDS:.0f} s")
        code = _primary_code(error)
        text = f"{where}: {error}. {_HINTS.get(code, '')}".rstrip()
        return (
            BackendUnavailable(text)
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            else QueueError(text)
        )


class _SomeLeaseLost(Exception):
    """A batch of deletes hit fewer rows than jobs: it is rolled back and asked one by one."""


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _condition(where: Filter) -> tuple[str, list[Any]]:
    """A Filter as SQL.  GLOB, because SQLite's LIKE ignores case and other servers' does not."""
    condition, values = "", list[Any]()
    if where.ids is not None:
        condition += f" AND id IN ({','.join('?' * len(where.ids))})"
        values += where.ids
    if where.above is not None:
        condition += " AND id > ?"
        values.append(where.above)
    if where.reason:
        condition += " AND reason GLOB ?"
        escaped = "".join(f"[{c}]" if c in "*?[" else c for c in where.reason)
        values.append(escaped.replace("%", "*").replace("_", "?"))
    return condition, values
