"""Fleet's own library, through its public names only."""

from __future__ import annotations

import time
from collections.abc import Sequence

import fleet
from benchmarks.contender import BATCH, PIPELINE, Contender, Done, Seen, payload
from fleet.errors import NotSupported
from fleet.queue.job import Job, JobState

_DAY = 86400.0
_CHUNK = 5_000


class Ours(Contender):
    def __init__(self, dsn: str) -> None:
        self._queue = fleet.connect(dsn)  # makes the tables

    def put(self, payloads: Sequence[bytes]) -> None:
        put = self._queue.put
        for each in payloads:
            put(PIPELINE, each)

    def put_many(self, payloads: Sequence[bytes]) -> None:
        assert len(self._queue.put_many(PIPELINE, payloads)) == len(payloads)

    def one(self, done: Done) -> None:
        queue = self._queue
        while True:
            job = queue.reserve(PIPELINE)
            if job is None:
                time.sleep(0.002)
                continue
            job.delete()
            done(1)

    def drain(self, done: Done) -> None:
        reserve_many = self._queue.reserve_many
        jobs: list[Job] = []
        while True:
            settled, jobs = jobs, reserve_many(PIPELINE, BATCH, settle=jobs)
            done(len(settled))
            if not jobs:
                time.sleep(0.002)

    def serve(self, seen: Seen) -> None:
        while True:
            job = self._queue.reserve(PIPELINE, timeout=60)
            if job is not None:
                seen(job.payload)
                job.delete()

    def stats(self) -> None:
        self._queue.stats(PIPELINE)

    def crowd(self, count: int) -> None:
        for start in range(0, count, _CHUNK):
            todo = [payload(number) for number in range(start, min(count, start + _CHUNK))]
            self._queue.put_many(PIPELINE, todo, delay=_DAY)
        try:
            self._restore_buried(count)
        except NotSupported:
            self._bury(count)

    def _restore_buried(self, count: int) -> None:
        first = 10**12  # ids far above those in use
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(count, start + _CHUNK))
            jobs = [
                Job(first + n, PIPELINE, payload(n), state=JobState.BURIED, reason="bench") for n in numbers
            ]
            self._queue.restore(jobs, "bench", str(start))

    def _bury(self, count: int) -> None:
        """Put them urgently, take them and bury them: for a server that makes its ids itself."""
        for start in range(0, count, _CHUNK):
            todo = [payload(number) for number in range(start, min(count, start + _CHUNK))]
            self._queue.put_many(PIPELINE, todo, priority=0)
            left = len(todo)
            while left:
                jobs = self._queue.reserve_many(PIPELINE, min(left, 500))
                self._queue.settle(buried=jobs)
                left -= len(jobs)
