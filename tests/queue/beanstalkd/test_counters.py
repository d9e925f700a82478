"""What a reserve does not tell is asked, and only when it is needed."""

from __future__ import annotations

import pytest

import fleet
from fleet.queue import Queue
from fleet.queue.consumer import Consumer
from fleet.queue.job import Job, Settlement
from tests.queue.beanstalkd.tools import counter
from tests.waiting import eventually

pytestmark = pytest.mark.server


def test_a_drain_asks_nothing_about_its_jobs(queue: Queue, pipeline: str):
    """A stats-job for each would double the work of the server."""
    queue.put_many(pipeline, range(200))
    before = counter(queue, "cmd-stats-job")
    jobs = queue.reserve_many(pipeline, 100)
    jobs = queue.reserve_many(pipeline, 100, settle=jobs)
    assert repr(jobs[0]) == f"<Job {jobs[0].id} {pipeline} reserved>"
    assert queue.settle(deleted=jobs) == []
    assert counter(queue, "cmd-stats-job") == before


def test_the_first_look_asks_for_the_whole_batch(queue: Queue, pipeline: str):
    queue.put_many(pipeline, range(5), priority=3, ttr=30)
    jobs = queue.reserve_many(pipeline, 5)
    before = counter(queue, "cmd-stats-job")
    assert [(job.priority, job.ttr, job.attempt, job.crashes) for job in jobs] == [(3, 30, 1, 0)] * 5
    assert counter(queue, "cmd-stats-job") == before + 5
    queue.settle(deleted=jobs)
    assert jobs[0].attempt == 1  # what was known stays known


def test_what_nobody_asked_in_time_is_not_made_up(queue: Queue, pipeline: str):
    queue.put(pipeline, 1, priority=7)
    job = queue.reserve(pipeline)
    assert job is not None
    job.delete()
    assert (job.attempt, job.crashes, job.failures, job.lost) == (0, 0, 0, False)


def test_failures_and_crashes_are_read_from_the_servers_counters(
    queue: Queue, beanstalkd_dsn: str, pipeline: str
):
    """Releases and buries are failures; a reservation that ended otherwise was a crash."""
    queue.put(pipeline, 1)
    for _ in range(2):
        job = queue.reserve(pipeline)
        assert job is not None
        job.release()
    with fleet.connect(beanstalkd_dsn) as dying:
        assert dying.reserve(pipeline) is not None
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    assert (job.attempt, job.crashes, job.failures) == (4, 1, 2)
    job.bury()
    peeked = queue.peek_buried(pipeline)
    assert peeked is not None
    assert (peeked.attempt, peeked.crashes, peeked.failures) == (4, 1, 3)


def test_what_was_never_begun_is_told_from_a_failure(queue: Queue, beanstalkd_dsn: str, pipeline: str):
    """Given back any number of times, also between failures, crashes and kicks: only these are counted."""

    def taken() -> Job:
        job = queue.reserve(pipeline, timeout=2)
        assert job is not None
        return job

    def give_back(times: int) -> None:
        for _ in range(times):
            back = Settlement(job=taken(), verb="release", counted=False)
            assert queue.exchange([back], (), 0) == ([True], [])

    def counts(job: Job) -> tuple[int, int, int]:
        return job.attempt, job.crashes, job.failures

    job_id = queue.put(pipeline, 1, priority=7)
    give_back(4)
    job = taken()
    assert counts(job) == (1, 0, 0)
    assert job.priority == 7
    job.release()
    give_back(3)
    with fleet.connect(beanstalkd_dsn) as dying:
        assert dying.reserve(pipeline) is not None
    give_back(2)
    job = taken()
    assert counts(job) == (3, 1, 1)
    job.bury()
    assert queue.kick(pipeline, ids=[job_id]) == 1
    give_back(2)
    assert counts(taken()) == (2, 0, 1)  # the kick forgave the crash, and the failure of the bury


def test_jobs_given_back_keep_their_order(queue: Queue, pipeline: str):
    """A batch goes back as one, none of it waits for its delay, and the claim beside it comes after it."""
    queue.put_many(pipeline, range(50))
    jobs = queue.reserve_many(pipeline, 50)
    jobs[20].delete()
    batch = [Settlement(job=job, verb="release", counted=False) for job in jobs]
    verdicts, again = queue.exchange(batch, pipeline, 50)
    assert [index for index, taken in enumerate(verdicts) if not taken] == [20]
    assert [job.data for job in again] == [n for n in range(50) if n != 20]
    assert {job.attempt for job in again} == {1}


def test_a_worker_gives_back_what_waits_behind_a_slow_job(queue: Queue, rival: Queue, pipeline: str):
    """It had claimed ahead: after 50 ms in one job the others are free, and none has lost an attempt."""
    queue.put_many(pipeline, range(200))
    consumer = Consumer(queue, (pipeline,))
    try:
        for _ in range(60):  # short jobs: it claims far ahead
            job = consumer.take(1)
            assert job is not None
            consumer.settle(Settlement(job=job, verb="delete"))
        assert consumer.take(1) is not None  # and now a long one
        eventually(lambda: queue.stats(pipeline).ready == 139)
        others = rival.reserve_many(pipeline, 139)
        assert {job.attempt for job in others} == {1}
    finally:
        consumer.close()


def test_a_job_that_came_when_the_queue_closed_is_given_back(
    queue: Queue, beanstalkd_dsn: str, pipeline: str
):
    """A wait had taken it, and nobody claimed it: that is no crash."""
    with fleet.connect(beanstalkd_dsn) as leaving:
        queue.put(pipeline, 1)
        leaving.wait(pipeline, 2)
        assert queue.stats(pipeline).reserved == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes) == (1, 0)


def test_a_kick_gives_one_more_try(queue: Queue, beanstalkd_dsn: str, pipeline: str):
    """Its counters never go back; each kick forgives one failure and one crash."""
    job_id = queue.put(pipeline, 1)
    for _ in range(3):
        with fleet.connect(beanstalkd_dsn) as dying:
            assert dying.reserve(pipeline, timeout=2) is not None
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    assert (job.attempt, job.crashes) == (4, 3)
    job.bury("crashed")
    assert queue.kick(pipeline, ids=[job_id]) == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes, job.failures) == (3, 2, 0)
    job.delete()
