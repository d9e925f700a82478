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

from fleet.errors import BackendUnavailable, NotSupported, OutcomeUnknown, QueueError
from fleet.queue.bell import Bell
from fleet.queue.causes import ErrorGroup
from fleet.queue.courier import RETRY, Courier
from fleet.queue.hand import LINGER, NEVER, Hand
from fleet.queue.job import Job, Settlement
from fleet.queue.report import Report
from fleet.queue.vitals import EVERY, Tally, supervised

if TYPE_CHECKING:
    from fleet.queue.lifeline import Lifeline
    from fleet.queue.queue import Queue

SLICE = 5.0  # seconds: behind every push stands a claim; a stop ends a wait at once
_LONGEST_NAP = 10.0
_IDLE_PULSE = 6.0  # seconds between two pulses while nothing happens: each is a write
_PULSE_RETRY = 1.0  # seconds until a pulse that met a busy database is tried again: it waits for no lock


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

        self._lock = threading.Lock()  # guards _hand, _report and what _courier keeps; never held during I/O
        self._report = Report(self._pipelines, self._lock, run_dir)
        self._hand = Hand(slots, alone=alone)
        self._bell = Bell()
        self._courier = Courier(
            queue,
            self._pipelines,
            hand=self._hand,
            report=self._report,
            lock=self._lock,
            bell=self._bell,
            note=self._note,
            lifeline=lifeline,
        )
        self._fetching = threading.Lock()  # one claim at a time
        self._idle = False  # a slot waits for jobs, so that finished ones need not linger

        self._stopping = False
        self._paused = False
        self._closed = False

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
        hand, until = self._hand, None
        while True:
            with self._lock:
                if self._courier.failure is not None:
                    raise self._courier.failure
                if self._stopping:
                    return None
                if hand.buffer and not self._paused:
                    now = time.monotonic()
                    job = hand.begin(now)
                    # The keeper may look 10 ms late: a sleeper costs a system call to wake.
                    if now + LINGER < self._nap_until:
                        self._wake_by(hand.due_at())
                    return job
            if until is None:
                until = NEVER if timeout is None else time.monotonic() + timeout
            if self._paused:
                time.sleep(0.05)
            else:
                self._fetch(until)
            if time.monotonic() >= until and not hand.buffer:
                return None

    def settle(
        self, settlement: Settlement, *, failed: bool = False, error: ErrorGroup | None = None
    ) -> None:
        """
        Note how the job ended; *failed*: by an error, *error*: its cause, for those who count them.

        It is sent with the next claim, or within 10 ms of the next `take`.
        """
        job = settlement.job
        with self._lock:
            if job.lost and not self._late_settle:
                self._hand.refused.add(job)
            ran = self._hand.finish(settlement, time.monotonic())
            self._report.ended(job.pipeline, ran, failed, error)
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
        if self._courier.outage.since:
            return "waiting"
        if self._hand.running:
            return "busy"
        return "paused" if self._paused else "idle"

    def expire(self, now: float) -> None:
        """Mark the jobs whose lease could not be renewed in time; for a thread that waits for no server."""
        self._courier.expire(now)

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
            pause = self._courier.outage.pause()
            if self._courier.failure is not None or time.monotonic() + pause > until:
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
            if self._pulse_at != NEVER and not self._courier.outage.since:
                self._publish()  # the last seconds count too

    def _send_off(self) -> bool:
        with self._lock:
            batch = self._hand.hand_over() + self._hand.empty_buffer()
        return self._courier.send(batch)

    # -- claims

    def _fetch(self, until: float) -> None:
        """One claim by whoever comes first; the others wait for its result."""
        with self._fetching:
            with self._lock:
                if self._hand.buffer or self._stopping or self._paused or self._courier.failure:
                    return
                batch = self._hand.hand_over()
                limit = self._hand.wanted()
            came = self._courier.exchange(batch, limit)
            if came:
                self._wake_for_claim(time.monotonic())
            elif came is None:
                self._wait_out()
            else:
                self._wait_for_jobs(min(SLICE, until - time.monotonic()))

    def _wake_for_claim(self, now: float) -> None:
        """Jobs came in: the keeper renews their leases, and publishes as one that is busy."""
        due = self._hand.renew_at if now + LINGER < self._nap_until else NEVER
        if now + EVERY < self._pulse_at < NEVER:
            self._pulse_at = now + EVERY
            due = min(due, self._pulse_at)
        self._wake_by(due)

    def _wait_for_jobs(self, timeout: float) -> None:
        self._idle = True  # from here on who settles rings; what was settled before is seen below
        try:
            if timeout > 0 and not self._is_needed():
                self._queue.wait(self._pipelines, timeout)
        except (BackendUnavailable, OutcomeUnknown) as error:
            self._courier.away(error)
            self._wait_out()
        except QueueError as error:
            self._courier.failure = error
        finally:
            self._idle = False

    def _is_needed(self) -> bool:
        return bool(self._stopping or self._paused or self._courier.outage.since or self._hand.finished)

    def _wait_out(self) -> None:
        """One pause of an outage; none for a failure, which no waiting heals."""
        if self._courier.failure is not None:
            return
        until = time.monotonic() + self._courier.outage.pause()
        while not (self._stopping or self._closed):
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.25))

    def _wake_by(self, due: float) -> None:
        """Ring only when the keeper means to sleep much longer, and only once for that."""
        if due < self._nap_until - LINGER:
            self._nap_until = due
            self._bell.ring()

    # -- the keeper

    def _keep(self) -> None:
        while not self._closed:
            self._nap_until = NEVER  # whatever comes up while we look rings, and the nap ends at once
            now = time.monotonic()
            try:
                if self._idle and (self._stopping or self._paused):
                    self._queue.wake()
                due = min(self._courier.renew(now), self._tidy(now))
                if now >= self._pulse_at:
                    self._pulse_at = now + (_IDLE_PULSE if self.state == "idle" else EVERY)
                    self._publish()
            except Exception as error:  # a keeper that died would let every lease run out unseen
                self._courier.failure = error
                due = NEVER
            if self._courier.outage.since:
                due = max(due, now + RETRY)
                if line := self._courier.outage.line(now):
                    self._note(line)
            self._nap_until = min(due, self._pulse_at, now + _LONGEST_NAP)
            self._courier.beat(self._nap_until)
            self._bell.wait(self._nap_until - time.monotonic())

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
        self._courier.send(batch)
        return time.monotonic()

    def _publish(self) -> None:
        outage = self._courier.outage
        try:
            written = self._report.publish(self._queue, self.state, self.running(), note=str(outage))
        except NotSupported:
            self._pulse_at = NEVER
            return
        if not written and not outage.since:
            self._pulse_at = min(self._pulse_at, time.monotonic() + _PULSE_RETRY)


def _say_nothing(_: str) -> None: ...
