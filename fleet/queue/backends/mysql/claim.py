"""
Settle and claim: two packets and one commit.

The first packet settles, glances at what was put or came back (see `mark`),
and locks the next jobs FOR UPDATE SKIP LOCKED; the second gives them our token
and commits.  Jobs are handed out after the COMMIT was answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from fleet.errors import BackendUnavailable, DsnError, OutcomeUnknown
from fleet.queue.backends.mysql.connection import Link
from fleet.queue.backends.mysql.literal import among, bind, literal
from fleet.queue.backends.mysql.mark import Facts, Key, Mark
from fleet.queue.backends.mysql.mishaps import Clash, Lost
from fleet.queue.backends.mysql.rows import DELAYED, RESERVED, claimed, key_of, text
from fleet.queue.backends.mysql.settle import SomeLeaseLost, groups, returns, verdicts
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.job import Job, Settlement

CHUNK = 10_000  # jobs that one transaction makes ready or deletes: a million at once would stop everybody
_SPARE = 50  # jobs before the mark that one look names beyond those that were asked for

Row = tuple[Any, ...]


class Claims:
    """The marks of one connection, and how to claim with them."""

    def __init__(self, link: Link, sql: Statements) -> None:
        self._link = link
        self._sql = sql
        self._marks: dict[str, Mark] = {}
        self._generation = 0  # of the connection that the marks were made on

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        """As `Backend.exchange`."""
        if self._link.generation != self._generation:
            self.forget()
            self._generation = self._link.generation
        call = _Call(self, settlements, pipelines if limit else (), limit, token)
        try:
            return self._link.transact(call.run, joins=not limit)
        except Lost as lost:
            self.forget()
            return self._after_lost(lost, call)
        except BaseException:
            self.forget()  # a look that was due may not have happened
            raise

    def forget(self) -> None:
        """Trust no mark any more: the next claims look first."""
        self._marks.clear()

    def mark(self, pipeline: str) -> Mark:
        return self._marks.setdefault(pipeline, Mark())

    # -- looking -----------------------------------------------------------

    def look(self, pipeline: str, limit: int, *, inside: bool) -> None:
        """
        Read a pipeline from the start, make ready what is due, and set its mark.

        *inside* of the transaction that is open, or else outside of any; inside of `transact`.
        """
        sql, mark = self._sql, self.mark(pipeline)
        ask = self._link.run if inside else self._link.ask
        while True:
            started = time.monotonic()
            told, below = ask(
                # The facts first: what happens between the two statements is noticed by the next glance.
                bind(sql.facts, pipeline, pipeline, pipeline),
                bind(sql.below, pipeline, mark.priority, mark.priority, mark.last, limit + _SPARE),
            )
            facts = Facts(*told.rows[0])
            mark.looked(facts, below.rows, limit + _SPARE)
            mark.looked_at = time.monotonic()
            mark.cost = mark.looked_at - started
            if facts.returns < 0:
                self._link.run(bind(sql.introduce, pipeline), begin=not inside, commit=not inside)
                mark.returns = 0
            dues = ((DELAYED, facts.delayed), (RESERVED, facts.leased))
            due = [state for state, at in dues if at <= facts.now]
            if not due or facts.paused_until > facts.now or not self._revive(pipeline, due, inside=inside):
                return

    def _revive(self, pipeline: str, states: Sequence[int], *, inside: bool) -> bool:
        """Make due delayed jobs and those of lost leases ready; False when others are at it."""
        sql = self._sql
        select = [bind(sql.due, pipeline, state, CHUNK) for state in states]
        results = self._link.run(*select, begin=not inside)
        found = [sorted([id_ for (id_,) in result.rows]) for result in results]
        updates = [
            bind(sql.promote if state == DELAYED else sql.rescue, ids)
            for state, ids in zip(states, found, strict=True)
            if ids
        ]
        if updates:
            updates.append(bind(sql.returned, pipeline))
        self._link.run(*updates, commit=not inside)
        return bool(updates)

    # -- after the connection died at a COMMIT -------------------------------

    def _after_lost(self, lost: Lost, call: _Call) -> tuple[list[bool], list[Job]]:
        """Find out on a new connection whether it happened, and do it if it did not."""
        try:
            if call.pipelines and (jobs := self._found_again(call.pipelines, call.token)):
                return call.verdicts, jobs  # one transaction: if the claim is there, so is the rest
            settled = self._link.transact(partial(self._settle_again, call), again=True)
            again = _Call(self, (), call.pipelines, call.limit, call.token)
            return settled, self._link.transact(again.run)[1]
        except (Lost, BackendUnavailable, DsnError) as error:
            where = self._link.where
            raise OutcomeUnknown(f"{where}: {lost}; and then: {error}. Doing it again is safe.") from error

    def _found_again(self, pipelines: Sequence[str], token: int) -> list[Job]:
        asked_at = time.monotonic()
        names = ",".join([literal(name) for name in pipelines])
        jobs = []
        rows = self._link.read(bind(self._sql.found_again.replace("{names}", names), token))[0].rows
        for pipeline, left, *row in rows:
            (job,) = claimed([tuple(row)], text(pipeline), token, now=0, asked_at=0, starts=0)
            job.expires_at = asked_at + left / 1e6
            jobs.append(job)
        return sorted(jobs, key=lambda job: (pipelines.index(job.pipeline), job.priority, job.id))

    def _settle_again(self, call: _Call) -> list[bool]:
        """
        The truth about settlements that may have happened: a job that is gone was settled.

        By us, if the lease was ours when the call began; else it may be anybody's work.
        """
        settlements = call.settlements
        asked = groups(self._sql, settlements, one_by_one=True)
        if not asked:
            return []
        results = self._link.run(*[group.statement for group in asked], begin=True)
        ids = [s.job.id for s in settlements]
        tokens = dict(self._link.run(bind(self._sql.tokens, ids))[0].rows)
        self._link.run(*returns(self._sql, settlements), commit=True)
        return [
            result.changed == 1
            or (
                s.job.expires_at > call.began
                and (s.job.id not in tokens if s.verb == "delete" else tokens.get(s.job.id) == 0)
            )
            for s, result in zip(settlements, results, strict=True)
        ]


class _Step(NamedTuple):
    """What one pipeline gives to a claim."""

    mark: Mark
    now: int  # by the server's clock, microseconds
    rows: list[Row]
    asked: Key | None  # up to there, the jobs before the mark were asked for


class _Call:
    """One exchange; `run` may be called again after a clash."""

    def __init__(
        self,
        claims: Claims,
        settlements: Sequence[Settlement],
        pipelines: Sequence[str],
        limit: int,
        token: int,
    ) -> None:
        self._claims = claims
        self._link = claims._link
        self._sql = claims._sql
        self._looked: set[str] = set()
        self._one_by_one = False
        self._begun = False  # the transaction is open
        self._given_back = {s.job.pipeline for s in settlements if s.verb == "release" and not s.delay}
        self.settlements = settlements
        self.pipelines = pipelines
        self.limit = limit
        self.token = token
        self.began = time.monotonic()
        self.verdicts: list[bool] = []  # of the last try

    def run(self) -> tuple[list[bool], list[Job]]:
        """Settle and claim, looking before the marks where that is needed.  Inside of `transact`."""
        if self._link.in_callers_transaction:
            self._one_by_one = True  # it is not ours to roll back
        while True:
            self._begun = False
            try:
                jobs = self._claim() if self.pipelines else self._settle()
                return self.verdicts, jobs
            except SomeLeaseLost:
                self._link.roll_back()
                self._one_by_one = True
            except Clash:
                self._claims.forget()  # what a look inside made ready is not
                self._looked.clear()
                raise

    def _wants_a_look(self, pipeline: str) -> bool:
        return pipeline not in self._looked and self._claims.mark(pipeline).wants_a_look(time.monotonic())

    def _look(self, pipeline: str) -> None:
        self._claims.look(pipeline, self.limit, inside=self._begun)
        self._looked.add(pipeline)

    def _settle(self) -> list[Job]:
        asked = groups(self._sql, self.settlements, one_by_one=self._one_by_one)
        last = returns(self._sql, self.settlements)
        # The row counts of single jobs are verdicts, whatever they say: no need to see them before COMMIT.
        certain = all(len(group.members) == 1 for group in asked)
        statements = [group.statement for group in asked] + (last if certain else [])
        results = self._link.run(*statements, begin=True, commit=certain) if statements else []
        self.verdicts = verdicts(len(self.settlements), asked, results)
        if not certain:
            self._link.run(*last, commit=True)
        return []

    def _settle_first(self) -> None:
        """In a packet of its own, in the transaction of the claim."""
        asked = groups(self._sql, self.settlements, one_by_one=self._one_by_one)
        results = self._link.run(*[group.statement for group in asked], begin=True)
        self._begun = True
        self.verdicts = verdicts(len(self.settlements), asked, results)

    def _claim(self) -> list[Job]:
        asked_at = time.monotonic()
        jobs: list[Job] = []
        steps: list[_Step] = []
        for pipeline in self._in_turn(jobs):
            step = self._lock_next(pipeline, self.limit - len(jobs))
            steps.append(step)
            jobs += claimed(step.rows, pipeline, self.token, now=step.now, asked_at=asked_at)
            if len(jobs) >= self.limit:
                break
        ids = sorted([job.id for job in jobs])
        ours = [bind(self._sql.claim, self.token, among(ids), len(ids))] if ids else []
        results = self._link.run(*ours, *returns(self._sql, self.settlements), commit=True)
        for step in steps:
            step.mark.taken(step.asked, [key_of(row) for row in step.rows[-1:]])
        if ids and results[0].changed != len(ids):  # only where the server does not lock, or no longer
            won = {id_ for (id_,) in self._link.ask(bind(self._sql.held, ids, self.token))[0].rows}
            jobs = [job for job in jobs if job.id in won]
        return jobs

    def _in_turn(self, jobs: list[Job]) -> Iterator[str]:
        """The pipelines to claim from, and once more, after a look, those that may hide what is ready."""
        for pipeline in self.pipelines:
            gives_back = pipeline in self._given_back and pipeline not in self._looked
            if gives_back and not self._begun:
                self._settle_first()
            # Not earlier: what nobody asks for is left alone.  What this very call gives back lies before
            # the mark, and no glance tells of it yet.
            if gives_back or self._wants_a_look(pipeline):
                self._look(pipeline)
            yield pipeline
        for pipeline in self.pipelines if not jobs else ():
            mark = self._claims.mark(pipeline)
            if pipeline not in self._looked and mark.allows_a_look(time.monotonic()):
                self._look(pipeline)
                yield pipeline

    def _lock_next(self, pipeline: str, want: int) -> _Step:
        """
        Settle if that is still to do, and lock the next jobs of one pipeline, in one packet.

        No row is locked that is not taken: rivals would step over it, and
        their marks would leave it behind.
        """
        sql, mark = self._sql, self._claims.mark(pipeline)
        settling = () if self._begun else groups(sql, self.settlements, one_by_one=self._one_by_one)
        looked = int(pipeline in self._looked)
        picks = mark.picks(want)
        left = want - sum(pick.limit for pick in picks)
        locks = [
            bind(sql.pick, looked, [id_ for _, id_ in pick.keys], pipeline, pick.limit) for pick in picks
        ]
        if left:
            last = (mark.priority, mark.priority, mark.last)
            locks.append(bind(sql.scan, looked, pipeline, *last, left))
        urgent = (pipeline, pipeline, pipeline, mark.priority)
        came_back = (mark.returns, mark.patient_until, mark.delays, mark.due, pipeline)
        results = self._link.run(
            *[group.statement for group in settling],
            bind(sql.glance, *urgent, *came_back, mark.tail),
            *locks,
            begin=not self._begun,
        )
        if not self._begun:
            self._begun = True
            self.verdicts = verdicts(len(self.settlements), settling, results)
        glance, *locked = results[len(settling) :]
        now, paused_until, tail, due, passed = map(int, text(glance.rows[0][0]).split(" "))
        mark.glanced(tail, due, passed=bool(passed))
        if paused_until > now:
            self._looked.add(pipeline)  # there is nothing to look for
            return _Step(mark, now, [], None)
        if passed and not looked:
            # In the same transaction: jobs let go would be passed over by everybody who asks meanwhile.
            self._look(pipeline)
            return self._lock_next(pipeline, want)
        asked = None
        if picks:
            last = locked[len(picks) - 1].rows
            # One that gave less has read all of its jobs: the others are in somebody's hands.
            asked = key_of(last[-1]) if len(last) == picks[-1].limit else picks[-1].keys[-1]
        rows = [row for result in locked for row in result.rows]
        if not rows and not left:
            # All in somebody's hands: what is less urgent has its turn, and behind the mark are the last.
            mark.taken(asked, [])
            return self._lock_next(pipeline, want)
        return _Step(mark, now, rows, asked)
