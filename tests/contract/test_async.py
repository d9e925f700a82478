"""The asyncio face: the same verbs, a free event loop, and no job lost to a cancelled call."""

from __future__ import annotations

import asyncio
import time

import fleet
from fleet.queue import Queue


def test_asyncio_programs_put_reserve_and_settle(dsn: str, pipeline: str):
    async def story() -> None:
        async with await fleet.connect_async(dsn) as queue:
            ids = await queue.put_many(pipeline, [1, 2, 3])
            ids.append(await queue.put(pipeline, 4, priority=1))
            first = await queue.reserve(pipeline)
            assert first is not None
            assert first.data == 4
            await queue.touch(first)
            await queue.delete(first)
            jobs = await queue.reserve_many(pipeline, 10)
            assert [job.data for job in jobs] == [1, 2, 3]
            assert await queue.settle(deleted=jobs[:1], released=jobs[1:2], buried=[(jobs[2], "x")]) == []
            stats = await queue.stats(pipeline)
            assert (stats.ready, stats.buried) == (1, 1)

    asyncio.run(story())


def test_the_event_loop_goes_on_while_a_reserve_waits(dsn: str, pipeline: str):
    async def story() -> int:
        async with await fleet.connect_async(dsn) as queue:
            waiting = asyncio.create_task(queue.reserve(pipeline, timeout=5))
            beats = 0
            for _ in range(20):
                await asyncio.sleep(0.01)
                beats += 1
            await queue.put(pipeline, "now")
            job = await waiting
            assert job is not None
            await queue.delete(job)
            return beats

    assert asyncio.run(story()) == 20


def test_a_cancelled_reserve_leaves_no_job_behind(dsn: str, pipeline: str):
    """What the thread still gets is given back at once, not when its ttr is over."""

    async def story() -> None:
        async with await fleet.connect_async(dsn) as queue:
            waiting = asyncio.create_task(queue.reserve(pipeline, timeout=30))
            await asyncio.sleep(0.2)
            waiting.cancel()
            await queue.put(pipeline, "kept", ttr=600)
            started = time.monotonic()
            job = None
            while job is None and time.monotonic() - started < 10:
                job = await queue.reserve(pipeline, timeout=1)
            assert job is not None
            assert job.data == "kept"
            assert job.attempt == 1
            await queue.delete(job)

    asyncio.run(story())


def test_a_reserve_that_was_cancelled_before_the_end_leaves_no_job_behind(
    dsn: str, queue: Queue, pipeline: str
):
    """The thread of a cancelled reserve may still wait while the queue is closed."""

    async def story() -> None:
        asyncs = await fleet.connect_async(dsn)
        waiting = asyncio.create_task(asyncs.reserve(pipeline, timeout=30))
        await asyncio.sleep(0.2)
        waiting.cancel()
        closing = asyncio.create_task(asyncs.close())
        await asyncio.sleep(0.05)
        queue.put(pipeline, "kept", ttr=600)
        await closing

    asyncio.run(story())
    job = queue.reserve(pipeline, timeout=5)
    assert job is not None
    assert job.attempt == 1
    job.delete()
