"""What a process that works on jobs remembers until it is written: this minute's counts, and errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.errors import QueueError
from fleet.queue.causes import MOST, OTHERS, ErrorGroup
from fleet.queue.job import Job, Pulse, Settlement
from fleet.queue.minutes import BORDERS, BUCKETS, KEPT, MINUTE, Minute, bucket

if TYPE_CHECKING:
    from fleet.queue.queue import Queue

FINEST = BORDERS[0]  # seconds: a job that ran shorter falls into the first bucket
CAP = 100_000  # jobs that are counted for a sample; with more in one state there is none
_PENDING = KEPT // MINUTE  # rows that wait for a back end that is away
_LATER = re.compile(r"_0*[1-9]\d*$")  # every process of a group but its first


class Counts:
    """A `Minute` under way.  `brief` and `done` are on the path of every job, the rest is not."""

    __slots__ = ("brief", "buried", "busy", "crashed", "done", "failed", "retried", "runs", "waits")

    def __init__(self) -> None:
        self.done = self.failed = self.buried = self.crashed = self.retried = 0
        self.busy = 0.0
        self.brief = 0  # handlers that took less than FINEST, which `runs` lacks
        self.waits = [0] * BUCKETS
        self.runs = [0] * BUCKETS

    def ran(self, seconds: float) -> None:
        self.busy += seconds
        self.runs[bucket(seconds)] += 1


class Telemetry:
    """
    The counts of one process by pipeline, and its errors.

    Not locked: `Consumer` calls `counts` and `error` under its own lock, and
    takes the rows out under it too.
    """

    def __init__(self, pipelines: Sequence[str], host: str, process: str, pid: int) -> None:
        self._process = f"{host} {process} {pid}"[:200]
        self._is_first = not _LATER.search(process)
        self._minute = int(time.time()) // MINUTE
        self._began = time.time()
        self.counts = {pipeline: Counts() for pipeline in pipelines}
        self._samples: dict[str, tuple[int, int]] = {}  # pipeline: held, ready
        self._pending: list[Minute] = []
        self._errors: dict[tuple[str, str, str, str], ErrorGroup] = {}
        self._sampled = -1

    def error(self, group: ErrorGroup) -> None:
        key = (group.pipeline, group.kind, group.cause, group.place)
        known = self._errors.get(key)
        if known is None and len(self._errors) >= MOST:
            group = replace(group, cause=OTHERS, place="")
            key = (group.pipeline, group.kind, OTHERS, "")
            known = self._errors.get(key)
        self._errors[key] = replace(group, count=group.count + (known.count if known else 0))

    def waited(self, jobs: Sequence[Job]) -> None:
        """Jobs that one claim brought: they mostly waited about as long as each other."""
        waits = [job.waited for job in jobs]
        low, high = bucket(min(waits)), bucket(max(waits))
        if low == high and len(self.counts) == 1:
            for counts in self.counts.values():
                counts.waits[low] += len(jobs)
        else:
            for job in jobs:
                self.counts[job.pipeline].waits[bucket(job.waited)] += 1

    def settled(self, batch: Iterable[Settlement]) -> None:
        """Jobs of several pipelines that were settled; the few whose lease was lost are counted with them."""
        for settlement in batch:
            counts = self.counts[settlement.job.pipeline]
            if settlement.verb == "delete":
                counts.done += 1
            elif settlement.verb == "bury":
                counts.buried += 1
            elif settlement.counted:
                counts.retried += 1

    def roll(self, now: float) -> None:
        """Close the rows of a minute that is over.  *now* is Unix time."""
        minute = int(now) // MINUTE
        if minute == self._minute:
            return
        self._pending = [*self._pending, *self._rows()][-_PENDING:]
        self._minute, self._began = minute, now
        self.counts = {pipeline: Counts() for pipeline in self.counts}
        self._samples = {}

    def due_samples(self) -> tuple[str, ...]:
        """Pipelines whose jobs this process is to count now, once a minute; most processes never do."""
        if not self._is_first or self._sampled == self._minute:
            return ()
        self._sampled = self._minute
        return tuple(self.counts)

    def sampled(self, pipeline: str, held: int, ready: int) -> None:
        self._samples[pipeline] = (held, ready)

    def take(self) -> tuple[list[Minute], list[ErrorGroup]]:
        """What is to be written now."""
        rows = [*self._pending, *self._rows()]
        errors = [self._errors[key] for key in sorted(self._errors)]  # rivals lock rows in one order
        self._pending, self._errors = [], {}
        return rows, errors

    def take_back(self, rows: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
        """It could not be written: keep it for the next time."""
        self._pending = [row for row in rows if row.minute != self._minute][-_PENDING:]
        for group in errors:
            self.error(group)

    def _rows(self) -> list[Minute]:
        rows = []
        for pipeline, counts in self.counts.items():
            held, ready = self._samples.get(pipeline, (None, None))
            rows.append(
                Minute(
                    pipeline=pipeline,
                    minute=self._minute,
                    process=self._process,
                    began=self._began,
                    done=counts.done,
                    failed=counts.failed,
                    buried=counts.buried,
                    crashed=counts.crashed,
                    retried=counts.retried,
                    busy=counts.busy,
                    waits=tuple(counts.waits),
                    runs=(counts.runs[0] + counts.brief, *counts.runs[1:]),
                    held=held,
                    ready=ready,
                )
            )
        return rows


def sample(queue: Queue, pipeline: str) -> tuple[int, int] | None:
    """Jobs that are ready, delayed or reserved, and the ready ones of these; None when too many to count."""
    try:
        stats = queue.stats(pipeline, cap=CAP)
    except QueueError:
        return None
    if stats.cap and stats.cap in (stats.ready, stats.delayed, stats.reserved):
        return None
    return stats.ready + stats.delayed + stats.reserved, stats.ready


def write(
    queue: Queue, run_dir: str, pulse: Pulse, rows: Sequence[Minute], errors: Sequence[ErrorGroup]
) -> None:
    """
    Into the queue's tables; where it has none, into a file of this process in *run_dir*.

    Raises:
        QueueError: it did not work this time.
        NotSupported: there is no place for it.
    """
    if queue.capabilities.tables or not run_dir:
        queue.publish(pulse, rows, errors)
        return
    from fleet.queue import rundir

    rundir.write(run_dir, pulse, rows, errors)
