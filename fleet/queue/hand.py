"""
What one process holds of the queue, and what is due when.  No I/O, no threads.

A job passes through three places: claimed and waiting in `buffer`, begun in
`running`, over in `finished` until its settlement is sent.  In all three its
lease is ours to keep, so it is in `held` too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from fleet.queue.job import Job, Settlement
from fleet.queue.pace import HAND, MAX_BATCH, Pace

_LATE = 1 / 6  # of a lease, which is to be renewed after a third
LINGER = 0.01  # seconds that a finished job may wait for others before it is settled
NEVER = float("inf")


class Hand:
    """
    The jobs of a process with `slots` slots.  Times are `time.monotonic()`; callers hold the lock.

    A job that came back from a worker that vanished is a suspect: it may kill
    this process as well, and then everything claimed beside it would look
    guilty too.  So a suspect is held alone.  Behind one there are often more,
    and what was claimed beside them was claimed in vain: claims begin with one
    job again, and double.

    Leases run from the moment that they are asked for.  A claim whose answer
    took a good part of them, from a server that syncs each of many settlements
    to a slow disk, is followed by one of half as many jobs.
    """

    __slots__ = (
        "_alone",
        "_most",
        "begun_at",
        "buffer",
        "finished",
        "finished_at",
        "held",
        "pace",
        "refused",
        "renew_at",
        "running",
        "slots",
    )

    def __init__(self, slots: int, *, alone: bool = False) -> None:
        self.slots = slots
        self.pace = Pace()
        self.buffer: deque[Job] = deque()
        self.running: dict[Job, float] = {}  # job -> when it was begun
        self.finished: list[Settlement] = []
        self.finished_at = NEVER  # when the oldest of them ended
        self.held: set[Job] = set()
        self.refused: set[Job] = set()  # the server said that these are no longer ours
        self.begun_at = 0.0  # when the last job was begun
        # No lease is to be renewed earlier; counted anew only then, for each look would cost.
        self.renew_at = NEVER
        self._alone = alone
        self._most = 1 if alone else MAX_BATCH  # jobs of the next claim

    def wanted(self) -> int:
        """How many jobs the next claim should ask for."""
        return min(self._most, max(self.slots - len(self.running), self.pace.batch(self.slots)))

    def take_in(self, jobs: list[Job], now: float, *, took: float = 0.0) -> list[Settlement]:
        """
        Keep what was claimed; the settlements give back what must not be held together.

        *took* is seconds from the question to the answer.
        """
        crashes = [job.crashes for job in jobs]
        suspect = next(i for i, count in enumerate(crashes) if count) if any(crashes) else None
        if self._alone or suspect is not None:
            self._most = 1
        elif took > min([job.ttr for job in jobs]) * _LATE:
            self._most = max(1, len(jobs) // 2)
        else:
            self._most = min(self._most * 2, MAX_BATCH)
        keep = jobs if suspect is None else jobs[: max(1, suspect)]
        self.buffer.extend(keep)
        self.held.update(keep)
        self.renew_at = min(self.renew_at, earliest_renewal(keep))
        self.begun_at = now  # they were not left waiting before they came
        return [unbegun(job) for job in jobs[len(keep) :]]

    def begin(self, now: float) -> Job:
        job = self.buffer.popleft()
        self.running[job] = self.begun_at = now
        return job

    def finish(self, settlement: Settlement, now: float) -> float | None:
        """
        Note how a job ended; the seconds that it ran.

        None when its lease was refused, so that there is nothing to settle.
        """
        job = settlement.job
        ran = now - self.running.pop(job, now)
        self.pace.saw(ran)
        if self.refused and job in self.refused:
            self.refused.discard(job)
            self.held.discard(job)
            return None
        if not self.finished:
            self.finished_at = now
        self.finished.append(settlement)
        return ran

    def drop(self, job: Job, now: float) -> float:
        """Forget a job that was settled without us; the seconds that it ran."""
        ran = now - self.running.pop(job, now)
        self.pace.saw(ran)
        self.held.discard(job)
        self.refused.discard(job)
        return ran

    def hand_over(self) -> list[Settlement]:
        """What is to be sent now; from here on nobody renews these leases."""
        batch, self.finished, self.finished_at = self.finished, [], NEVER
        self._let_go([settlement.job for settlement in batch])
        return batch

    def take_back(self, batch: Iterable[Settlement], now: float) -> None:
        """A batch that could not be sent."""
        batch = list(batch)
        if not batch:
            return
        self.finished[:0] = batch
        self.finished_at = now
        jobs = [settlement.job for settlement in batch]
        self.held.update(jobs)
        self.renew_at = min(self.renew_at, earliest_renewal(jobs))

    def empty_buffer(self) -> list[Settlement]:
        """Give back what was claimed and never begun."""
        jobs = list(self.buffer)
        self.buffer.clear()
        self._let_go(jobs)
        return [unbegun(job) for job in jobs]

    def _let_go(self, jobs: list[Job]) -> None:
        self.held.difference_update(jobs)
        if self.refused:
            self.refused.difference_update(jobs)

    def due_at(self) -> float:
        """When finished jobs must be sent, or waiting ones given back, at the latest."""
        due = self.finished_at + LINGER
        if self.buffer:
            due = min(due, self.begun_at + HAND)
        return due

    def is_stuck(self, now: float) -> bool:
        """Jobs wait behind one that takes longer than a whole claim was meant to: others may want them."""
        return bool(self.buffer) and now - self.begun_at >= HAND

    def due_renewals(self, now: float) -> list[Job]:
        """The leases to renew now; `plan_renewals` when that is done."""
        if now < self.renew_at:
            return []
        self.plan_renewals()
        return [job for job in self.held - self.refused if renewal(job) <= now]

    def plan_renewals(self) -> None:
        """Find `renew_at` anew.  A lease that was refused is never due again."""
        self.renew_at = earliest_renewal(self.held - self.refused)


def renewal(job: Job) -> float:
    """A lease is renewed when a third of it has gone by."""
    return job.expires_at - job.ttr * (2 / 3)


def earliest_renewal(jobs: Collection[Job]) -> float:
    # `renewal` of each, without a call for each.
    return min([job.expires_at - job.ttr * (2 / 3) for job in jobs], default=NEVER)


def unbegun(job: Job) -> Settlement:
    return Settlement(job=job, verb="release", counted=False)
