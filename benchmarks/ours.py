"""Fleet's own library, through its public names only."""

from __future__ import annotations

import time
from collections.abc import Sequence

import fleet
from benchmarks.contender import BATCH, PIPELINE, Contender, Done, Seen, payload
from fleet import Job

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
            self._bury(todo)

    def _bury(self, payloads: Sequence[bytes]) -> None:
        """Put them so urgently that they come before those that are ready, and bury them."""
        self._queue.put_many(PIPELINE, payloads, priority=0)
        left = len(payloads)
        while left:
            jobs = self._queue.reserve_many(PIPELINE, min(left, 500))
            self._queue.settle(buried=jobs)
            left -= len(jobs)
