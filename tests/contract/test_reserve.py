"""reserve: order, leases, waiting, and that nobody gets what another one holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.queue import Queue
from fleet.queue.job import JobState


def test_an_empty_pipeline_gives_none_at_once(queue: Queue, pipeline: str):
    started = time.monotonic()
    assert queue.reserve(pipeline) is None
    assert time.monotonic() - started < 2  # a wait would be one of five seconds


def test_a_reserved_job_tells_what_it_is(queue: Queue, pipeline: str):
    job_id = queue.put(pipeline, {"to": "ada"}, priority=3, ttr=30)
    before = time.monotonic()
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.id, job.pipeline, job.data, job.priority, job.ttr) == (job_id, pipeline, {"to": "ada"}, 3, 30)
    assert (job.state, job.attempt, job.crashes, job.lost) == (JobState.RESERVED, 1, 0, False)
    assert job.token > 0
    assert before + 28 <= job.expires_at <= time.monotonic() + 30


def test_priority_comes_first_and_then_the_order_of_puts(queue: Queue, rival: Queue, pipeline: str):
    """P8: smallest priority first, first in first out inside a priority, whoever put them."""
    for n, priority in enumerate([5, 0, 4294967295, 5, 0, 1024]):
        (queue if n % 2 else rival).put(pipeline, n, priority=priority)
    order = [job.data for job in queue.reserve_many(pipeline, 10)]
    assert order == [1, 4, 0, 3, 5, 2]


def test_an_urgent_job_overtakes_those_that_wait(queue: Queue, rival: Queue, pipeline: str):
    """No prefetch or cursor may hide a job that became ready ahead of the last one taken."""
    queue.put_many(pipeline, range(20), priority=100)
    assert [queue.reserve(pipeline).data for _ in range(5)] == [0, 1, 2, 3, 4]  # type: ignore[union-attr]
    rival.put(pipeline, "urgent", priority=1)
    assert queue.reserve(pipeline).data == "urgent"  # type: ignore[union-attr]


def test_two_workers_never_hold_the_same_job(open_queue: Callable[[], Queue], pipeline: str):
    """P3: four connections claim at once, and each job is handed out exactly once."""
    count = 400
    open_queue().put_many(pipeline, range(count), ttr=120)
    taken: list[int] = []

    def work(mine: Queue) -> None:
        while jobs := mine.reserve_many(pipeline, 7):
            taken.extend(job.data for job in jobs)
            mine.settle(deleted=jobs)

    threads = [threading.Thread(target=work, args=(open_queue(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(count))


def test_several_pipelines_are_served_in_strict_order(queue: Queue, pipeline: str):
    first, second = f"{pipeline}-a", f"{pipeline}-b"
    queue.put(second, "late", priority=0)
    queue.put(first, "early", priority=9)
    jobs = queue.reserve_many([first, second], 5)
    assert [(job.pipeline, job.data) for job in jobs] == [(first, "early"), (second, "late")]
    queue.settle(deleted=jobs)


def test_reserve_many_takes_no_more_than_it_was_asked_for(queue: Queue, rival: Queue, pipeline: str):
    queue.put_many(pipeline, range(10))
    assert len(queue.reserve_many(pipeline, 4)) == 4
    assert len(rival.reserve_many(pipeline, 100)) == 6


def test_a_delayed_job_is_not_started_early(queue: Queue, pipeline: str, short: float):
    """P8c: no job starts before its delay is over by the back end's clock."""
    put_at = time.monotonic()
    queue.put(pipeline, "later", delay=short)
    job = queue.reserve(pipeline, timeout=short + 3)
    assert job is not None
    assert time.monotonic() - put_at >= short - (0.05 if queue.capabilities.subsecond else 1)


def test_a_job_whose_delay_is_over_keeps_its_place_by_priority(queue: Queue, pipeline: str, short: float):
    queue.put(pipeline, "urgent", priority=1, delay=short)
    queue.put(pipeline, "patient", priority=9)
    time.sleep(short + (0.1 if queue.capabilities.subsecond else 1.1))
    assert [job.data for job in queue.reserve_many(pipeline, 2)] == ["urgent", "patient"]


def test_reserve_wakes_up_when_another_connection_puts(queue: Queue, rival: Queue, pipeline: str):
    """A waiting worker does not sleep through a put."""
    put_at = 0.0

    def put() -> None:
        nonlocal put_at
        put_at = time.monotonic()
        rival.put(pipeline, "wake")

    timer = threading.Timer(0.3, put)
    timer.start()
    job = queue.reserve(pipeline, timeout=10)
    woken_at = time.monotonic()
    timer.join()
    assert job is not None
    assert 0 < woken_at - put_at < 1.5


def test_threads_of_one_queue_wait_side_by_side(queue: Queue, rival: Queue, pipeline: str):
    """A thread that waits for one pipeline keeps no other from waking for its own, nor from giving up."""
    other = f"{pipeline}-other"
    with ThreadPoolExecutor() as threads:
        first = threads.submit(queue.reserve, pipeline, timeout=20)
        time.sleep(0.2)
        started = time.monotonic()
        assert queue.reserve(other, timeout=0.3) is None
        assert time.monotonic() - started < 2
        second = threads.submit(queue.reserve, other, timeout=20)
        time.sleep(0.2)
        started = time.monotonic()
        rival.put(other, "second")
        job = second.result()
        assert time.monotonic() - started < 2
        assert job is not None
        job.delete()
        rival.put(pipeline, "first")
        job = first.result()
        assert time.monotonic() - started < 4
        assert job is not None
        job.delete()


def test_reserve_gives_up_after_its_timeout(queue: Queue, pipeline: str):
    started = time.monotonic()
    assert queue.reserve(pipeline, timeout=0.4) is None
    assert 0.3 < time.monotonic() - started < 2.5


@pytest.mark.parametrize("limit", [-1, 1.5, True])
def test_a_strange_limit_is_refused(queue: Queue, pipeline: str, limit: object):
    with pytest.raises(ValueError, match="limit"):
        queue.reserve_many(pipeline, limit)  # type: ignore[arg-type]


def test_the_wait_of_a_job_is_told(queue: Queue, pipeline: str):
    """`waited` counts from the moment the job could have run."""
    queue.put(pipeline, 1)
    time.sleep(0.2)
    job = queue.reserve(pipeline)
    assert job is not None
    if queue.capabilities.tables:
        assert 0.15 <= job.waited < 5
