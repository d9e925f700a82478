"""Settling jobs and claiming others, in one statement where that can be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from fleet.errors import BackendUnavailable, DsnError, OutcomeUnknown, QueueError
from fleet.queue.backends.postgres import rows as values_of
from fleet.queue.backends.postgres.exchange import Settles
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Cut, Session
from fleet.queue.backends.postgres.statements import Statements
from fleet.queue.backends.postgres.waiting import Waiting
from fleet.queue.backends.postgres.watermark import Watermark
from fleet.queue.job import Job, Settlement

_READY_CHUNK = 10_000  # due jobs made ready in one transaction: a million at once must not stop everybody
_READY_SECONDS = 2.0  # and after that long the claim takes what is there


class Claims:
    def __init__(self, runner: Runner, sql: Statements, waiting: Waiting) -> None:
        self.watermarks: dict[tuple[str, ...], Watermark] = {}
        self._runner = runner
        self._sql = sql
        self._waiting = waiting

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        """As `Backend.exchange`."""
        names = tuple(pipelines)
        if limit and self._runner.joins():
            raise ValueError(
                "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                "fleet.connect(dsn), or a connection in autocommit mode that is not in a transaction."
            )
        began = time.monotonic()
        try:
            if limit:
                return self._settle_and_claim(settlements, names, limit, token)
            return self._runner.run(partial(self._settle, settlements)), []
        except Cut as cut:
            return self._find_out(settlements, names, limit, token, cut, began)

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
        verdicts: list[bool] = []
        jobs: list[Job] = []
        try:
            self._claim_after(settlements, names, limit, token, verdicts, jobs)
        except QueueError:
            # What was done before, say, a full disk came in between must be told; the next claim meets it.
            if not (verdicts or jobs):
                raise
        return verdicts, jobs

    def _claim_after(
        self,
        settlements: Sequence[Settlement],
        names: tuple[str, ...],
        limit: int,
        token: int,
        verdicts: list[bool],
        jobs: list[Job],
    ) -> None:
        """Fills *verdicts* with the first statement, which also settles, and *jobs* with what is claimed."""
        watermark = self._watermark(names)
        mark = self._waiting.mark(names)
        looks = self._waiting.is_looking(names)  # nothing was there the last time
        gated = True
        while True:
            marked = watermark if watermark.is_set() and not looks else None
            claim = partial(self._claim, settlements, names, limit, token, gated, marked, looks)
            settled, found, (due, now, took, soon) = self._runner.run(claim)
            verdicts += settled
            jobs += found
            settlements = ()
            if due and len(names) > 1:
                # One after the other: what is due further down stays as it is while those above give enough.
                for name in names:
                    jobs += self._settle_and_claim((), (name,), limit - len(jobs), token)[1]
                    if len(jobs) == limit:
                        break
                if jobs:
                    self._waiting.found(names)
                    return
            if due:
                self._make_ready(names)
                gated = False
                continue
            watermark.learn(jobs, limit, took, now, from_start=marked is None)
            if jobs:
                self._waiting.found(names)
                return
            if looks:
                self._waiting.found_nothing(names, soon, mark)
                return
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
        return verdicts, values_of.reserved(rows, token, now, asked_at, names), (due, now, took, soon)

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
        began: float,
    ) -> tuple[list[bool], list[Job]]:
        """
        Carry on after the answer was lost, for the truth is not.

        The token finds the jobs that were claimed.  A job that still carries
        the token of its settlement was not settled yet; one that is gone was,
        by us if the lease was ours when we *began* (else it may be anybody's work).
        """
        what = {"pipelines": list(names), "token": token}
        try:
            asked_at = time.monotonic()
            rows = self._runner.read(self._sql.found, what) if limit else []
            now = rows[0][-1] if rows else 0
            jobs = values_of.reserved(rows, token, now, asked_at, names)
            for job, row in zip(jobs, rows, strict=True):
                job.expires_at = asked_at + row[-2] / 1e6
            ids = values_of.numbers(s.job.id for s in settlements)
            holders = dict(self._runner.read(self._sql.holders, {"ids": ids})) if settlements else {}
            open_ = [s for s in settlements if holders.get(s.job.id, 0) == s.job.token]
            if jobs or not limit:
                settled = self._runner.run(partial(self._settle, open_))
                more: list[Job] = []
            else:
                settled, more = self._settle_and_claim(open_, names, limit, token)
            if not all(settled):
                # The server was still at it when we looked, perhaps, and ended it before we tried again.
                holders = dict(self._runner.read(self._sql.holders, {"ids": ids}))
        except (Cut, BackendUnavailable, DsnError) as error:
            if settlements:
                raise OutcomeUnknown(f"{cut}; jobs may be settled. Settling them again is safe.") from error
            raise BackendUnavailable(str(cut)) from error
        again = {id(s) for s, done in zip(open_, settled, strict=True) if done}
        verdicts = [
            id(s) in again
            or (
                s.job.expires_at > began
                and (s.job.id not in holders or (s.verb != "delete" and holders[s.job.id] == 0))
            )
            for s in settlements
        ]
        return verdicts, jobs + more

    def _watermark(self, names: tuple[str, ...]) -> Watermark:
        if names not in self.watermarks:
            if len(self.watermarks) > 100:  # somebody asks for ever new sets of pipelines
                self.watermarks.clear()
            self.watermarks[names] = Watermark()
        return self.watermarks[names]
