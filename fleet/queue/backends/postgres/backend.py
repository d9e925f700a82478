"""
The PostgreSQL back end.

Every statement is a transaction of its own, and says `clock_timestamp()` for
every instant.  Nothing is kept in the session but what a pooler in transaction
mode allows: no advisory lock beyond a transaction, and LISTEN only on a
connection of its own that leads straight to the server.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus

from fleet.errors import (
    BackendBusy,
    BackendUnavailable,
    OutcomeUnknown,
    PutUnknown,
    QueueError,
    SchemaError,
    UidConflict,
)
from fleet.queue.backend import Capabilities
from fleet.queue.backends.postgres import bulk
from fleet.queue.backends.postgres.facts import durability, privileges
from fleet.queue.backends.postgres.session import Cut, Door, Session, translate
from fleet.queue.backends.postgres.statements import Settles, Statements
from fleet.queue.backends.postgres.wake import DEBOUNCE, Listener
from fleet.queue.backends.postgres.watermark import Watermark
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.pulse import pulse_from_text, pulse_to_text
from fleet.queue.schema import migrate

_READY, _DELAYED, _RESERVED, _BURIED = range(4)
_STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
_NUMBER = {state: number for number, state in enumerate(_STATES)}
_PEEK_ORDER = {
    JobState.READY: b"priority, id",
    JobState.DELAYED: b"run_at, id",
    JobState.RESERVED: b"deadline, id",
    JobState.BURIED: b"id",
}
_COPY_FROM = 40  # payloads; below that one INSERT is faster than the five steps of a COPY
_COPY_ROWS, _COPY_BYTES = 10_000, 16 * 1024 * 1024
_READY_CHUNK = 10_000  # due jobs made ready in one transaction: a million at once must not stop everybody
_READY_SECONDS = 2.0  # and after that long the claim takes what is there
_RETRIES = 6
_LOOK_SECONDS = 4.0  # between two looks behind the push
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0  # without a push: growing gaps
_PULSES_KEPT = 3600  # seconds
_BIGINT = 2**63

T = TypeVar("T")


class _Look:
    """What the last claim that found nothing knows: when the next one is due."""

    __slots__ = ("at", "gap", "mark", "soon_at")

    def __init__(self, at: float, soon_at: float, mark: int, gap: float) -> None:
        self.at = at
        self.soon_at = soon_at  # when a delay, a lease or a pause ends
        self.mark = mark  # of the listener, taken before the claim
        self.gap = gap  # seconds until the next look when nothing is pushed


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
    ) -> None:
        """
        Connect through *door*, and make the tables when they are missing.

        With *connection* nothing is created or closed, and verbs join the
        caller's transaction.  *commits* says that outside of an open one each
        verb is a transaction of its own, whatever the connection's own mode,
        and that missing tables may be made.  Without *push* nothing is
        notified or listened for.

        Raises:
            BackendUnavailable, SchemaError: the server or its tables cannot be used.
        """
        self._door = door
        self._where = door.where if door else "the caller's PostgreSQL connection"
        self._borrowed = connection is not None
        self._commits = commits
        self._prefix = prefix
        self._push = push
        self._sql = Statements(prefix)
        self._channel = f"{prefix}_ready"
        self._notified: dict[str, float] = {}
        self._watermarks: dict[tuple[str, ...], Watermark] = {}
        self._looks: dict[tuple[str, ...], _Look] = {}
        self._listener: Listener | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._session: Session | None = None
        if connection is not None:
            # The caller may change any setting at any time, so the worst is assumed.
            self._session = Session(connection, pooled=True, relaxed=True)
        elif door is not None:
            self._session = door.open()
        try:
            if self._schema_version() is None and (not self._borrowed or commits):
                self.migrate()
            migrate.check(self._schema_version(), self._where)
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
        uids = uids or [os.urandom(16) for _ in payloads]
        values = {
            "pipeline": pipeline,
            "state": _DELAYED if delay else _READY,
            "priority": priority,
            "ttr": round(ttr * 1e6),
            "delay": round(delay * 1e6),
            "unique": unique,
            "channel": self._channel,
        }
        try:
            if len(payloads) == 1:
                return [self._put_one(values, uids[0], payloads[0], delay)]
            ids: list[int] = []
            for start, end in _chunks(payloads):
                put = self._copy if end - start >= _COPY_FROM else self._insert
                ids += self._run(partial(put, values, uids[start:end], payloads[start:end]))
        except Cut as cut:
            raise PutUnknown(f"{cut}; the job may be stored. Put it again with its uid.", uids) from cut
        self._notify([pipeline], delay)
        return ids

    def _put_one(self, values: dict[str, Any], uid: bytes, payload: bytes, delay: float) -> int:
        pipeline = values["pipeline"]
        values = {**values, "uid": uid, "payload": payload}
        now = time.monotonic()
        notify = self._notifies(delay) and (
            self._joins() or now - self._notified.get(pipeline, 0.0) >= DEBOUNCE / 2
        )

        def put(session: Session) -> int:
            for _ in range(_RETRIES):
                row = self._ask(session, self._sql.put[notify, session.relaxed], values).fetchone()
                row = row or self._stored(session, values)
                if row is not None:
                    return int(row[0])
            raise BackendBusy(f"{self._where}: jobs of the same uid or unique key come and go: try again")

        id_ = self._run(put)
        if notify:
            self._notified[pipeline] = now
        elif time.monotonic() - self._notified.get(pipeline, 0.0) > DEBOUNCE:
            # One had just been sent, so it was left out; but the commit took until nobody looks any more.
            self._notify([pipeline], delay)
        return id_

    def _stored(self, session: Session, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """The id of the job that keeps another one out; None when it is gone by now."""
        ids = self._known(session, {values["uid"]: values["payload"]})
        if ids:
            return (ids[values["uid"]],)
        if values["unique"] is None:
            return None
        return self._ask(session, self._sql.by_unique, values).fetchone()

    def _known(self, session: Session, payloads: dict[bytes, bytes]) -> dict[bytes, int]:
        """The ids of stored uids; raises UidConflict where the stored payload is another one."""
        ids = {}
        for uid, id_, payload in self._ask(session, self._sql.by_uid, {"uids": list(payloads)}):
            if payload != payloads[uid]:
                raise UidConflict(f"job {id_} has this uid and another payload")
            ids[uid] = id_
        return ids

    def _copy(
        self, values: dict[str, Any], uids: Sequence[bytes], payloads: Sequence[bytes], session: Session
    ) -> list[int]:
        ids, now = self._ask(session, self._sql.next_ids, {"count": len(uids)}).fetchall()[0]
        head = (values["pipeline"], values["state"], values["priority"], values["ttr"], now + values["delay"])
        try:
            with session.db.transaction():
                if session.relaxed:
                    session.cursor.execute(self._sql.durable)
                with session.cursor.copy(self._sql.copy) as copy:
                    for piece in bulk.rows(*head, ids, uids, payloads):
                        copy.write(piece)
        except pg.UniqueViolation:  # some uid is stored already, so this is the repetition of a put
            return self._insert(values, uids, payloads, session)
        return list(ids)

    def _insert(
        self, values: dict[str, Any], uids: Sequence[bytes], payloads: Sequence[bytes], session: Session
    ) -> list[int]:
        wanted = dict(zip(uids, payloads, strict=True))
        if any(wanted[uid] != payload for uid, payload in zip(uids, payloads, strict=True)):
            raise UidConflict("the same uid was given twice, with two payloads")
        with session.db.transaction():
            if session.relaxed:
                session.cursor.execute(self._sql.durable)
            ids: dict[bytes, int] = {}
            for _ in range(_RETRIES):
                missing = {uid: payload for uid, payload in wanted.items() if uid not in ids}
                if not missing:
                    return [ids[uid] for uid in uids]
                rows = {**values, "uids": list(missing), "payloads": list(missing.values())}
                ids.update(self._ask(session, self._sql.put_rows, rows).fetchall())
                missing = {uid: payload for uid, payload in missing.items() if uid not in ids}
                if missing:
                    ids.update(self._known(session, missing))
        raise BackendBusy(f"{self._where}: jobs of the same uids come and go: try again")

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        names = tuple(pipelines)
        if limit and self._joins():
            raise ValueError(
                "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                "fleet.connect(dsn), or a connection in autocommit mode that is not in a transaction."
            )
        try:
            if limit:
                verdicts, jobs = self._settle_and_claim(settlements, names, limit, token)
            else:
                verdicts, jobs = self._run(partial(self._settle, settlements)), []
        except Cut as cut:
            verdicts, jobs = self._find_out(settlements, names, limit, token, cut)
        released = [s for s in settlements if s.verb == "release"]
        if released:
            self._notify({s.job.pipeline for s in released}, min(s.delay for s in released))
        return verdicts, jobs

    def _settle(self, settlements: Sequence[Settlement], session: Session) -> list[bool]:
        if not settlements:
            return []
        if len(settlements) == 1 and settlements[0].verb == "delete":
            job = settlements[0].job
            return [self._ask(session, self._sql.delete, {"id": job.id, "token": job.token}).rowcount == 1]
        settles, values = _settle_values(settlements)
        return _verdicts(settlements, self._ask(session, self._sql.settle[settles], values).fetchall())

    def _settle_and_claim(
        self, settlements: Sequence[Settlement], names: tuple[str, ...], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        watermark = self._watermarks.get(names) or _remember(self._watermarks, names, Watermark())
        mark = self._listener.mark(names) if self._listener else 0
        looks = names in self._looks  # nothing was there the last time
        verdicts: list[bool] = []
        gated = True
        while True:
            marked = watermark if watermark.is_set() and not looks else None
            claim = partial(self._claim, settlements, names, limit, token, gated, marked, looks)
            settled, jobs, (due, now, took, soon) = self._run(claim)
            verdicts, settlements = verdicts or settled, ()
            if due:
                self._make_ready(names)
                gated = False
                continue
            watermark.learn(jobs, limit, took, now, from_start=marked is None)
            if jobs:
                self._looks.pop(names, None)
                return verdicts, jobs
            if looks:
                self._remember_look(names, soon, mark)
                return verdicts, jobs
            looks = True  # once more, from the start, and with the question when something is due

    def _claim(
        self,
        settlements: Sequence[Settlement],
        names: tuple[str, ...],
        limit: int,
        token: int,
        gated: bool,
        watermark: Watermark | None,
        looks: bool,
        session: Session,
    ) -> tuple[list[bool], list[Job], tuple[bool, int, int, int | None]]:
        """Verdicts, jobs, and from the last row: due, now, took, soon."""
        if settlements and (looks or any(s.verb == "release" and not s.delay for s in settlements)):
            # What is released at once may be claimed by this very call, and a statement does not see itself.
            with session.db.transaction():
                verdicts = self._settle(settlements, session)
                return verdicts, *self._claim((), names, limit, token, gated, watermark, looks, session)[1:]
        values: dict[str, Any] = {"limit": limit, "token": token, "gated": gated}
        many = len(names) > 1
        if many:
            values["pipelines"] = list(names)
        else:
            values["pipeline"] = names[0]
        if watermark is not None:
            values |= watermark.values(names)
        settles: Settles = ""
        if settlements:
            settles, more = _settle_values(settlements)
            values |= more
        marked = watermark is not None
        statement = self._sql.look[many] if looks else self._sql.exchange[settles, many, marked]
        asked_at = time.monotonic()
        rows = self._ask(session, statement, values).fetchall()
        *_, settled, which, due, now, took, soon = rows.pop()
        verdicts = [True] * len(settlements)
        if settled < len(settlements):
            verdicts = _verdicts(settlements, which or ())
        return verdicts, _reserved(rows, token, asked_at, names), (due, now, took, soon)

    def _make_ready(self, names: tuple[str, ...]) -> None:
        """Everything that is due becomes ready, in chunks, so that one index gives the order."""
        values = {"pipelines": list(names), "chunk": _READY_CHUNK}
        give_up = time.monotonic() + _READY_SECONDS
        while time.monotonic() < give_up:
            counts = self._run(lambda session: self._ask(session, self._sql.make_ready, values).fetchall())[0]
            if max(counts) < _READY_CHUNK:
                return

    def _find_out(
        self,
        settlements: Sequence[Settlement],
        names: tuple[str, ...],
        limit: int,
        token: int,
        cut: Cut,
    ) -> tuple[list[bool], list[Job]]:
        """
        Carry on after the answer was lost, for the truth is not.

        The token finds the jobs that were claimed.  A job that still carries
        the token of its settlement was not settled yet; one that is gone was.
        """
        what = {"pipelines": list(names), "token": token}
        try:
            asked_at = time.monotonic()
            rows = self._read(self._sql.found, what) if limit else []
            jobs = _reserved(rows, token, asked_at, names)
            for job, row in zip(jobs, rows, strict=True):
                job.expires_at = asked_at + row[-1] / 1e6
            ids = _numbers(s.job.id for s in settlements)
            holders = dict(self._read(self._sql.holders, {"ids": ids})) if settlements else {}
            open_ = [s for s in settlements if holders.get(s.job.id, 0) == s.job.token]
            if jobs or not limit:
                settled = self._run(partial(self._settle, open_))
                more: list[Job] = []
            else:
                settled, more = self._settle_and_claim(open_, names, limit, token)
        except (Cut, BackendUnavailable) as error:
            if settlements:
                raise OutcomeUnknown(f"{cut}; jobs may be settled. Settling them again is safe.") from error
            raise BackendUnavailable(str(cut)) from error
        again = dict(zip(map(id, open_), settled, strict=True))
        verdicts = [
            again[id(s)]
            if id(s) in again
            else s.job.id not in holders or (s.verb != "delete" and holders[s.job.id] == 0)
            for s in settlements
        ]
        return verdicts, jobs + more

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        ordered = sorted(jobs, key=lambda job: job.id)
        values = {
            "ids": _numbers(job.id for job in ordered),
            "tokens": _numbers(job.token for job in ordered),
            "ttrs": _numbers(round((ttr or job.ttr) * 1e6) for job in ordered),
        }
        asked_at = time.monotonic()
        renewed = set(self._twice(lambda session: self._ask(session, self._sql.touch, values).fetchall()))
        verdicts = [(job.id, job.token) in renewed for job in jobs]
        for job, held in zip(jobs, verdicts, strict=True):
            if held:
                job.expires_at = asked_at + (ttr or job.ttr)
        return verdicts

    # -- waiting -----------------------------------------------------------

    def wait(self, pipelines: Sequence[str], timeout: float) -> bool | None:
        names = tuple(pipelines)
        look = self._looks.get(names)
        if look is None:
            return None
        now = time.monotonic()
        listener = self._listen()
        next_look = look.at + look.gap
        if listener and listener.alive:
            next_look = look.at + _LOOK_SECONDS * random.uniform(0.85, 1.0)  # noqa: S311 - spreads a crowd
            heard_at = listener.heard_at(names)
            if look.at < heard_at + DEBOUNCE:
                next_look = heard_at + DEBOUNCE
        next_look = min(next_look, look.soon_at)
        left = max(0.0, min(timeout, next_look - now))
        if listener is None:
            time.sleep(left)
        elif listener.wait(names, look.mark, left):
            return True
        return time.monotonic() >= next_look

    def _remember_look(self, names: tuple[str, ...], soon: int | None, mark: int) -> None:
        now = time.monotonic()
        former = self._looks.get(names)
        gap = _FIRST_LOOK if former is None else min(_LAST_LOOK, former.gap * 1.5)
        soon_at = float("inf") if soon is None else now + soon / 1e6
        _remember(self._looks, names, _Look(now, soon_at, mark, gap))

    def _listen(self) -> Listener | None:
        """The listener, started by the first wait; None where nothing can be pushed."""
        if self._door is None or not self._push or (self._session is not None and self._session.pooled):
            return None
        with self._starting:
            if self._listener is None and not self._closed:
                self._listener = Listener(self._door.connect, self._channel)
            return self._listener

    def _notifies(self, delay: float) -> bool:
        return self._push and delay < _LOOK_SECONDS  # a later one is seen by the next look

    def _notify(self, pipelines: Iterable[str], delay: float = 0.0) -> None:
        if not self._notifies(delay):
            return
        names = sorted(pipelines)
        now = time.monotonic()
        try:
            values = {"channel": self._channel, "pipelines": names}
            self._run(lambda session: self._ask(session, self._sql.notify, values))
        except (Cut, QueueError):
            if self._joins():
                raise
            return  # what it tells of has happened, and is found by the next look
        self._notified.update(dict.fromkeys(names, now))

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        moved = self._change(self._sql.kick, pipeline, limit, where)
        if moved:
            self._notify([pipeline])
        return moved

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        statement = self._sql.discard.replace(b"{state}", b"%d" % _NUMBER[state])
        return self._change(statement, pipeline, limit, where)

    def _change(self, statement: bytes, pipeline: str, limit: int, where: Filter) -> int:
        condition, values = _condition(where)
        statement = statement.replace(b"{where}", condition)
        values |= {"pipeline": pipeline, "limit": limit}
        try:
            return self._run(lambda session: self._ask(session, statement, values).rowcount)
        except Cut as cut:
            raise OutcomeUnknown(f"{cut}; jobs may have been changed. Doing it again is safe.") from cut

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = _condition(where)
        statement = self._sql.peek.replace(b"{state}", b"%d" % _NUMBER[state])
        statement = statement.replace(b"{where}", condition).replace(b"{order}", _PEEK_ORDER[state])
        return [_seen(row) for row in self._read(statement, values | {"pipeline": pipeline, "limit": limit})]

    def find(self, job_id: int) -> Job | None:
        rows = self._read(self._sql.find, {"id": job_id}) if 0 < job_id < _BIGINT else []
        return _seen(rows[0]) if rows else None

    def pause(self, pipeline: str, seconds: float) -> None:
        values = {"pipeline": pipeline, "us": round(seconds * 1e6)}
        self._twice(lambda session: self._ask(session, self._sql.pause, values))
        self._notify([pipeline])

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        counts = self._read(self._sql.stats, {"pipeline": pipeline, "cap": cap})[0]
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
        return [name for (name,) in self._read(self._sql.names)]

    def publish(self, pulse: Pulse) -> None:
        values = {"host": pulse.host, "process": pulse.process, "body": pulse_to_text(pulse)}
        self._twice(lambda session: self._ask(session, self._sql.publish, values))

    def pulses(self) -> list[Pulse]:
        rows = self._read(self._sql.pulses, {"us": _PULSES_KEPT * 1_000_000})
        return [pulse_from_text(text, age=max(0.0, age / 1e6)) for age, text in rows]

    # -- tables and server -------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if self._joins() or (self._borrowed and not self._commits):
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")

        def upgrade(session: Session) -> tuple[int, int]:
            with session.db.transaction():
                session.cursor.execute("SET LOCAL lock_timeout = '60s'")
                session.cursor.execute(self._sql.lock_schema)
                found = self._version_in(session) or 0
                if found > migrate.WANTED:
                    migrate.check(found, self._where)
                for version in range(found + 1, migrate.WANTED + 1):
                    for statement in migrate.statements("postgresql", version, self._prefix):
                        session.cursor.execute(statement.encode())
                    self._ask(session, self._sql.set_schema, {"version": str(version)})
            return found, migrate.WANTED

        return self._twice(upgrade)

    def _schema_version(self) -> int | None:
        return self._twice(self._version_in, reads=True)

    def _version_in(self, session: Session) -> int | None:
        if not self._ask(session, self._sql.has_meta).fetchall()[0][0]:
            return None
        rows = self._ask(session, self._sql.get_schema).fetchall()
        return int(rows[0][0]) if rows else None

    def info(self) -> BackendInfo:
        level, version, notes = self._twice(durability, reads=True)
        session = self._session
        if session is not None and session.pooled and not self._borrowed:
            notes.append(
                "A pooler stands in front of the server: nothing is pushed, workers look by themselves."
            )
        return BackendInfo(
            backend=self.name,
            version=version,
            location=self._where,
            durability=level,
            schema_found=self._schema_version(),
            schema_wanted=migrate.WANTED,
            notes=tuple(notes),
        )

    def close(self) -> None:
        with self._starting:
            self._closed = True
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        if not self._borrowed and self._session is not None:
            self._session.db.close()

    # -- questions ---------------------------------------------------------

    def _ask(
        self, session: Session, statement: bytes, values: dict[str, Any] | None = None
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        # On the caller's connection his own prepare_threshold decides.
        return session.cursor.execute(statement, values, prepare=None if self._borrowed else True)

    def _joins(self) -> bool:
        """Whether the next statement lands in a transaction that is the caller's to commit."""
        if not self._borrowed or self._session is None:
            return False
        db = self._session.db
        idle = db.info.transaction_status == TransactionStatus.IDLE
        return not idle or not (db.autocommit or self._commits)

    def _run(self, work: Callable[[Session], T], *, reads: bool = False) -> T:
        """
        Run *work*: one statement or one transaction, whole again after a deadlock.

        Raises:
            Cut: the connection broke on the way, and *work* may have happened.
            BackendUnavailable: no connection could be had; *work* was not begun.
        """
        session = self._alive()
        db = session.db
        joins = self._joins()
        # A look at the caller's idle connection leaves no transaction open behind it.
        ends = self._borrowed and (
            not joins or (reads and db.info.transaction_status == TransactionStatus.IDLE)
        )
        for attempt in range(1, _RETRIES + 1):
            try:
                result = work(session)
                if ends and not db.autocommit:
                    db.commit()
                return result
            except psycopg.Error as error:
                if db.broken or db.closed:
                    if joins:
                        raise BackendUnavailable(f"{self._where}: {error}") from error
                    raise Cut(f"{self._where}: the connection broke ({str(error).strip()})") from error
                if ends and not db.autocommit:
                    db.rollback()
                again = error.sqlstate in ("40P01", "40001") and not joins and attempt < _RETRIES
                if not again:
                    raise self._translate(error) from error
            except BaseException:
                if ends and not db.autocommit and not db.closed:
                    db.rollback()
                raise
            time.sleep(random.uniform(0.0, 0.01) * attempt)  # noqa: S311 - so that two do not meet again
        raise BackendBusy(f"{self._where}: could not get past other transactions")

    def _twice(self, work: Callable[[Session], T], *, reads: bool = False) -> T:
        """The same for *work* that may be repeated without harm."""
        try:
            return self._run(work, reads=reads)
        except Cut:
            pass
        try:
            return self._run(work, reads=reads)
        except Cut as cut:
            raise BackendUnavailable(str(cut)) from cut

    def _read(self, statement: bytes, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self._twice(lambda session: self._ask(session, statement, values).fetchall(), reads=True)

    def _alive(self) -> Session:
        session = self._session
        if self._borrowed and session is not None:
            return session
        if self._closed or self._door is None:
            raise BackendUnavailable(f"{self._where}: this queue was closed")
        if session is not None and session.hung_up():
            session.db.close()
            session = self._session = None
        if session is None:
            session = self._session = self._door.open(self._door.patience)
        return session

    def _translate(self, error: psycopg.Error) -> QueueError:
        translated = translate(error, self._where)
        if error.sqlstate == "42501" and isinstance(translated, SchemaError):
            return SchemaError(f"{translated}. {privileges(self._prefix, self._session)}")
        return translated


def _chunks(payloads: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Borders of the pieces that are stored in one transaction each."""
    start = size = 0
    for end, payload in enumerate(payloads):
        if end - start >= _COPY_ROWS or size > _COPY_BYTES:
            yield start, end
            start, size = end, 0
        size += len(payload)
    yield start, len(payloads)


def _settle_values(settlements: Sequence[Settlement]) -> tuple[Settles, dict[str, Any]]:
    """The statement's kind and values; in the order of ids, in which everybody takes their locks."""
    deletes = [s.job for s in settlements if s.verb == "delete"]
    deletes.sort(key=lambda job: job.id)
    values: dict[str, Any] = {
        "ids": _numbers([job.id for job in deletes]),
        "tokens": _numbers([job.token for job in deletes]),
        "wanted": len(settlements),
    }
    if len(deletes) == len(settlements):
        return "deletes", values
    rows = [
        {
            "id": s.job.id,
            "token": s.job.token,
            "state": _BURIED if s.verb == "bury" else _DELAYED if s.delay else _READY,
            "delay": round(s.delay * 1e6),
            "priority": s.priority,
            "reason": _text(s.reason),
            "uncounted": 0 if s.counted else 1,
        }
        for s in sorted(settlements, key=lambda s: s.job.id)
        if s.verb != "delete"
    ]
    values["back"] = json.dumps(rows)
    return "all", values


def _verdicts(settlements: Sequence[Settlement], settled: Sequence[Sequence[int]]) -> list[bool]:
    """A job that is settled twice in one batch is lost the second time."""
    left = Counter((id_, token) for id_, token in settled)
    verdicts = []
    for s in settlements:
        key = (s.job.id, s.job.token)
        verdicts.append(left[key] > 0)
        left[key] -= 1
    return verdicts


def _reserved(rows: list[tuple[Any, ...]], token: int, asked_at: float, names: tuple[str, ...]) -> list[Job]:
    """Jobs in claim order: RETURNING promises none, so the rows are sorted here."""
    if len(names) == 1:
        rows.sort()  # by priority, then id
    else:
        place = {name: n for n, name in reversed(list(enumerate(names)))}
        rows.sort(key=lambda row: (place[row[2]], row[0], row[1]))
    jobs = []
    for priority, id_, pipeline, payload, ttr, attempts, crashes, waited, reason, uid, unique, *_ in rows:
        seconds = ttr / 1e6
        job = Job(
            id_, pipeline, payload, priority, seconds, attempts, crashes, JobState.RESERVED, token,
            asked_at + seconds, waited / 1e6 if waited > 0 else 0.0, 0.0, reason, uid or b"", unique,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def _seen(row: tuple[Any, ...]) -> Job:
    id_, pipeline, payload, priority, ttr, attempts, crashes, state, left, reason, uid, unique = row
    job = Job(id_, pipeline, payload, priority, ttr / 1e6, attempts, crashes, _STATES[state])
    if state == _DELAYED:
        job.delay = max(0.0, left / 1e6)
    job.reason = reason
    job.uid = uid or b""
    job.unique = unique
    return job


def _condition(where: Filter) -> tuple[bytes, dict[str, Any]]:
    """A Filter as SQL."""
    condition, values = b"", dict[str, Any]()
    if where.ids is not None:
        condition += b" AND id = ANY (%(only)s::bigint[])"
        values["only"] = _numbers(id_ for id_ in where.ids if 0 < id_ < _BIGINT)
    if where.reason:
        condition += b" AND reason LIKE %(reason)s ESCAPE ''"
        values["reason"] = _text(where.reason)
    return condition, values


def _numbers(numbers: Iterable[int]) -> str:
    """An array as PostgreSQL writes it: much faster than the driver's own way for lists."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _text(text: str) -> str:
    """What PostgreSQL can store of a reason: no NUL, no half of a character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _remember(store: dict[tuple[str, ...], T], names: tuple[str, ...], value: T) -> T:
    if len(store) > 100:  # somebody asks for ever new sets of pipelines
        store.clear()
    store[names] = value
    return value
