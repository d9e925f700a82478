"""
The engine behind `queue.consume` and the worker: claim a little ahead, keep the leases, settle in batches.

Slots, one or several threads, call `take` and `settle`.  The slot that finds
nothing to do makes the next claim, and the same exchange carries the
settlements of the last one.  One more thread, the keeper, does what cannot
wait for a slot: it renews leases, sends settlements that lingered, gives back
jobs that wait behind a slow one, and publishes the pulse.  It writes no log
line, so no blocked log can cost a lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fleet.errors import BackendUnavailable, OutcomeUnknown, QueueError
from fleet.queue.bell import Bell
from fleet.queue.causes import ErrorGroup
from fleet.queue.hand import LINGER, NEVER, Hand
from fleet.queue.job import Job, Settlement
from fleet.queue.outage import Outage
from fleet.queue.report import Report
from fleet.queue.vitals import EVERY, Tally, supervised

if TYPE_CHECKING:
    from fleet.queue.lifeline import Lifeline
    from fleet.queue.queue import Queue

SLICE = 5.0  # seconds: behind every push stands a claim; a stop ends a wait at once
_LONGEST_NAP = 10.0
_IDLE_PULSE = 6.0  # seconds between two pulses while nothing happens: each is a write
_RETRY = 0.5  # seconds between attempts to renew while the server is away


class Consumer:
    """
    Jobs for one or several slots; every method is safe in every thread.

    The keeper is a thread: a body that holds the interpreter's lock in C code
    for more than two thirds of the ttr loses its lease, unless there is a
    *lifeline*.

    An outage is waited out inside; what waiting cannot heal (`SchemaError`, a
    refused permission) comes out of `take`.

    pipelines  in strict order: the first is emptied before the next is looked at
    slots      how many threads or tasks call `take`
    alone      claim one job at a time, however short they are
    pulse      publish one every two seconds, six when idle; None: when supervisord runs us
    note       gets one line about an outage or a lost lease; must not block
    run_dir    where the pulse goes when the back end has no tables; "": nowhere
    lifeline   renews leases while the interpreter stands still
    """

    def __init__(
        self,
        queue: Queue,
        pipelines: Sequence[str],
        *,
        slots: int = 1,
        alone: bool = False,
        pulse: bool | None = None,
        note: Callable[[str], None] | None = None,
        run_dir: str = "",
        lifeline: Lifeline | None = None,
    ) -> None:
        self._queue = queue
        self._pipelines = tuple(pipelines)
        self._note = note or _say_nothing
        self._lifeline = lifeline
        self._late_settle = queue.capabilities.late_settle
        self._pulse_at = 0.0 if (supervised() if pulse is None else pulse) else NEVER

        self._lock = threading.Lock()  # guards _hand, _doubtful and _report; never held during I/O
        self._report = Report(self._pipelines, self._lock, run_dir)
        self._hand = Hand(slots, alone=alone)
        self._doubtful: set[Job] = set()  # sent once already, and the answer got lost
        self._fetching = threading.Lock()  # one claim at a time
        self._idle = False  # a slot waits for jobs, so that finished ones need not linger

        self._stopping = False
        self._paused = False
        self._closed = False
        self._failure: Exception | None = None
        self._outage = Outage()

        self._bell = Bell()
        self._nap_until = NEVER  # when the keeper wakes by itself
        self._keeper = threading.Thread(target=self._keep, name="fleet-keeper", daemon=True)
        self._keeper.start()

    @property
    def tally(self) -> Tally:
        return self._report.tally

    # -- slots

    def take(self, timeout: float | None = None) -> Job | None:
        """
        The next job; None when the consumer stops, or after *timeout* seconds.

        Raises:
            QueueError: something that waiting does not heal.
        """
        until = NEVER if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._failure is not None:
                    raise self._failure
                if self._stopping:
                    return None
                if self._hand.buffer and not self._paused:
                    now = time.monotonic()
                    job = self._hand.begin(now)
                    # The keeper may look 10 ms late: a sleeper costs a system call to wake.
                    due = self._hand.due_at() if now + LINGER < self._nap_until else NEVER
                    break
            if self._paused:
                time.sleep(0.05)
            else:
                self._fetch(until)
            if time.monotonic() >= until and not self._hand.buffer:
                return None
        self._wake_by(due)
        return job

    def settle(
        self, settlement: Settlement, *, failed: bool = False, error: ErrorGroup | None = None
    ) -> None:
        """
        Note how the job ended; *failed*: by an error, *error*: its cause, for those who count them.

        It is sent with the next claim, or within 10 ms of the next `take`.
        """
        now = time.monotonic()
        job = settlement.job
        with self._lock:
            if job.lost and not self._late_settle:
                self._hand.refused.add(job)
            ran = self._hand.finish(settlement, now)
            self._report.ended(job.pipeline, ran, failed=failed, error=error)
        if ran is None:
            self._note(f"lease-lost job={job.id} pipeline={job.pipeline} attempt={job.attempt}")
        elif self._idle or self._paused or self._stopping:
            self._bell.ring()
        # Else `take` either claims, which sends this too, or has the keeper send it in 10 ms.

    def forget(self, job: Job) -> None:
        """The job was settled without us, by its own handle; it counts as done."""
        now = time.monotonic()
        with self._lock:
            self._report.settled_without_us(job.pipeline, self._hand.drop(job, now))

    def note_error(self, error: ErrorGroup | None) -> None:
        """Count the cause of an attempt that `abandon` is going to end."""
        if error is not None:
            with self._lock:
                self._report.error(error)

    def crashed(self, job: Job) -> None:
        """The job came from a worker that vanished."""
        with self._lock:
            self._report.crashed(job)

    def begun_at(self, job: Job) -> float:
        """When the job in hand was begun, by `time.monotonic()`."""
        with self._lock:
            return self._hand.running.get(job, time.monotonic())

    def running(self) -> list[tuple[Job, float]]:
        """Jobs that are being worked on, with the `time.monotonic()` when they were begun."""
        with self._lock:
            return list(self._hand.running.items())

    # -- orders from outside

    def stop(self) -> None:
        """Claim nothing more and give back what was not begun.  Safe in a signal handler."""
        self._stopping = True
        self._bell.ring()

    def pause(self) -> None:
        """Like `stop`, until `resume`."""
        self._paused = True
        self._bell.ring()

    def resume(self) -> None:
        self._paused = False

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def state(self) -> str:
        """idle busy waiting paused draining, as in a pulse."""
        if self._stopping:
            return "draining"
        if self._outage.since:
            return "waiting"
        if self._hand.running:
            return "busy"
        return "paused" if self._paused else "idle"

    def expire(self, now: float) -> None:
        """Mark the jobs whose lease could not be renewed in time; for a thread that waits for no server."""
        with self._lock:
            for job in self._hand.running:
                if self._is_over(job, now):
                    job.lost = True

    def abandon(self, settlements: Iterable[Settlement]) -> None:
        """Settle jobs that are still being worked on, because this process is about to end hard."""
        batch = list(settlements)
        with self._lock:
            for settlement in batch:
                self._hand.drop(settlement.job, time.monotonic())
            batch += self._hand.hand_over() + self._hand.empty_buffer()
        if batch:
            self._queue.exchange(batch, (), 0)
        if self._pulse_at != NEVER:
            self._publish()

    def close(self, patience: float = 5.0) -> None:
        """Settle what is over, give back the rest, and end the keeper; an outage is waited for that long."""
        self.stop()
        until = time.monotonic() + patience
        while not self._send_off():
            pause = self._outage.pause()
            if self._failure is not None or time.monotonic() + pause > until:
                break
            time.sleep(pause)
        with self._lock:
            left = len(self._hand.finished)
        if left:
            self._note(
                f"unsettled jobs={left}: the back end is away; they run again when their leases are over"
            )
        self._closed = True
        self._bell.ring()
        if self._idle:
            self._queue.wake()  # the keeper may be gone before it could
        if threading.current_thread() is not self._keeper:
            self._keeper.join(patience)
        if not self._keeper.is_alive():
            self._bell.close()
            if self._lifeline is not None:
                self._lifeline.close()
            if self._pulse_at != NEVER and not self._outage.since:
                self._publish()  # the last seconds count too

    def _send_off(self) -> bool:
        with self._lock:
            batch = self._hand.hand_over() + self._hand.empty_buffer()
        return self._send(batch)

    # -- claims

    def _fetch(self, until: float) -> None:
        """One claim by whoever comes first; the others wait for its result."""
        with self._fetching:
            with self._lock:
                if self._hand.buffer or self._stopping or self._paused or self._failure:
                    return
                batch = self._hand.hand_over()
                limit = self._hand.wanted()
            if self._exchange(batch, limit):
                return
            timeout = min(SLICE, until - time.monotonic())
            self._idle = True  # from here on who settles rings; what was settled before is seen below
            try:
                if timeout > 0 and not self._is_needed():
                    self._queue.wait(self._pipelines, timeout)
            except (BackendUnavailable, OutcomeUnknown) as error:
                self._wait_out(error)
            except QueueError as error:
                self._fail(error)
            finally:
                self._idle = False

    def _is_needed(self) -> bool:
        return bool(self._stopping or self._paused or self._outage.since or self._hand.finished)

    def _exchange(self, batch: list[Settlement], limit: int) -> bool:
        """Settle and claim; True when jobs came in.  Waits out a failure for one pause."""
        try:
            verdicts, jobs = self._queue.exchange(batch, self._pipelines, limit)
        except (BackendUnavailable, OutcomeUnknown) as error:
            self._keep_for_later(batch, error)
            self._wait_out(error)
            return False
        except QueueError as error:
            self._fail(error)
            return False
        for job in jobs:
            _ = job.crashes  # beanstalkd is asked for it at the first look: now, not under the lock
        self._answered()
        with self._lock:
            lost = self._count(batch, verdicts)
            now = time.monotonic()
            if jobs:
                self._report.claimed(jobs)
            surplus = self._hand.take_in(jobs, now) if jobs else []
            if self._lifeline is not None and jobs:
                self._lifeline.hold(self._hand.held, now)
            due = self._hand.renew_at() if now + LINGER < self._nap_until else NEVER
        if jobs and now + EVERY < self._pulse_at < NEVER:
            self._pulse_at = now + EVERY  # idle no more
            due = min(due, self._pulse_at)
        self._tell_lost(lost)
        if surplus:
            self._send(surplus)
        self._wake_by(due)
        return bool(jobs)

    def _send(self, batch: list[Settlement]) -> bool:
        """Settle without claiming; what cannot be sent is kept."""
        if not batch:
            return True
        try:
            verdicts, _ = self._queue.exchange(batch, (), 0)
        except (BackendUnavailable, OutcomeUnknown) as error:
            self._keep_for_later(batch, error)
            self._away(error)
            return False
        except QueueError as error:
            self._fail(error)
            return False
        self._answered()
        with self._lock:
            lost = self._count(batch, verdicts)
        self._tell_lost(lost)
        return True

    def _count(self, batch: list[Settlement], verdicts: Sequence[bool]) -> list[Job]:
        """Add the verdicts to the report; the jobs whose lease was gone."""
        lost = self._report.settled(batch, verdicts, self._doubtful)
        if self._doubtful:
            self._doubtful.difference_update([settlement.job for settlement in batch])
        return lost

    def _keep_for_later(self, batch: list[Settlement], error: QueueError) -> None:
        with self._lock:
            self._hand.take_back(batch, time.monotonic())
            if isinstance(error, OutcomeUnknown):
                # Sent again, a refusal will most likely mean that the first time worked.
                self._doubtful.update(settlement.job for settlement in batch)

    def _tell_lost(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.lost = True
            self._note(f"lease-lost job={job.id} pipeline={job.pipeline} attempt={job.attempt}")

    def _wake_by(self, due: float) -> None:
        """Ring only when the keeper means to sleep much longer, and only once for that."""
        if due < self._nap_until - LINGER:
            self._nap_until = due
            self._bell.ring()

    # -- outages

    def _wait_out(self, error: QueueError) -> None:
        self._away(error)
        until = time.monotonic() + self._outage.pause()
        while not (self._stopping or self._closed):
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.25))

    def _away(self, error: QueueError) -> None:
        if not self._outage.since:
            self._outage.begin(error)
            self._bell.ring()  # the keeper tells of it

    def _answered(self) -> None:
        if self._outage.since:
            self._note(self._outage.end())

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._failure = error

    # -- the keeper

    def _keep(self) -> None:
        while not self._closed:
            self._nap_until = NEVER  # whatever comes up while we look rings, and the nap ends at once
            now = time.monotonic()
            try:
                if self._idle and (self._stopping or self._paused):
                    self._queue.wake()
                due = min(self._renew(now), self._tidy(now))
                if now >= self._pulse_at:
                    self._pulse_at = now + (_IDLE_PULSE if self.state == "idle" else EVERY)
                    self._publish()
            except Exception as error:  # a keeper that died would let every lease run out unseen
                self._fail(error)
                due = NEVER
            if self._outage.since:
                due = max(due, now + _RETRY)
                if line := self._outage.line(now):
                    self._note(line)
            self._nap_until = min(due, self._pulse_at, now + _LONGEST_NAP)
            self._beat()
            self._bell.wait(self._nap_until - time.monotonic())

    def _beat(self) -> None:
        if self._lifeline is not None:
            with self._lock:
                line = self._lifeline.beat(self._hand.held, time.monotonic(), self._nap_until)
            if line:
                self._note(line)

    def _is_over(self, job: Job, now: float) -> bool:
        if job.expires_at > now:
            return False
        return self._lifeline is None or self._lifeline.kept_until(job) <= now

    def _tidy(self, now: float) -> float:
        """Send what lingered, give back what waits in vain; when to look again."""
        with self._lock:
            hand = self._hand
            batch: list[Settlement] = []
            if hand.finished and (self._idle or now >= hand.finished_at + LINGER):
                batch = hand.hand_over()
            if hand.buffer and (self._stopping or self._paused or hand.is_stuck(now)):
                batch += hand.empty_buffer()
            if not batch:
                return hand.due_at()
        self._send(batch)
        return time.monotonic()

    def _renew(self, now: float) -> float:
        """Renew the leases that are due; when the next one will be."""
        with self._lock:
            jobs = self._hand.due_renewals(now)
            if not jobs:
                return self._hand.renew_at()
        try:
            verdicts = self._queue.touch_many(jobs)
        except (BackendUnavailable, OutcomeUnknown) as error:
            self._away(error)
            now = time.monotonic()
            with self._lock:
                for job in jobs:
                    if self._is_over(job, now):
                        job.lost = True  # nobody confirmed it, so somebody else may have the job by now
            return now + _RETRY
        self._answered()
        with self._lock:
            for job, renewed in zip(jobs, verdicts, strict=True):
                # A job that left the hand while we asked was settled by us: that is no loss.
                job.lost = not renewed and job in self._hand.held and not job.settled
                if job.lost:
                    self._hand.refused.add(job)
            return self._hand.renew_at()

    def _publish(self) -> None:
        if not self._report.publish(self._queue, self.state, self.running(), note=str(self._outage)):
            self._pulse_at = NEVER


def _say_nothing(_: str) -> None: ...
