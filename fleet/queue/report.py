"""What a consumer tells of its work: a tally since the start, this minute's counts, and a pulse."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from fleet.errors import NotSupported, QueueError
from fleet.queue.causes import CRASHED, ErrorGroup
from fleet.queue.job import Job, Settlement
from fleet.queue.telemetry import FINEST, Telemetry, sample, write
from fleet.queue.vitals import Tally, Vitals

if TYPE_CHECKING:
    from fleet.queue.queue import Queue


class Report:
    """The counts of one consumer, which holds its *lock* around each call except `publish`."""

    def __init__(self, pipelines: Sequence[str], lock: threading.Lock, run_dir: str) -> None:
        self.tally = Tally()
        self._lock = lock
        self._run_dir = run_dir
        self._only = pipelines[0] if len(pipelines) == 1 else None
        self._vitals = Vitals(",".join(pipelines), self.tally)
        self._telemetry = Telemetry(pipelines, self._vitals.host, self._vitals.process, os.getpid())

    # -- what happened

    def claimed(self, jobs: Sequence[Job]) -> None:
        self._telemetry.waited(jobs)

    def ended(self, pipeline: str, ran: float | None, failed: bool, error: ErrorGroup | None) -> None:
        """A job was worked on for *ran* seconds; None: its lease was refused meanwhile."""
        self.tally.finished += 1
        counts = self._telemetry.counts[pipeline]
        if ran is None:
            self.tally.lost += 1
        elif ran < FINEST:
            counts.brief += 1
            counts.busy += ran
        else:
            counts.ran(ran)
        if failed:
            self.tally.failed += 1
            counts.failed += 1
        if error is not None:
            self._telemetry.error(error)

    def settled_without_us(self, pipeline: str, ran: float) -> None:
        """By its own handle, after it was worked on for *ran* seconds; it counts as done."""
        self.tally.finished += 1
        self.tally.done += 1
        counts = self._telemetry.counts[pipeline]
        counts.ran(ran)
        counts.done += 1

    def settled(
        self, batch: Sequence[Settlement], verdicts: Sequence[bool], doubtful: Collection[Job]
    ) -> list[Job]:
        """
        The answers to a batch; returns the jobs whose lease was gone.

        Those that are *doubtful* may be refused because an earlier try had worked.
        """
        tally = self.tally
        before = tally.done, tally.buried, tally.released
        lost = []
        plain = all(verdicts) and [settlement.verb for settlement in batch].count("delete") == len(batch)
        if plain:  # nearly every batch, and a loop over its jobs is on the path of each
            tally.done += len(batch)
        for settlement, took_effect in () if plain else zip(batch, verdicts, strict=True):
            verb = settlement.verb
            if not took_effect and settlement.job not in doubtful:
                if settlement.counted:  # nobody minds when an unbegun job went to someone else
                    tally.lost += 1
                    lost.append(settlement.job)
            elif verb == "delete":
                tally.done += 1
            elif verb == "bury":
                tally.buried += 1
            elif settlement.counted:
                tally.released += 1
        if self._only is not None:
            counts = self._telemetry.counts[self._only]
            counts.done += tally.done - before[0]
            counts.buried += tally.buried - before[1]
            counts.retried += tally.released - before[2]
        else:
            self._telemetry.settled(batch)
        return lost

    def crashed(self, job: Job) -> None:
        """The job came from a worker that vanished."""
        self.tally.crashed += 1
        self._telemetry.counts[job.pipeline].crashed += 1
        self._telemetry.error(
            ErrorGroup(
                pipeline=job.pipeline,
                kind=CRASHED,
                cause="the worker died or vanished",
                place="",
                job=job.id,
            )
        )

    def error(self, group: ErrorGroup) -> None:
        self._telemetry.error(group)

    # -- telling it

    def publish(self, queue: Queue, state: str, running: Collection[tuple[Job, float]], *, note: str) -> bool:
        """
        Write the pulse and the counts; False when that could not be done now: they come with the next.

        *running* are the jobs in hand and since when.

        Raises:
            NotSupported: there is no place for them.
        """
        job, begun_at = min(running, key=lambda pair: pair[1]) if running else (None, 0.0)
        pulse = self._vitals.pulse(
            state=state, job=job, job_for=time.monotonic() - begun_at if job else 0.0, note=note
        )
        with self._lock:
            self._telemetry.roll(time.time())
            due = self._telemetry.due_samples()
        for pipeline in due:
            if found := sample(queue, pipeline):
                self._telemetry.sampled(pipeline, *found)
        with self._lock:
            rows, errors = self._telemetry.take()
        try:
            write(queue, self._run_dir, pulse, rows, errors)
        except NotSupported:
            raise
        except QueueError:  # the claims tell about outages
            with self._lock:
                self._telemetry.take_back(rows, errors)
            return False
        return True
