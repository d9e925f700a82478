"""
The PostgreSQL back end.

Every statement is a transaction of its own, and says `clock_timestamp()` for
every instant.  Nothing is kept in the session but what a pooler in transaction
mode allows: no advisory lock beyond a transaction, and LISTEN only on a
connection of its own that leads straight to the server.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg

from fleet.errors import BackendUnavailable, OutcomeUnknown, QueueError, SchemaError, UidConflict
from fleet.queue.backend import Capabilities
from fleet.queue.backends.postgres import rows as values_of
from fleet.queue.backends.postgres.bell import Bell
from fleet.queue.backends.postgres.facts import durability
from fleet.queue.backends.postgres.puts import Puts
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Cut, Door, Session
from fleet.queue.backends.postgres.statements import Settles, Statements
from fleet.queue.backends.postgres.wake import DEBOUNCE, Listener
from fleet.queue.backends.postgres.watermark import Watermark
from fleet.queue.bell import Bell as Sleep
from fleet.queue.causes import KEPT as ERRORS_KEPT
from fleet.queue.causes import ErrorGroup, error_from_row
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import KEPT as MINUTES_KEPT
from fleet.queue.minutes import Minute, minute_from_text
from fleet.queue.pulse import PULSES_KEPT, PULSES_SHOWN, is_time_to_prune, pulse_from_text
from fleet.queue.schema import migrate

_PEEK_ORDER = {
    JobState.READY: b"priority, id",
    JobState.DELAYED: b"run_at, id",
    JobState.RESERVED: b"deadline, id",
    JobState.BURIED: b"id",
}
_READY_CHUNK = 10_000  # due jobs made ready in one transaction: a million at once must not stop everybody
_READY_SECONDS = 2.0  # and after that long the claim takes what is there
_LOOK_SECONDS = 4.0  # between two looks behind the push
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0  # without a push: growing gaps

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
        self._prefix = prefix
        self._push = push
        self._commits = commits
        self._sql = Statements(prefix)
        self._runner = Runner(door, connection, commits, prefix)
        self._bell = Bell(self._runner, self._sql, f"{prefix}_ready", push=push, within=_LOOK_SECONDS)
        self._puts = Puts(self._runner, self._sql, self._bell)
        self._watermarks: dict[tuple[str, ...], Watermark] = {}
        self._looks: dict[tuple[str, ...], _Look] = {}
        self._listener: Listener | None = None
        self._sleep = Sleep()
        self._starting = threading.Lock()
        self._closed = False
        try:
            if self._schema_version() is None and (not self._runner.borrowed or commits):
                self.migrate()
            migrate.check(self._schema_version(), self._runner.where)
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
        return self._puts.put(values, uids or [os.urandom(16) for _ in payloads], payloads)

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        names = tuple(pipelines)
        if limit and self._runner.joins():
            raise ValueError(
                "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                "fleet.connect(dsn), or a connection in autocommit mode that is not in a transaction."
            )
        try:
            if limit:
                verdicts, jobs = self._settle_and_claim(settlements, names, limit, token)
            else:
                verdicts, jobs = self._runner.run(partial(self._settle, settlements)), []
        except Cut as cut:
            verdicts, jobs = self._find_out(settlements, names, limit, token, cut)
        released = [s for s in settlements if s.verb == "release"]
        if released:
            soonest = round(min(s.delay for s in released) * 1e6)
            self._bell.ring({s.job.pipeline for s in released}, soonest)
        return verdicts, jobs

    def _settle(self, settlements: Sequence[Settlement], session: Session) -> list[bool]:
        if not settlements:
            return []
        if len(settlements) == 1 and settlements[0].verb == "delete":
            job = settlements[0].job
            return [
                self._runner.ask(session, self._sql.delete, {"id": job.id, "token": job.token}).rowcount == 1
            ]
        settles, values = values_of.settle_values(settlements)
        return values_of.verdicts(
            settlements, self._runner.ask(session, self._sql.settle[settles], values).fetchall()
        )

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
            settled, jobs, (due, now, took, soon) = self._runner.run(claim)
            verdicts, settlements = verdicts or settled, ()
            if due and len(names) > 1:
                # One after the other: what is due further down stays as it is while those above give enough.
                for name in names:
                    jobs += self._settle_and_claim((), (name,), limit - len(jobs), token)[1]
                    if len(jobs) == limit:
                        break
                if jobs:
                    self._looks.pop(names, None)
                    return verdicts, jobs
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
            settles, more = values_of.settle_values(settlements)
            values |= more
        marked = watermark is not None
        statement = self._sql.look[many] if looks else self._sql.exchange[settles, many, marked]
        asked_at = time.monotonic()
        rows = self._runner.ask(session, statement, values).fetchall()
        *_, settled, which, due, now, took, soon = rows.pop()
        verdicts = [True] * len(settlements)
        if settled < len(settlements):
            verdicts = values_of.verdicts(settlements, which or ())
        return verdicts, values_of.reserved(rows, token, asked_at, names), (due, now, took, soon)

    def _make_ready(self, names: tuple[str, ...]) -> None:
        """Everything that is due becomes ready, in chunks, so that one index gives the order."""
        values = {"pipelines": list(names), "chunk": _READY_CHUNK}
        give_up = time.monotonic() + _READY_SECONDS
        while time.monotonic() < give_up:
            counts = self._runner.run(
                lambda session: self._runner.ask(session, self._sql.make_ready, values).fetchall()
            )[0]
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
            rows = self._runner.read(self._sql.found, what) if limit else []
            jobs = values_of.reserved(rows, token, asked_at, names)
            for job, row in zip(jobs, rows, strict=True):
                job.expires_at = asked_at + row[-1] / 1e6
            ids = values_of.numbers(s.job.id for s in settlements)
            holders = dict(self._runner.read(self._sql.holders, {"ids": ids})) if settlements else {}
            open_ = [s for s in settlements if holders.get(s.job.id, 0) == s.job.token]
            if jobs or not limit:
                settled = self._runner.run(partial(self._settle, open_))
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
        names = tuple(pipelines)
        look = self._looks.get(names)
        if look is None:
            return
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
            self._sleep.wait(left)
        else:
            listener.wait(names, look.mark, left)

    def interrupt(self) -> None:
        listener = self._listener
        if listener is None:
            self._sleep.ring()
        else:
            listener.interrupt()

    def _remember_look(self, names: tuple[str, ...], soon: int | None, mark: int) -> None:
        now = time.monotonic()
        former = self._looks.get(names)
        gap = _FIRST_LOOK if former is None else min(_LAST_LOOK, former.gap * 1.5)
        soon_at = float("inf") if soon is None else now + soon / 1e6
        _remember(self._looks, names, _Look(now, soon_at, mark, gap))

    def _listen(self) -> Listener | None:
        """The listener, started by the first wait; None where nothing can be pushed."""
        if self._door is None or not self._push or self._runner.pooled:
            return None
        with self._starting:
            if self._listener is None and not self._closed:
                self._listener = Listener(partial(self._door.connect, listens=True), self._bell.channel)
            return self._listener

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
        values |= {"pipeline": pipeline, "limit": limit, **more}
        try:
            return self._runner.run(lambda session: self._runner.ask(session, statement, values).rowcount)
        except Cut as cut:
            raise OutcomeUnknown(f"{cut}; jobs may have been changed. Doing it again is safe.") from cut

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = values_of.condition(where)
        statement = self._sql.peek.replace(b"{state}", b"%d" % values_of.STATES.index(state))
        statement = statement.replace(b"{where}", condition).replace(
            b"{order}", b"id" if where.above is not None else _PEEK_ORDER[state]
        )
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
        def insert(session: Session) -> None:
            with session.db.transaction():
                for job in jobs:
                    self._runner.ask(session, self._sql.restore, values_of.stored(job))
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
            return found, migrate.WANTED

        return self._runner.twice(upgrade)

    def _schema_version(self) -> int | None:
        return self._runner.twice(self._version_in, reads=True)

    def _version_in(self, session: Session) -> int | None:
        if not self._runner.ask(session, self._sql.has_meta).fetchall()[0][0]:
            return None
        rows = self._runner.ask(session, self._sql.get_schema).fetchall()
        return int(rows[0][0]) if rows else None

    def info(self) -> BackendInfo:
        level, version, notes = self._runner.twice(durability, reads=True)
        if self._runner.pooled and not self._runner.borrowed:
            notes.append(
                "A pooler stands in front of the server: nothing is pushed, workers look by themselves."
            )
        return BackendInfo(
            backend=self.name,
            version=version,
            location=self._runner.where,
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
        self._sleep.close()
        self._runner.close()


def _remember(store: dict[tuple[str, ...], T], names: tuple[str, ...], value: T) -> T:
    if len(store) > 100:  # somebody asks for ever new sets of pipelines
        store.clear()
    store[names] = value
    return value
