"""restore and interrupt: what importers and stopping workers need of a back end."""

from __future__ import annotations

import threading
import time

import pytest

from fleet.errors import NotSupported, UidConflict
from fleet.queue import Queue
from fleet.queue.job import Job, JobState


def _job(id_: int, pipeline: str, state: JobState = JobState.READY, **more: object) -> Job:
    return Job(id_, pipeline, b"restored", 7, 30.0, 2, 1, state, **more)  # type: ignore[arg-type]


def test_jobs_are_restored_as_they_are(queue: Queue, rival: Queue, pipeline: str):
    """Ids, states and counts survive, and ids that are made later are larger."""
    if not queue.capabilities.uid:
        with pytest.raises(NotSupported):
            queue.restore([_job(1, pipeline)], "memo", "x")
        return
    first = queue.put(pipeline, "own", priority=9)
    base = first + 1000
    memo = f"memo-{pipeline}"
    assert rival.recall(memo) is None
    queue.restore(
        [
            _job(base, pipeline, waited=60.0, uid=b"u" * 8 + base.to_bytes(8, "big")),
            _job(base + 1, pipeline, JobState.DELAYED, delay=600.0),
            _job(base + 2, pipeline, JobState.BURIED, reason="why"),
        ],
        memo,
        "x" * 1000,
    )
    assert rival.recall(memo) == "x" * 1000
    assert rival.put(pipeline, "later", priority=9) > base + 2
    jobs = rival.reserve_many(pipeline, 10)
    assert [job.id for job in jobs][:2] == [base, first]
    assert (jobs[0].attempt, jobs[0].crashes, jobs[0].ttr, jobs[0].priority) == (3, 1, 30.0, 7)
    assert jobs[0].waited > 55
    delayed = queue.find(base + 1)
    assert delayed is not None
    assert 590 < delayed.delay <= 600
    buried = queue.peek_buried(pipeline)
    assert buried is not None
    assert (buried.id, buried.reason) == (base + 2, "why")


def test_an_id_that_is_taken_restores_nothing(queue: Queue, pipeline: str):
    if not queue.capabilities.uid:
        return
    taken = queue.put(pipeline, "own")
    with pytest.raises(UidConflict):
        queue.restore([_job(taken + 500, pipeline), _job(taken, pipeline)], f"memo-{pipeline}", "x")
    assert queue.stats(pipeline).ready == 1
    assert queue.recall(f"memo-{pipeline}") is None


def test_a_wait_can_be_ended_from_another_thread(queue: Queue, pipeline: str):
    """A worker that is told to stop must not sit out its wait."""
    assert queue.reserve(pipeline) is None
    timer = threading.Timer(0.3, queue.wake)
    timer.start()
    started = time.monotonic()
    queue.wait(pipeline, 4.0)
    waited = time.monotonic() - started
    timer.join()
    assert waited < 2.0
