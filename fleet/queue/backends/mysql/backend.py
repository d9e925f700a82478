"""
Jobs in MySQL 8.0 or MariaDB 10.6: every verb.

A claim is two packets and one commit: settle, glance, select the first ready
jobs FOR UPDATE SKIP LOCKED; then update them by primary key and COMMIT.  The
server's clock counts everything.  READ COMMITTED, and rows in the order of
their ids: with gap locks, or in another order, rivals would deadlock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fleet.errors import (
    BackendUnavailable,
    OutcomeUnknown,
    PutUnknown,
    SchemaError,
    UidConflict,
)
from fleet.queue.backend import Capabilities
from fleet.queue.backends.mysql import server
from fleet.queue.backends.mysql.connection import Clash, Duplicate, Link, Lost
from fleet.queue.backends.mysql.literal import bind, like, literal
from fleet.queue.backends.mysql.mark import Mark
from fleet.queue.backends.mysql.statements import NOW, Statements
from fleet.queue.backends.mysql.wake import Bell
from fleet.queue.dsn import Dsn
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.pulse import pulse_from_text, pulse_to_text
from fleet.queue.schema import migrate

_READY, _DELAYED, _RESERVED, _BURIED = range(4)
_STATES = (JobState.READY, JobState.DELAYED, JobState.RESERVED, JobState.BURIED)
_NUMBER = {state: number for number, state in enumerate(_STATES)}
_PUT_ROWS, _PUT_BYTES = 5_000, 500_000  # of one INSERT, before hexadecimal doubles the bytes
_CHUNK = (
    10_000  # jobs that one transaction promotes, kicks or discards: a million at once would stop everybody
)
_SPARE = 50  # jobs before the mark that one look names beyond those that were asked for
_POLL_SECONDS = 0.25  # behind the bell
_PULSES_KEPT = 3600  # seconds
_MOST_PRIORITIES = 64  # that stats looks at for the oldest job


class MysqlBackend:
    """`Backend` over a MySQL or MariaDB database, or over the caller's own PyMySQL connection."""

    name = "mysql"
    capabilities = Capabilities()

    def __init__(
        self, dsn: Dsn | None = None, *, connection: Any = None, commits: bool = False, prefix: str = "fleet"
    ) -> None:
        """
        Connect to *dsn*, creating the tables when they are missing.

        With *connection* nothing is created, set or closed, and verbs join
        the caller's transaction.  *commits* says that outside of an open one
        each verb is a transaction of its own, whatever its autocommit mode.

        Raises:
            DsnError, QueueError, SchemaError: the database cannot be used.
        """
        self._prefix = prefix
        self._sql = Statements(prefix)
        self._link = Link(dsn, connection=connection, commits=commits)
        self._marks: dict[str, Mark] = {}
        self._marks_of = 0  # the generation of the connection that they were made on
        self._bell: Bell | None = None
        self._misses = 0
        try:
            if not self._link.borrowed:
                server.check_version(self._link)
                if server.schema_version(self._link, self._sql) is None:
                    self.migrate()
                server.check_tables(self._link, self._sql)
            migrate.check(server.schema_version(self._link, self._sql), self._link.where)
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
        state = _DELAYED if delay else _READY
        key = unique.encode() if unique is not None else None
        head = f"({literal(pipeline)},{state},{priority},{round(ttr * 1e6)},"
        ids: list[int] = []
        try:
            for start, end in _chunks(payloads):
                rows = list(zip(uids[start:end], payloads[start:end], strict=True))
                ids += self._link.transact(
                    partial(self._put_chunk, pipeline, head, round(delay * 1e6), key, rows)
                )
        except Lost as lost:
            where = self._link.where
            raise PutUnknown(f"{where}: {lost} during a put; it may be stored", uids) from lost
        except BackendUnavailable as error:
            if ids:
                raise PutUnknown(
                    f"{error} {len(ids):,} of {len(payloads):,} jobs are stored.", uids
                ) from error
            raise
        self._ring()
        return ids

    def _put_chunk(
        self,
        pipeline: str,
        head: str,
        delay: int,
        unique: bytes | None,
        rows: Sequence[tuple[bytes, bytes]],
    ) -> list[int]:
        try:
            return self._insert(head, delay, unique, rows)
        except Duplicate:
            self._link.roll_back()
        for _ in range(5):
            try:
                return self._put_missing(pipeline, head, delay, unique, rows)
            except Duplicate:  # somebody stored, or deleted, one of them in between
                self._link.roll_back()
        raise Clash("a uid or unique key is stored and deleted by others at the same time")

    def _insert(
        self,
        head: str,
        delay: int,
        unique: bytes | None,
        rows: Sequence[tuple[bytes, bytes]],
        *,
        begin: bool = True,
    ) -> list[int]:
        sql = self._sql
        if len(rows) == 1:
            uid, payload = rows[0]
            values = f"{head}{NOW}+{delay},{literal(unique)},X'{uid.hex()}',X'{payload.hex()}')"
            return [self._link.run(sql.insert + values, begin=begin, commit=True)[0].id]
        head = f"{head}@fleet_at,NULL,X'"
        values = ",".join([f"{head}{uid.hex()}',X'{payload.hex()}')" for uid, payload in rows])
        _, insert, step = self._link.run(
            bind(sql.insert_at, delay), sql.insert + values, sql.step, begin=begin, commit=True
        )
        # InnoDB hands the ids of one INSERT … VALUES out in one piece, in every innodb_autoinc_lock_mode:
        # the server knows how many rows there are before the first.  They are apart by the step.
        return list(range(insert.id, insert.id + len(rows) * int(step.rows[0][0]), int(step.rows[0][0])))

    def _put_missing(
        self,
        pipeline: str,
        head: str,
        delay: int,
        unique: bytes | None,
        rows: Sequence[tuple[bytes, bytes]],
    ) -> list[int]:
        """Some are stored already: find those, and store the others."""
        uids = ",".join([literal(uid) for uid, _ in rows])
        stored = {
            bytes(uid): (int(id_), payload)
            for id_, uid, payload in self._link.run(self._sql.by_uid % uids, begin=True)[0].rows
        }
        if not stored and unique is not None:
            found = self._link.run(bind(self._sql.by_unique, pipeline, unique))[0].rows
            if found:
                self._link.run(commit=True)
                return [int(found[0][0])]
        missing: dict[bytes, bytes] = {}
        for uid, payload in rows:
            id_, known = stored.get(uid, (0, missing.setdefault(uid, payload)))
            if known != payload:
                raise UidConflict(f"job {id_ or '(new)'} has this uid and another payload")
            if id_:
                missing.pop(uid, None)
        new: list[int] = []
        if missing:
            new = self._insert(head, delay, unique, list(missing.items()), begin=False)
        else:
            self._link.run(commit=True)
        ids = {uid: id_ for uid, (id_, _) in stored.items()} | dict(zip(missing, new, strict=True))
        return [ids[uid] for uid, _ in rows]

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        if self._link.generation != self._marks_of:
            self._marks.clear()
            self._marks_of = self._link.generation
        call = _Exchange(self, settlements, pipelines if limit else (), limit, token)
        try:
            verdicts, jobs = self._link.transact(call.run, joins=not limit)
        except Lost as lost:
            self._marks.clear()
            verdicts, jobs = self._after_lost(lost, call)
        except BaseException:
            self._marks.clear()  # a look that was due may not have happened
            raise
        if any(s.verb == "release" for s in settlements):
            self._ring()
        return verdicts, jobs

    def _after_lost(self, lost: Lost, call: _Exchange) -> tuple[list[bool], list[Job]]:
        """The connection died at a COMMIT: find out on a new one whether it happened."""
        try:
            if call.pipelines and (jobs := self._found_again(call.pipelines, call.token)):
                return call.verdicts, jobs  # one transaction: if the claim is there, so is the rest
            verdicts = self._link.transact(partial(self._settle_again, call.settlements), again=True)
            return verdicts, self.exchange((), call.pipelines, call.limit, call.token)[
                1
            ] if call.limit else []
        except (Lost, BackendUnavailable) as error:
            where = self._link.where
            raise OutcomeUnknown(f"{where}: {lost}; and then: {error}. Doing it again is safe.") from error

    def _found_again(self, pipelines: Sequence[str], token: int) -> list[Job]:
        asked_at = time.monotonic()
        names = ",".join([literal(name) for name in pipelines])
        statement = bind(self._sql.found_again.format(names=names), token)
        jobs = []
        for pipeline, left, head, payload in self._link.read(statement)[0].rows:
            job = _claimed(head, payload, _text(pipeline), token, started=True)
            job.expires_at = asked_at + left / 1e6
            jobs.append(job)
        return sorted(jobs, key=lambda job: (pipelines.index(job.pipeline), job.priority, job.id))

    def _settle_again(self, settlements: Sequence[Settlement]) -> list[bool]:
        """The truth about settlements that may have happened: a job that is gone was settled."""
        groups = _groups(self._sql, settlements, one_by_one=True)
        if not groups:
            return []
        results = self._link.run(*[statement for statement, _ in groups], begin=True)
        ids = [s.job.id for s in settlements]
        tokens = dict(self._link.run(bind(self._sql.tokens, ids))[0].rows)
        self._link.run(*_returns(self._sql, settlements), commit=True)
        return [
            result.changed == 1
            or (tokens.get(s.job.id, 0) == 0 and (s.verb != "delete" or s.job.id not in tokens))
            for s, result in zip(settlements, results, strict=True)
        ]

    def look(self, pipeline: str, limit: int) -> None:
        """Read a pipeline from the start, make ready what is due, and set its mark.  Inside of `transact`."""
        sql, mark = self._sql, self._marks.setdefault(pipeline, Mark())
        while True:
            started = time.monotonic()
            asked_for = limit + _SPARE
            facts, below = self._link.run(
                bind(sql.facts, pipeline, pipeline, pipeline, pipeline),
                # The facts first: what happens between the two statements is noticed by the next glance.
                bind(sql.below, pipeline, mark.priority, mark.priority, mark.last, asked_for),
            )
            now, _, returns, tail, delayed, leased = facts.rows[0]
            mark.looked(returns or 0, tail or 0, delayed, below.rows, asked_for)
            mark.looked_at = time.monotonic()
            mark.cost = mark.looked_at - started
            due = [
                state
                for state, at in ((_DELAYED, delayed), (_RESERVED, leased))
                if at is not None and at <= now
            ]
            if not due or not self._revive(pipeline, due):
                return

    def _revive(self, pipeline: str, states: Sequence[int]) -> bool:
        """Make due delayed jobs and those of lost leases ready; False when others are at it."""
        sql = self._sql
        select = [bind(sql.due.format(state=state), pipeline, _CHUNK) for state in states]
        results = self._link.run(*select, begin=True)
        found = [sorted(id_ for id_, _ in result.rows) for result in results]
        updates = [
            bind(sql.promote if state == _DELAYED else sql.rescue, ids)
            for state, ids in zip(states, found, strict=True)
            if ids
        ]
        if updates:
            updates.append(bind(sql.returned, pipeline))
        self._link.run(*updates, commit=True)
        return bool(updates)

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
        bell = self._bell_of_server()
        if self._link.borrowed:
            bell.sleep(min(timeout, _POLL_SECONDS))  # the caller's connection is his, also while we wait
            return
        give_up = time.monotonic() + timeout
        bell.listen()
        if self._misses:
            # It was ready, and the claim got nothing: somebody else is at it.  Ask less and less often.
            bell.sleep(min(timeout, 0.05, 0.001 * 2**self._misses))
        while (left := give_up - time.monotonic()) > 0:
            due = self._next_due(pipelines)
            if due <= 0:
                self._misses += 1
                return
            self._misses = 0
            if bell.sleep(min(due, left, _POLL_SECONDS)):
                return
        return

    def _next_due(self, pipelines: Sequence[str]) -> float:
        """Seconds until something is claimable: 0 is now, infinity is "not by waiting alone"."""
        each = [bind(self._sql.next_due, name, name, name, name) for name in pipelines]
        soonest = float("inf")
        for now, paused_until, ready, *dues in self._link.read(" UNION ALL ".join(each))[0].rows:
            if paused_until and paused_until > now:
                soonest = min(soonest, (paused_until - now) / 1e6)
                continue
            if ready:
                return 0.0
            soonest = min(soonest, *[(due - now) / 1e6 for due in dues if due is not None], soonest)
        return max(0.0, soonest)

    def _bell_of_server(self) -> Bell:
        if self._bell is None:
            if not self._link.server:
                self._link.read("DO 0")
            self._bell = Bell(self._link.server, self._prefix)
        return self._bell

    def _ring(self) -> None:
        if not self._link.in_callers_transaction:
            self._bell_of_server().ring()

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        def change(ids: list[int]) -> list[str]:
            return [bind(self._sql.kick, ids), bind(self._sql.returned, pipeline)]

        moved = self._in_chunks(pipeline, _BURIED, limit, where, change)
        self._ring()
        return moved

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        number = _NUMBER[state]
        return self._in_chunks(
            pipeline, number, limit, where, lambda ids: [bind(self._sql.discard, ids, number)]
        )

    def _in_chunks(
        self, pipeline: str, state: int, limit: int, where: Filter, change: Callable[[list[int]], list[str]]
    ) -> int:
        condition, values = _condition(where)
        select = self._sql.select_state if where.ids is None else self._sql.select_ids

        def chunk() -> tuple[int, int]:
            size = min(_CHUNK, limit - moved)
            statement = bind(select.format(where=condition), pipeline, state, *values, size)
            ids = sorted(id_ for (id_,) in self._link.run(statement, begin=True)[0].rows)
            changed = self._link.run(*(change(ids) if ids else ()), commit=True)
            return (changed[0].changed if ids else 0), size - len(ids)

        moved, left = 0, 0
        try:
            while not left and moved < limit:
                count, left = self._link.transact(chunk)
                moved += count
        except Lost as lost:
            raise OutcomeUnknown(f"{self._link.where}: {lost}; doing it again is safe") from lost
        return moved

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        condition, values = _condition(where)
        select = self._sql.peek_state if where.ids is None else self._sql.peek_ids
        statement = bind(select.format(where=condition), pipeline, _NUMBER[state], *values, limit)
        return [_seen(row) for row in self._link.read(statement)[0].rows]

    def find(self, job_id: int) -> Job | None:
        rows = self._link.read(bind(self._sql.find, job_id))[0].rows
        return _seen(rows[0]) if rows else None

    def pause(self, pipeline: str, seconds: float) -> None:
        until = f"{NOW} + {round(seconds * 1e6)}" if seconds else "0"
        self._write(bind(self._sql.pause.format(until=until), pipeline))
        self._ring()

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        values: list[str | int] = [pipeline, cap]
        statement = bind(self._sql.counts, pipeline, *values * 6, pipeline)
        row = self._link.read(statement)[0].rows[0]
        now, paused_until, ready, due, delayed, reserved, stale, buried, first_due = row
        ready = min(cap, ready + due)  # a due job is ready, though nobody has moved it yet
        oldest = self._oldest_ready(pipeline) if ready else None
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

    def _oldest_ready(self, pipeline: str) -> int | None:
        """When the longest waiting of the first jobs of each priority became ready; one hop a priority."""
        priority, oldest = -1, None
        for _ in range(_MOST_PRIORITIES):
            rows = self._link.read(bind(self._sql.first_of_next_priority, pipeline, priority))[0].rows
            if not rows:
                break
            priority, since = rows[0]
            oldest = since if oldest is None else min(oldest, since)
        return oldest

    def pipelines(self) -> list[str]:
        return sorted(_text(name) for (name,) in self._link.read(self._sql.pipelines)[0].rows)

    # -- pulses ------------------------------------------------------------

    def publish(self, pulse: Pulse) -> None:
        body = pulse_to_text(pulse)
        self._write(bind(self._sql.publish, pulse.host, pulse.process, body, body))

    def pulses(self) -> list[Pulse]:
        rows = self._link.read(bind(self._sql.pulses, _PULSES_KEPT * 1_000_000))[0].rows
        return [pulse_from_text(_text(body), age=max(0.0, age / 1e6)) for age, body in rows]

    # -- the database ------------------------------------------------------

    def migrate(self) -> tuple[int, int]:
        if self._link.borrowed:
            raise SchemaError("tables are never changed on the caller's connection: use fleet queue migrate")
        return server.migrate_tables(self._link, self._sql, self._prefix)

    def info(self) -> BackendInfo:
        return server.describe(self._link, self._sql)

    def close(self) -> None:
        self._link.close()
        if self._bell is not None:
            self._bell.close()

    def _write(self, statement: str) -> None:
        """One statement that does no harm when it is done twice."""
        try:
            self._link.transact(lambda: self._link.run(statement, begin=True, commit=True), again=True)
        except Lost as lost:
            raise OutcomeUnknown(f"{self._link.where}: {lost}; doing it again is safe") from lost


class _LookAgain(Exception):
    """Something may be ready before the mark of a pipeline."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline


class _SomeLeaseLost(Exception):
    """A batch changed fewer rows than it has jobs: it is rolled back and asked one by one."""


class _Exchange:
    """One call of `exchange`; `run` may be called again after a clash."""

    def __init__(
        self,
        backend: MysqlBackend,
        settlements: Sequence[Settlement],
        pipelines: Sequence[str],
        limit: int,
        token: int,
    ) -> None:
        self._backend = backend
        self._link = backend._link
        self._sql = backend._sql
        self._marks = backend._marks
        self._looked: set[str] = set()
        self._one_by_one = False
        self.settlements = settlements
        self.pipelines = pipelines
        self.limit = limit
        self.token = token
        self.verdicts: list[bool] = []

    def run(self) -> tuple[list[bool], list[Job]]:
        """Settle and claim, looking before the marks where that is needed.  Inside of `transact`."""
        if self._link.in_callers_transaction:
            self._one_by_one = True  # it is not ours to roll back
        while True:
            for pipeline in self.pipelines:
                mark = self._marks.get(pipeline)
                if mark is None or mark.wants_a_look(time.monotonic()):
                    self._look(pipeline)
            try:
                jobs = self._attempt()
                return self.verdicts, jobs
            except _LookAgain as again:
                self._link.roll_back()
                self._look(again.pipeline)
            except _SomeLeaseLost:
                self._link.roll_back()
                self._one_by_one = True

    def _look(self, pipeline: str) -> None:
        self._backend.look(pipeline, self.limit)
        self._looked.add(pipeline)

    def _attempt(self) -> list[Job]:
        sql, link = self._sql, self._link
        groups = _groups(sql, self.settlements, one_by_one=self._one_by_one)
        settle = [statement for statement, _ in groups]
        returns = _returns(sql, self.settlements)
        if not self.pipelines:
            if not settle:
                return []
            # Row counts of single jobs are verdicts, whatever they say: no need to see them before COMMIT.
            certain = all(len(members) == 1 for _, members in groups)
            results = link.run(*settle, *(returns if certain else ()), begin=True, commit=certain)
            self.verdicts = self._judge(groups, results)
            if not certain:
                link.run(*returns, commit=True)
            return []

        asked_at = time.monotonic()
        jobs: list[Job] = []
        steps: list[tuple[Mark, tuple[int, int] | None, tuple[int, ...]]] = []
        for number, pipeline in enumerate(self.pipelines):
            found, now, step = self._select(pipeline, settle if number == 0 else [], groups, number == 0)
            steps.append((self._marks[pipeline], *step))
            for head, payload in found:
                job = _claimed(head, payload, pipeline, self.token, now=now)
                job.expires_at = asked_at + job.ttr
                jobs.append(job)
            if len(jobs) >= self.limit:
                break
        if not jobs:
            self._before_saying_nothing()
        ids = sorted(job.id for job in jobs)
        claim = [bind(sql.claim, self.token, ids)] if ids else []
        results = link.run(*claim, *returns, commit=True)
        for mark, key, below in steps:
            mark.below = below
            if key is not None:
                mark.priority, mark.last = key
        if ids and results[0].changed != len(ids):
            won = {id_ for (id_,) in link.run(bind(sql.won, ids, self.token))[0].rows}
            jobs = [job for job in jobs if job.id in won]
        return jobs

    def _select(
        self, pipeline: str, settle: list[str], groups: Sequence[tuple[str, list[int]]], first: bool
    ) -> tuple[list[tuple[str, bytes]], int, tuple[tuple[int, int] | None, tuple[int, ...]]]:
        """Lock the next jobs: their rows, the server's time, and where the mark goes once they are ours."""
        sql, mark, want = self._sql, self._marks[pipeline], self.limit
        pick = [bind(sql.pick, mark.below[:want], pipeline)] if mark.below else []
        results = self._link.run(
            *settle,
            bind(sql.glance, pipeline, pipeline, pipeline, pipeline, mark.tail),
            *pick,
            bind(sql.scan, pipeline, mark.priority, mark.priority, mark.last, want),
            begin=first,
        )
        if first:
            self.verdicts = self._judge(groups, results)
        glance = results[len(settle)]
        now, paused_until, returns, tail, urgent, due = glance.rows[0]
        if mark.glanced(now, returns or 0, tail, urgent, due) and pipeline not in self._looked:
            raise _LookAgain(pipeline)
        if paused_until and paused_until > now:
            self._looked.add(pipeline)
            return [], now, (None, mark.below)
        below = list(results[-2].rows)[:want] if pick else []
        taken = {head.partition(",")[0] for head, _ in below} if below else set()
        scanned = [row for row in results[-1].rows if not taken or row[0].partition(",")[0] not in taken]
        scanned = scanned[: want - len(below)]
        key = None
        if scanned:
            id_, priority, _ = scanned[-1][0].split(",", 2)
            key = (int(priority), int(id_))
        return [*below, *scanned], now, (key, mark.below[want:])

    def _before_saying_nothing(self) -> None:
        now = time.monotonic()
        for pipeline in self.pipelines:
            if pipeline not in self._looked and self._marks[pipeline].allows_a_look(now):
                raise _LookAgain(pipeline)

    def _judge(self, groups: Sequence[tuple[str, list[int]]], results: Sequence[Any]) -> list[bool]:
        verdicts = [True] * len(self.settlements)
        for (_, members), result in zip(groups, results, strict=False):
            if result.changed != len(members):
                if len(members) > 1:
                    raise _SomeLeaseLost
                verdicts[members[0]] = False
        return verdicts


def _groups(
    sql: Statements, settlements: Sequence[Settlement], *, one_by_one: bool
) -> list[tuple[str, list[int]]]:
    """Statements that settle, each with the positions of the settlements that it carries out."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, s in enumerate(settlements):
        kind: tuple[Any, ...] = (s.job.token, s.verb)
        if s.verb != "delete":
            kind = (*kind, s.delay, s.priority, s.reason, s.counted)
        if one_by_one:
            kind = (*kind, position)
        groups.setdefault(kind, []).append(position)
    statements = []
    for members in groups.values():
        s = settlements[members[0]]
        ids = sorted([settlements[position].job.id for position in members])
        if s.verb == "delete":
            statement = bind(sql.delete, ids, s.job.token)
        else:
            state = _BURIED if s.verb == "bury" else _DELAYED if s.delay else _READY
            reason = s.reason.encode(errors="replace").decode()  # a lone surrogate is no reason to fail
            given_back = 0 if s.counted else 1
            statement = bind(
                sql.put_back, state, round(s.delay * 1e6), s.priority, reason, given_back, ids, s.job.token
            )
        statements.append((statement, members))
    return statements


def _returns(sql: Statements, settlements: Sequence[Settlement]) -> list[str]:
    names = {s.job.pipeline for s in settlements if s.verb == "release"}
    return [bind(sql.returned, name) for name in sorted(names)]


def _claimed(
    head: str | bytes, payload: bytes, pipeline: str, token: int, *, now: int = 0, started: bool = False
) -> Job:
    """A job out of the columns that `Statements` packs into one text; *started* when it counts this start."""
    id_, priority, ttr, attempts, crashes, run_at, uid, unique, reason = _text(head).split(",")
    job = Job(
        int(id_),
        pipeline,
        payload,
        int(priority),
        int(ttr) / 1e6,
        int(attempts) + (0 if started else 1),
        int(crashes),
        JobState.RESERVED,
        token,
    )
    job.waited = max(0.0, (now - int(run_at)) / 1e6) if now else 0.0
    job.uid = bytes.fromhex(uid)
    if reason:
        job.reason = bytes.fromhex(reason).decode()
    if unique:
        job.unique = bytes.fromhex(unique).decode()
    return job


def _seen(row: tuple[Any, ...]) -> Job:
    id_, pipeline, payload, priority, ttr, attempts, crashes, state, due_in, reason, uid, unique = row
    job = Job(id_, _text(pipeline), payload, priority, ttr / 1e6, attempts, crashes, _STATES[state])
    if state == _DELAYED:
        job.delay = max(0.0, due_in / 1e6)
    job.reason = _text(reason)
    job.uid = uid or b""
    job.unique = None if unique is None else _text(unique)
    return job


def _text(value: str | bytes) -> str:
    """Binary columns come as bytes, and so does everything on a connection with use_unicode=False."""
    return value if isinstance(value, str) else value.decode()


def _chunks(payloads: Sequence[bytes]) -> list[tuple[int, int]]:
    """Borders of the INSERT statements: so many rows or so many bytes."""
    chunks, start, size = [], 0, 0
    for index, payload in enumerate(payloads):
        if index > start and (index - start >= _PUT_ROWS or size + len(payload) > _PUT_BYTES):
            chunks.append((start, index))
            start, size = index, 0
        size += len(payload)
    chunks.append((start, len(payloads)))
    return chunks


def _condition(where: Filter) -> tuple[str, list[Any]]:
    """A Filter as SQL.  The column's collation is binary, so LIKE tells upper from lower case."""
    condition, values = "", list[Any]()
    if where.ids is not None:
        condition += " AND id IN (%s)"
        values.append(where.ids)
    if where.reason:
        condition += " AND reason LIKE %s ESCAPE '|'"
        values.append(like(where.reason))
    return condition, values
