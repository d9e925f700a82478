"""A consumer's talk with the back end: settlements there, jobs back, leases renewed; and its outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fleet.errors import BackendUnavailable, OutcomeUnknown, QueueError
from fleet.queue.bell import Bell
from fleet.queue.hand import Hand
from fleet.queue.job import Job, Settlement
from fleet.queue.outage import Outage
from fleet.queue.report import Report

if TYPE_CHECKING:
    from fleet.queue.lifeline import Lifeline
    from fleet.queue.queue import Queue

RETRY = 0.5  # seconds between attempts to renew while the server is away


class Courier:
    """
    Keeps *hand* and *report* true to what the back end answered.

    Holds the consumer's *lock* for these books only, never during I/O; callers
    do not hold it.  Raises nothing: what waiting heals is an `outage`, during
    which *bell* has somebody tell of it, and what it does not is the `failure`.
    """

    def __init__(
        self,
        queue: Queue,
        pipelines: tuple[str, ...],
        *,
        hand: Hand,
        report: Report,
        lock: threading.Lock,
        bell: Bell,
        note: Callable[[str], None],
        lifeline: Lifeline | None,
    ) -> None:
        self.outage = Outage()
        self.failure: Exception | None = None
        self._queue = queue
        self._pipelines = pipelines
        self._hand = hand
        self._report = report
        self._lock = lock
        self._bell = bell
        self._note = note
        self._lifeline = lifeline
        self._doubtful: set[Job] = set()  # sent once already, and the answer got lost

    # -- settlements and claims

    def exchange(self, batch: list[Settlement], limit: int) -> bool | None:
        """Settle and claim; True when jobs came in, None when it did not work."""
        asked_at = time.monotonic()
        try:
            verdicts, jobs = self._queue.exchange(batch, self._pipelines, limit)
        except QueueError as error:
            self._keep_for_later(batch, error)
            return None
        for job in jobs:
            _ = job.crashes  # beanstalkd is asked for it at the first look: now, not under the lock
        surplus: list[Settlement] = []
        with self._lock:
            lost = self._count(batch, verdicts)
            if jobs:
                now = time.monotonic()
                self._report.claimed(jobs)
                surplus = self._hand.take_in(jobs, now, took=now - asked_at)
                if self._lifeline is not None:
                    self._lifeline.hold(self._hand.held, now)
        self._answered(lost)
        self.send(surplus)
        return bool(jobs)

    def send(self, batch: list[Settlement]) -> bool:
        """Settle without claiming; what cannot be sent is kept."""
        if not batch:
            return True
        try:
            verdicts, _ = self._queue.exchange(batch, (), 0)
        except QueueError as error:
            self._keep_for_later(batch, error)
            return False
        with self._lock:
            lost = self._count(batch, verdicts)
        self._answered(lost)
        return True

    def _count(self, batch: list[Settlement], verdicts: Sequence[bool]) -> list[Job]:
        """Add the verdicts to the report; the jobs whose lease was gone."""
        lost = self._report.settled(batch, verdicts, self._doubtful)
        if self._doubtful:
            self._doubtful.difference_update([settlement.job for settlement in batch])
        return lost

    def _keep_for_later(self, batch: list[Settlement], error: QueueError) -> None:
        if not isinstance(error, BackendUnavailable | OutcomeUnknown):
            self.failure = error
            return
        with self._lock:
            self._hand.take_back(batch, time.monotonic())
            if isinstance(error, OutcomeUnknown):
                # Sent again, a refusal will most likely mean that the first time worked.
                self._doubtful.update(settlement.job for settlement in batch)
        self.away(error)

    # -- leases

    def renew(self, now: float) -> float:
        """Renew the leases that are due; when the next one will be."""
        with self._lock:
            jobs = self._hand.due_renewals(now)
            if not jobs:
                return self._hand.renew_at
        try:
            verdicts = self._queue.touch_many(jobs)
        except (BackendUnavailable, OutcomeUnknown) as error:
            self.away(error)
            self._lose(jobs, time.monotonic())
            return now + RETRY
        with self._lock:
            for job, renewed in zip(jobs, verdicts, strict=True):
                # A job that left the hand while we asked was settled by us: that is no loss.
                job.lost = not renewed and job in self._hand.held and not job.settled
                if job.lost:
                    self._hand.refused.add(job)
            self._hand.plan_renewals()
            renew_at = self._hand.renew_at
        self._answered([])
        return renew_at

    def expire(self, now: float) -> None:
        """Mark the jobs whose lease could not be renewed in time."""
        self._lose(self._hand.running, now)

    def beat(self, until: float) -> None:
        """The keeper is awake, and will be again at *until*."""
        if self._lifeline is not None:
            with self._lock:
                line = self._lifeline.beat(self._hand.held, time.monotonic(), until)
            if line:
                self._note(line)

    def _lose(self, jobs: Iterable[Job], now: float) -> None:
        """Nobody confirmed these leases: where one is over, somebody else may have the job by now."""
        with self._lock:
            for job in jobs:
                if job.expires_at <= now and (
                    self._lifeline is None or self._lifeline.kept_until(job) <= now
                ):
                    job.lost = True

    # -- outages

    def away(self, error: QueueError) -> None:
        if not self.outage.since:
            self.outage.begin(error)
            self._bell.ring()  # the keeper tells of it

    def _answered(self, lost: Sequence[Job]) -> None:
        if self.outage.since:
            self._note(self.outage.end())
        for job in lost:
            job.lost = True
            self._note(f"lease-lost job={job.id} pipeline={job.pipeline} attempt={job.attempt}")
