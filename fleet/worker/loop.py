"""One worker process: handler, queue, consumer, slots and watch, put together."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fleet.queue.consumer import Consumer
from fleet.queue.job import Job, Settlement
from fleet.queue.queue import Queue
from fleet.queue.vitals import supervised
from fleet.worker.handler import Handler, is_async
from fleet.worker.log import Log
from fleet.worker.outcome import Bury, Interrupted, after_error, crashed, group_of
from fleet.worker.slots import MainThread, Slots, Threads
from fleet.worker.spec import WorkerSpec
from fleet.worker.watch import Watch

if TYPE_CHECKING:
    from fleet.queue.lifeline import Lifeline


class Worker:
    """
    Runs *handler* on the jobs of one pipeline until it is told to stop.

    `run` belongs in the main thread: it takes over the process's signals.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        queue: Queue,
        handler: Handler,
        log: Log,
        *,
        idle: float | None = None,
        alone: bool = False,
        lifeline: Lifeline | None = None,
    ) -> None:
        """*idle*: leave after that many seconds without a job; *alone*: claim nothing ahead."""
        self._idle = idle
        self._spec = spec
        self._log = log
        self._policy = spec.policy
        self._most_jobs = spec.recycle.jobs
        self.consumer = Consumer(
            queue,
            (spec.queue_name,),
            slots=spec.concurrency,
            alone=alone or spec.policy.max_crashes == 1,
            note=log.line,
            run_dir=spec.run_dir,
            lifeline=lifeline,
        )
        self._slots = _slots_for(handler, spec.concurrency)
        self.watch = Watch(spec, self.consumer, self._slots, log, supervised=supervised())

    def run(self) -> None:
        """
        Work, drain, settle.

        Raises:
            QueueError: something that waiting does not heal.
        """
        self.watch.start()
        started = time.monotonic()
        self._log(
            "started", pipeline=self._spec.pipeline, pid=os.getpid(), concurrency=self._spec.concurrency
        )
        try:
            self._slots.work(self._take, self._ended)
        finally:
            self.consumer.close(self.watch.patience)
            self.watch.end()
            tally = self.consumer.tally
            self._log(
                "ended",
                done=tally.done,
                failed=tally.failed,
                buried=tally.buried,
                lost=tally.lost,
                up=time.monotonic() - started,
            )

    def _take(self) -> Job | None:
        """The next job that may be begun; one that has killed its workers too often is buried."""
        while True:
            job = self.consumer.take(self._idle)
            if job is None:
                if self._idle is not None and self.consumer.state == "waiting":
                    continue  # a server that is away is not an empty queue
                return None
            if not job.crashes:
                return job
            self.consumer.crashed(job)
            verdict = crashed(job, self._policy)
            if verdict is None:
                return job
            self.consumer.settle(verdict, error=group_of(job, None, verdict, self._policy))
            self._log("buried", job=job.id, pipeline=job.pipeline, attempt=job.attempt, reason=verdict.reason)

    def _ended(self, job: Job, error: BaseException | None) -> None:
        """What follows from how a handler ended."""
        consumer = self.consumer
        if self._spec.log_jobs and error is None:
            took = time.monotonic() - consumer.begun_at(job)
            self._log("done", job=job.id, pipeline=job.pipeline, attempt=job.attempt, took=took)
        if job.settled:  # by the handler itself, through job.delete() and its like
            consumer.forget(job)
        elif error is None:
            consumer.settle(Settlement(job, "delete"))
        else:
            self._failed(job, error)
        if (
            self._most_jobs is not None
            and consumer.tally.finished >= self._most_jobs
            and self.watch.may_leave()
        ):
            self.watch.drain("recycle: jobs")

    def _failed(self, job: Job, error: BaseException) -> None:
        group = None
        try:
            verdict = after_error(job, error, self._policy, os.urandom(1)[0] / 255)
            group = group_of(job, error, verdict, self._policy)
        except Exception as broken:  # an error that cannot even be described must not end the worker
            verdict = Settlement(
                job=job, verb="release", delay=self._policy.first, reason=type(broken).__name__
            )
        fault = not isinstance(error, Bury | Interrupted)
        self.consumer.settle(verdict, failed=fault, error=group)
        head, _, detail = verdict.reason.partition("\n")
        fields: dict[str, object] = {
            "job": job.id,
            "pipeline": job.pipeline,
            "attempt": job.attempt,
            "reason": head,
        }
        if verdict.verb == "release":
            fields["again_in"] = round(verdict.delay, 3)
        self._log.trouble(
            {"bury": "buried", "release": "failed"}.get(verdict.verb, "failed"), detail, **fields
        )


def _slots_for(handler: Handler, concurrency: int) -> Slots:
    if is_async(handler):
        from fleet.worker.tasks import Tasks  # asyncio costs ten megabytes

        return Tasks(handler, concurrency)
    return MainThread(handler) if concurrency == 1 else Threads(handler, concurrency)
