"""Settling jobs and claiming others, in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from fleet.queue.backends.sqlite.clock import Clock
from fleet.queue.backends.sqlite.connection import Link
from fleet.queue.backends.sqlite.rows import BURIED, DELAYED, READY
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.job import Job, JobState, Settlement

_PROMOTE_CHUNK = 10_000  # due jobs made ready in one transaction: a million at once must not stop everybody


class Claims:
    def __init__(self, link: Link, sql: Statements, clock: Clock) -> None:
        self._link = link
        self._sql = sql
        self._clock = clock

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        """As `Backend.exchange`."""
        if len(settlements) == 1 and not limit and self._delete_alone(settlements[0]):
            return [True], []
        verdicts, jobs, more = self._settle_and_claim(settlements, pipelines, limit, token)
        while more and not jobs:
            _, jobs, more = self._settle_and_claim((), pipelines, limit, token)
        return verdicts, jobs

    def _delete_alone(self, settlement: Settlement) -> bool:
        """Delete a job that is not the newest, for which one statement will do; False changed nothing."""
        if settlement.verb != "delete":
            return False
        fence = (settlement.job.id, settlement.job.token)
        return (
            self._link.write(lambda db: db.execute(self._sql.delete_older, fence).rowcount, alone=True) == 1
        )

    def _settle_and_claim(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job], bool]:
        def step(db: sqlite3.Connection) -> tuple[list[bool], list[Job], bool]:
            verdicts = self._settle(db, settlements, one_by_one)
            return verdicts, *self._claim(db, pipelines, limit, token)

        # The caller's transaction is not ours to roll back.
        one_by_one = len(settlements) == 1 or self._link.joins()
        # A claim of one job from one pipeline commits as the single statement that writes.
        alone = not settlements and len(pipelines) == 1 and limit == 1
        try:
            return self._link.write(step, hands_out=limit > 0, alone=alone)
        except _SomeLost:
            one_by_one = True
            return self._link.write(step, hands_out=limit > 0)

    def _settle(
        self, db: sqlite3.Connection, settlements: Sequence[Settlement], one_by_one: bool
    ) -> list[bool]:
        if not settlements:
            return []
        deletes = [s.job for s in settlements if s.verb == "delete"]
        if deletes:
            db.execute(self._sql.keep_last, (max([job.id for job in deletes]),))
        if not one_by_one:
            self._delete_all(db, deletes)
            if len(deletes) == len(settlements):
                return [True] * len(deletes)
        verdicts = []
        now = self._clock.wall()
        for s in settlements:
            fence = (s.job.id, s.job.token)
            if s.verb != "delete":
                state = BURIED if s.verb == "bury" else DELAYED if s.delay else READY
                values = (
                    state,
                    now + round(s.delay * 1e6),
                    s.priority,
                    s.reason.encode(errors="replace").decode(),  # a lone surrogate is no reason to fail
                    0 if s.counted else 1,
                    *fence,
                )
                verdicts.append(db.execute(self._sql.put_back, values).rowcount == 1)
            else:
                verdicts.append(not one_by_one or db.execute(self._sql.delete, fence).rowcount == 1)
        return verdicts

    def _delete_all(self, db: sqlite3.Connection, jobs: Sequence[Job]) -> None:
        """A statement for the jobs of each claim.  If its count does not add up, all are asked one by one."""
        ids: dict[int, list[int]] = {}
        for job in jobs:
            ids.setdefault(job.token, []).append(job.id)
        for token, held in ids.items():
            if db.execute(self._sql.delete_many, (str(held), token)).rowcount != len(held):
                raise _SomeLost

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
            room = limit - len(jobs)
            for gated in (True, False):
                rows = self._lease(db, (pipeline, now, boot, room, gated), token)
                if rows or not gated:
                    break
                paused, due = db.execute(self._sql.why_none, (pipeline, now, boot)).fetchone()
                if paused or not due:
                    break
                if self._make_ready(db, pipeline, now, boot):
                    return jobs, True
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
                for id_, payload, priority, ttr, attempts, crashes, run_at, reason, uid, unique in rows
            ]
        return jobs, False

    def _lease(
        self, db: sqlite3.Connection, asked: tuple[str, int, int, int, bool], token: int
    ) -> list[tuple[Any, ...]]:
        """Lease the first ready jobs of a pipeline, and give their rows in order."""
        _, _, boot, room, _ = asked
        if room == 1:
            return db.execute(self._sql.claim_one, (*asked, token)).fetchall()
        rows = db.execute(self._sql.first, asked).fetchall()
        if rows:
            db.execute(self._sql.lease, (token, boot, str([row[0] for row in rows])))
        return rows

    def _make_ready(self, db: sqlite3.Connection, pipeline: str, now: int, boot: int) -> bool:
        """Due jobs and lost leases become ready; True when there are more than one transaction takes."""
        due = db.execute(self._sql.promote, (pipeline, now, _PROMOTE_CHUNK)).rowcount
        over = db.execute(self._sql.rescue, (now, pipeline, boot, _PROMOTE_CHUNK)).rowcount
        return due == _PROMOTE_CHUNK or over == _PROMOTE_CHUNK


class _SomeLost(Exception):
    """A batch of deletes hit fewer rows than jobs: it is rolled back and asked one by one."""
