"""JobQueue: the worker loops of simple-job-queue's documentation, ported line by line, on every back end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import fleet
from fleet.errors import JobNotFound, LeaseLost
from fleet.queue import dsn as dsns
from fleet.queue.simple import JobQueue
from tests import drivers

_TYPES = {"sqlite": "sqlite", "postgresql": "pgsql", "mysql": "mysql", "beanstalkd": "beanstalkd"}


@pytest.fixture
def job_queue(dsn: str) -> Iterator[JobQueue]:
    queue = JobQueue(_TYPES[dsns.parse(dsn).scheme])
    connection = drivers.connect(dsn)
    queue.add_queue_connection(connection)
    yield queue
    connection.close()


def test_the_readme_loop_runs(job_queue: JobQueue, pipeline: str):
    """README, "Running a worker": delete on true, bury on false and on an exception."""
    job_queue.select_pipeline(pipeline)
    for n in range(4):
        job_queue.add_job(json.dumps({"something": "that", "n": n}))

    processed = []

    def do_something_that_does_something(payload: dict[str, Any]) -> bool:
        processed.append(payload["n"])
        if payload["n"] == 3:
            raise RuntimeError("on purpose")
        return payload["n"] != 1

    job_queue.watch_pipeline(pipeline)
    while True:
        job = job_queue.get_next_job_and_reserve()
        if not job:
            break  # the original sleeps here: usleep(500000)
        payload = json.loads(job["payload"])
        try:
            result = do_something_that_does_something(payload)
            if result is True:
                job_queue.delete_job(job)
            else:
                job_queue.bury_job(job)
        except Exception:
            job_queue.bury_job(job)

    assert processed == [0, 1, 2, 3]
    assert job_queue.get_ready_count() == 0
    assert job_queue.get_buried_count() == 2


def test_the_example_worker_runs(job_queue: JobQueue, pipeline: str):
    """example_worker.php: the accessors, and buried jobs that are looked at, kicked and deleted."""
    job_queue.select_pipeline(pipeline)
    added = job_queue.add_job("first", 0, 10, 30)
    job_queue.add_job("second", 0, 5, 30)
    assert job_queue.get_job_payload(added) == "first"
    assert job_queue.get_ready_count(pipeline) == 2

    job = job_queue.get_next_job_and_reserve()
    assert job is not None
    assert job_queue.get_job_payload(job) == "second"
    job_queue.bury_job(job)
    job = job_queue.get_next_job_and_reserve()
    assert job is not None
    assert job_queue.get_job_id(job) == added["id"] == job["id"]
    job_queue.bury_job(job)

    buried = job_queue.get_next_buried_job()
    assert buried is not None
    job_queue.kick_job(buried)
    with pytest.raises(JobNotFound):
        job_queue.kick_job(buried)
    other = job_queue.get_next_buried_job()
    assert other is not None
    job_queue.delete_job(other)
    assert job_queue.get_next_buried_job() is None

    kicked = job_queue.get_next_job_and_reserve()
    assert kicked is not None
    assert kicked.id == buried.id
    job_queue.release_job(kicked)
    again = job_queue.get_next_job_and_reserve()
    assert again is not None
    assert (again.id, again.priority) == (buried.id, buried.priority)
    job_queue.delete_job(again)
    with pytest.raises(LeaseLost):
        job_queue.delete_job(again)


def test_what_one_process_adds_another_sees_at_once(job_queue: JobQueue, dsn: str, pipeline: str):
    """As with PDO, a verb outside of a transaction has committed when it returns."""
    job_queue.select_pipeline(pipeline)
    job_queue.add_job(json.dumps([1]))
    prefix = None if dsn.startswith("beanstalkd") else "job_queue_jobs"
    with fleet.connect(dsn, prefix=prefix) as other:
        job = other.reserve(pipeline)
        assert job is not None
        assert job.data == [1]
        job.delete()


def test_options_and_types_answer_as_before(job_queue: JobQueue):
    kinds = [
        job_queue.is_mysql_queue_type(),
        job_queue.is_pgsql_queue_type(),
        job_queue.is_sqlite_queue_type(),
        job_queue.is_beanstalkd_queue_type(),
    ]
    assert sum(kinds) == 1
    job_queue.set_options({"mysql": {"table_name": "mine"}, "stale_timeout": 120})
    options = job_queue.get_options()
    assert options["mysql"] == {"table_name": "mine", "use_compression": True}  # a merge on both levels
    assert options["stale_timeout"] == 120
    job_queue.get_cache()["mine"] = 1
    job_queue.flush_cache()
    assert job_queue.get_cache() == {}


def test_a_missing_pipeline_or_connection_is_said(job_queue: JobQueue):
    with pytest.raises(ValueError, match="select_pipeline"):
        job_queue.add_job("x")
    with pytest.raises(ValueError, match="add_queue_connection"):
        JobQueue("sqlite").select_pipeline("p").add_job("x")
    with pytest.raises(ValueError, match="queue type"):
        JobQueue("oracle")
