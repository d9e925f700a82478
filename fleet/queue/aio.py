"""
The same queue for asyncio programs.

Each call runs the one synchronous `Queue` in a small thread pool, so that there
is no second copy of any statement or rule, and the event loop never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fleet.queue.job import DEFAULT_PRIORITY, DEFAULT_TTR, Job, PipelineStats, Settlement
from fleet.queue.queue import Batch, Queue, connect

_SLICE = 1.0  # seconds a thread waits for jobs before it looks whether the caller still does

T = TypeVar("T")


class AsyncQueue:
    """
    `Queue` with awaitable verbs; see there for arguments, units and errors.

    A cancelled reserve leaves no job behind: what its thread still gets is
    given back at once, with its attempt uncounted.
    """

    def __init__(self, queue: Queue, *, threads: int = 4) -> None:
        """*threads* bounds how many calls run at once; waiting reserves count."""
        self.queue = queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fleet-queue")

    async def put(
        self,
        pipeline: str,
        payload: object,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: float = DEFAULT_TTR,
        unique: str | None = None,
        uid: Any = None,
    ) -> int:
        """Store one job durably and return its id."""
        return await self._run(
            partial(
                self.queue.put,
                pipeline,
                payload,
                priority=priority,
                delay=delay,
                ttr=ttr,
                unique=unique,
                uid=uid,
            )
        )

    async def put_many(
        self,
        pipeline: str,
        payloads: Iterable[object],
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: float = DEFAULT_TTR,
    ) -> list[int]:
        """Store many jobs and return their ids in order."""
        return await self._run(
            partial(self.queue.put_many, pipeline, payloads, priority=priority, delay=delay, ttr=ttr)
        )

    async def reserve(self, pipelines: str | Sequence[str], timeout: float | None = 0) -> Job | None:
        """Lease the most urgent ready job; None after *timeout* seconds."""
        jobs = await self.reserve_many(pipelines, 1, timeout=timeout)
        return jobs[0] if jobs else None

    async def reserve_many(
        self,
        pipelines: str | Sequence[str],
        limit: int,
        *,
        timeout: float | None = 0,
        settle: Iterable[Job | Settlement] = (),
    ) -> Batch:
        """Lease up to *limit* jobs; settle others in the same round trip."""
        give_up = float("inf") if timeout is None else time.monotonic() + timeout
        lost: tuple[Job, ...] = ()
        while True:
            wait = max(0.0, min(_SLICE, give_up - time.monotonic()))
            call = partial(self.queue.reserve_many, pipelines, limit, timeout=wait, settle=settle)
            batch = await self._run(call, give_back=self._give_back)
            lost, settle = lost or batch.lost, ()
            if batch or not limit or time.monotonic() >= give_up:
                batch.lost = lost
                return batch

    def _give_back(self, batch: Batch) -> None:
        releases = [Settlement(job=job, verb="release", counted=False) for job in batch]
        if not releases:
            return
        try:
            self._pool.submit(self.queue.exchange, releases, (), 0)
        except RuntimeError:  # `close` waits for the threads of the pool, and this is one
            self.queue.exchange(releases, (), 0)

    async def delete(self, job: Job) -> None:
        """Settle a reserved job for good.  Raises LeaseLost."""
        await self._run(partial(self.queue.delete, job))

    async def release(
        self, job: Job, *, delay: float = 0, priority: int | None = None, reason: str = ""
    ) -> None:
        """Give a reserved job back.  Raises LeaseLost."""
        await self._run(partial(self.queue.release, job, delay=delay, priority=priority, reason=reason))

    async def bury(self, job: Job, reason: str = "") -> None:
        """Put a reserved job aside.  Raises LeaseLost."""
        await self._run(partial(self.queue.bury, job, reason))

    async def touch(self, job: Job, ttr: float | None = None) -> None:
        """Renew the lease.  Raises LeaseLost."""
        await self._run(partial(self.queue.touch, job, ttr))

    async def settle(
        self,
        *,
        deleted: Iterable[Job] = (),
        released: Iterable[Job | tuple[Job, float]] = (),
        buried: Iterable[Job | tuple[Job, str]] = (),
    ) -> list[Job]:
        """Settle many jobs in one round trip; returns those whose lease was lost."""
        return await self._run(partial(self.queue.settle, deleted=deleted, released=released, buried=buried))

    async def stats(self, pipeline: str, *, cap: int = 1_000) -> PipelineStats:
        """Count the jobs of one pipeline; a count that reached *cap* means "at least"."""
        return await self._run(partial(self.queue.stats, pipeline, cap=cap))

    async def close(self) -> None:
        """Wait for the calls under way, then close the queue."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        self.queue.close()

    async def __aenter__(self) -> AsyncQueue:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, call: Callable[[], T], *, give_back: Callable[[T], None] | None = None) -> T:
        future = self._pool.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The thread cannot be stopped; what it brings back must not be lost until the ttr is over.
            if give_back is not None and not future.cancelled():
                future.add_done_callback(lambda done: None if done.exception() else give_back(done.result()))
            raise


async def connect_async(dsn: str | None = None, *, prefix: str | None = None, threads: int = 4) -> AsyncQueue:
    """Open a queue for asyncio; see `fleet.connect` for *dsn* and *prefix*."""
    loop = asyncio.get_running_loop()
    queue = await loop.run_in_executor(None, partial(connect, dsn, prefix=prefix))
    return AsyncQueue(queue, threads=threads)
