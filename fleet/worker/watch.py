"""
The worker's second thought: signals, time limits, recycling, a dead supervisord.

One thread that waits for no server and no reader, so that a worker can always
be ended.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fleet.queue.bell import Bell
from fleet.queue.consumer import Consumer
from fleet.queue.job import Job, Settlement
from fleet.queue.vitals import resident_bytes
from fleet.worker import signals
from fleet.worker.family import end_family
from fleet.worker.log import Log
from fleet.worker.orphan import Parentage
from fleet.worker.outcome import Interrupted, JobTimeout, after_error, group_of, interrupted
from fleet.worker.slots import Slots
from fleet.worker.spec import WorkerSpec

AFTER_TIMEOUT = 5.0  # seconds that a handler gets to end once JobTimeout was raised in it
AFTER_INTERRUPT = 1.0  # the same when the worker must end
EXIT_STUCK = 70  # the handler did not end: supervisord starts another worker
_NAP = 1.0
_SUMMARY_EVERY = 10.0
_LOOK_EVERY = 2.0  # at memory and age
_LAST_WORDS = 2.0  # seconds that a hard exit spends on telling the server
_DEAD_MAN = 5.0  # on top of these, if a handler holds the interpreter's lock and so stops this thread


@dataclass(slots=True)
class Blow:
    """An error raised in a handler, and when the process ends if that did not help."""

    error: JobTimeout
    hard_at: float


class Watch:
    """
    Ends what must end.

    Draining, for whatever reason, gives the jobs in hand `grace` seconds; then
    `Interrupted` is raised in them, and a second later the process is gone,
    its jobs released.  A second stop signal skips the waiting.
    """

    def __init__(
        self, spec: WorkerSpec, consumer: Consumer, slots: Slots, log: Log, *, supervised: bool
    ) -> None:
        self._spec = spec
        self._consumer = consumer
        self._slots = slots
        self._log = log
        self._supervised = supervised
        self._parentage = Parentage(supervised=supervised)
        self._started = time.monotonic()
        self._blows: dict[Job, Blow] = {}
        self._stop_signals = 0
        self._deadline: float | None = None
        self._summary_at = self._started + _SUMMARY_EVERY
        self._summed_up = (0, 0, 0)
        self._look_at = self._started
        self._title = _title_setter()
        self._before: signals.Before = {}
        self._over = False
        self._interrupted = False
        self._bell = Bell()
        self._thread = threading.Thread(target=self._run, name="fleet-watch", daemon=True)

    def start(self) -> None:
        """Hear signals and watch; called in the main thread."""
        self._before = signals.hear(self._bell)
        self._thread.start()

    def end(self) -> None:
        """Watch no longer; signals are not heard any more either."""
        self._over = True
        if self._interrupted:
            end_family()  # while signals are still heard: a second SIGTERM ends us before it otherwise
        signals.restore(self._before)
        self._bell.ring()
        self._thread.join(_NAP)
        faulthandler.cancel_dump_traceback_later()

    @property
    def patience(self) -> float:
        """Seconds that are left for settling the last jobs."""
        left = self._spec.grace if self._deadline is None else self._deadline - time.monotonic()
        return min(10.0, max(1.0, left))

    def may_leave(self) -> bool:
        """An exit before `startsecs` would count as a failed start."""
        return time.monotonic() - self._started > self._spec.startsecs + 1.0

    def drain(self, why: str) -> None:
        """Stop claiming, and end when the jobs in hand are over."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._spec.grace
        if not self._consumer.stopping:
            self._log("draining", why=why, in_hand=len(self._consumer.running()), grace=self._spec.grace)
            self._consumer.stop()

    # -- the thread

    def _run(self) -> None:
        nap = min(_NAP, self._spec.timeout / 4)
        while not self._over:
            try:
                due = self._look(time.monotonic()) - time.monotonic()
            except Exception as error:  # a watch that died would leave a worker that cannot be ended
                self._failed(error)
                due = nap
            for number in self._bell.wait(min(due, nap)):
                try:
                    self._heard(number)
                except Exception as error:
                    self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._log("watch-failed", error=f"{type(error).__name__}: {error}")

    def _heard(self, number: int) -> None:
        if number in signals.STOP:
            self._stop_signals += 1
            if self._stop_signals == 1:
                self.drain(signal.Signals(number).name)
            else:
                self._end_hard(0, "second stop signal", self._running_jobs())
        elif number == signals.PAUSE:
            self._log("paused")
            self._consumer.pause()
        elif number == signals.RESUME:
            self._log("resumed")
            self._consumer.resume()
        elif number == signals.DUMP:
            self._dump()

    def _look(self, now: float) -> float:
        """Everything that may be due; when to look again at the latest."""
        self._consumer.expire(now)
        running = self._consumer.running()
        if self._parentage.is_broken():
            self.drain("supervisord is gone")
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            self._recycle(now)
            if self._supervised:
                self._arm()
        if now >= self._summary_at:
            self._summary_at = now + _SUMMARY_EVERY
            self._sum_up()
        if self._title is not None:
            self._title(f"fleet-worker {self._spec.pipeline}: {self._consumer.state}")
        return self._end_what_is_late(running, now)

    def _end_what_is_late(self, running: list[tuple[Job, float]], now: float) -> float:
        due = now + _NAP
        known, self._blows = self._blows, {}
        for job, begun_at in running:
            blow = known.get(job)
            if blow is None and now >= begun_at + self._spec.timeout:
                error = JobTimeout(f"the job ran longer than {self._spec.timeout:g} seconds")
                blow = self._strike(job, error, now + AFTER_TIMEOUT)
            elif blow is None and self._deadline is not None and now >= self._deadline:
                blow = self._strike(job, Interrupted("the worker has to end"), now + AFTER_INTERRUPT)
            if blow is None:
                limits = [begun_at + self._spec.timeout] + ([self._deadline] if self._deadline else [])
                due = min(due, *limits)
                continue
            self._blows[job] = blow
            due = min(due, blow.hard_at)
            if now >= blow.hard_at:
                self._give_up(job, blow)
        return due

    def _strike(self, job: Job, error: JobTimeout, hard_at: float) -> Blow:
        self._log("interrupting", job=job.id, pipeline=job.pipeline, attempt=job.attempt, why=str(error))
        self._interrupted = self._interrupted or isinstance(error, Interrupted)
        self._slots.strike(job, error)
        return Blow(error, hard_at)

    def _give_up(self, job: Job, blow: Blow) -> None:
        others = [other for other in self._running_jobs() if other is not job]
        if isinstance(blow.error, Interrupted):
            self._end_hard(0, "the grace is over", [*others, job])
        where = self._slots.stack(job)
        error = JobTimeout(f"{blow.error}, and did not end when it was told to")
        verdict = after_error(job, error, self._spec.policy, _chance())
        self._consumer.note_error(group_of(job, error, verdict, self._spec.policy))
        self._end_hard(EXIT_STUCK, f"job {job.id} does not end", others, [verdict], where=where)

    def _end_hard(
        self, code: int, why: str, jobs: list[Job], verdicts: list[Settlement] | None = None, **fields: object
    ) -> None:
        """Release what is in hand, say why, and be gone, whatever the handlers do."""
        batch = [*(verdicts or []), *(interrupted(job) for job in jobs)]
        self._log("exit", code=code, why=why, released=len(batch), **fields)
        teller = threading.Thread(target=self._consumer.abandon, args=(batch,), daemon=True)
        try:
            teller.start()
        except RuntimeError:  # handlers have forked as many processes as there may be, and threads count
            self._consumer.abandon(batch)
        else:
            teller.join(_LAST_WORDS)  # a server that does not answer must not keep us; the leases run out
        self._log.close(0.5)
        end_family()
        os._exit(code)

    def _running_jobs(self) -> list[Job]:
        return [job for job, _ in self._consumer.running()]

    # -- now and then

    def _recycle(self, now: float) -> None:
        recycle = self._spec.recycle
        if not self.may_leave():
            return
        if recycle.jobs is not None and self._consumer.tally.finished >= recycle.jobs:
            self.drain("recycle: jobs")  # they were done before it might leave, and no other came
        elif recycle.age is not None and now - self._started >= recycle.age:
            self.drain("recycle: age")
        elif recycle.memory is not None and resident_bytes() >= recycle.memory:
            self.drain("recycle: memory")

    def _arm(self) -> None:
        """
        Put off the end by another timeout: a dead man's switch for the case that this thread is starved.

        faulthandler's timer is a C thread that needs no interpreter lock: it
        writes where every thread is and exits.
        """
        faulthandler.dump_traceback_later(self._spec.timeout + AFTER_TIMEOUT + _DEAD_MAN, exit=True, file=2)

    def _sum_up(self) -> None:
        tally = self._consumer.tally
        counts = (tally.done, tally.failed, tally.buried)
        if counts != self._summed_up:
            done, failed, buried = (new - old for new, old in zip(counts, self._summed_up, strict=True))
            self._summed_up = counts
            self._log("summary", done=done, failed=failed, buried=buried, seconds=int(_SUMMARY_EVERY))

    def _dump(self) -> None:
        now = time.monotonic()
        running = self._consumer.running()
        self._log("dump", state=self._consumer.state, in_hand=len(running), rss=resident_bytes())
        for job, begun_at in running:
            self._log("dump-job", job=job.id, pipeline=job.pipeline, running_for=now - begun_at)
            for line in self._slots.stack(job):
                self._log.line(f"    {line}")


def _chance() -> float:
    return os.urandom(1)[0] / 255


def _title_setter() -> Callable[[str], None] | None:
    try:
        from setproctitle import setproctitle
    except ImportError:
        return None
    return setproctitle  # type: ignore[no-any-return]
