"""delete, release, bury, one by one and in batches."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fleet.errors import LeaseLost
from fleet.queue import Queue
from fleet.queue.job import JobState, Settlement


def test_a_deleted_job_is_gone(queue: Queue, pipeline: str):
    job_id = queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    job.delete()
    assert queue.find(job_id) is None
    assert queue.reserve(pipeline) is None


def test_a_released_job_keeps_its_priority_and_its_place(queue: Queue, pipeline: str):
    """P8d: release puts it back where it was, ahead of those that were put later."""
    queue.put(pipeline, "first", priority=7)
    queue.put(pipeline, "second", priority=7)
    job = queue.reserve(pipeline)
    assert job is not None
    job.release()
    again = queue.reserve_many(pipeline, 2)
    assert [(j.data, j.priority, j.attempt) for j in again] == [("first", 7, 2), ("second", 7, 1)]


def test_a_released_job_can_change_its_priority(queue: Queue, pipeline: str):
    queue.put(pipeline, "demoted", priority=1)
    queue.put(pipeline, "other", priority=5)
    job = queue.reserve(pipeline)
    assert job is not None
    job.release(priority=9)
    assert [j.data for j in queue.reserve_many(pipeline, 2)] == ["other", "demoted"]


def test_a_job_released_with_a_delay_waits(queue: Queue, pipeline: str, short: float):
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    job.release(delay=60)
    assert queue.reserve(pipeline) is None
    assert queue.stats(pipeline).delayed == 1
    queue.put(pipeline, 2)
    job = queue.reserve(pipeline)
    assert job is not None
    released_at = time.monotonic()
    job.release(delay=short)
    assert queue.reserve(pipeline, timeout=short + 3) is not None
    assert time.monotonic() - released_at >= short - (0.05 if queue.capabilities.subsecond else 1)


def test_a_release_keeps_its_reason(queue: Queue, pipeline: str):
    job_id = queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    job.release(delay=60, reason="ConnectionError: refused")
    if queue.capabilities.reasons:
        found = queue.find(job_id)
        assert found is not None
        assert found.reason == "ConnectionError: refused"


def test_a_buried_job_waits_for_an_operator_with_its_reason(queue: Queue, pipeline: str):
    job_id = queue.put(pipeline, {"to": "nobody"}, priority=3)
    job = queue.reserve(pipeline)
    assert job is not None
    job.bury("no such address")
    assert queue.reserve(pipeline) is None
    buried = queue.peek_buried(pipeline)
    assert buried is not None
    assert (buried.id, buried.data, buried.state) == (job_id, {"to": "nobody"}, JobState.BURIED)
    assert buried.priority == 3
    if queue.capabilities.reasons:
        assert buried.reason == "no such address"


@pytest.mark.parametrize("reason", ["\N{PILE OF POO} \0", "half of a character: \udcff", "x" * 100_000])
def test_no_text_is_too_strange_for_a_reason(queue: Queue, pipeline: str, reason: str):
    """It often quotes what made the trouble; a job that cannot be buried for that would run again."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    job.bury(reason)
    buried = queue.peek_buried(pipeline)
    assert buried is not None
    if queue.capabilities.reasons:
        assert buried.reason[:1] == reason[:1]
        assert len(buried.reason) == len(reason)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "relase"},
        {"delay": -1},
        {"delay": float("nan")},
        {"priority": -1},
        {"priority": 2**32},
        {"priority": 1.5},
        {"reason": KeyError("to")},
    ],
)
def test_a_settlement_out_of_range_is_refused_before_anything_is_sent(
    queue: Queue, pipeline: str, wrong: dict[str, Any]
):
    """Some servers would store it, and claim it out of order for ever after."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    with pytest.raises(ValueError, match=next(iter(wrong))):
        queue.reserve_many(pipeline, 1, settle=[Settlement(**{"job": job, "verb": "release", **wrong})])
    if "reason" in wrong:
        with pytest.raises(ValueError, match="reason"):
            job.bury(**wrong)
    job.delete()


def test_an_attempt_that_was_never_begun_is_given_back(queue: Queue, pipeline: str):
    """A worker that claims ahead returns what it did not begin, and that costs the job nothing."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    queue.exchange([Settlement(job=job, verb="release", counted=False)], (), 0)
    again = queue.reserve(pipeline)
    assert again is not None
    assert again.attempt == 1


def test_settle_carries_out_all_three_verbs_at_once(queue: Queue, pipeline: str):
    queue.put_many(pipeline, range(6))
    jobs = queue.reserve_many(pipeline, 6)
    lost = queue.settle(
        deleted=jobs[:2],
        released=[jobs[2], (jobs[3], 60)],
        buried=[jobs[4], (jobs[5], "why")],
    )
    assert lost == []
    stats = queue.stats(pipeline)
    assert (stats.ready, stats.delayed, stats.reserved, stats.buried) == (1, 1, 0, 2)


def test_a_batch_names_each_job_that_was_lost(queue: Queue, pipeline: str):
    """A verdict for each job: one lost lease is not hidden by the others, and does not stop them."""
    queue.put_many(pipeline, range(5))
    jobs = queue.reserve_many(pipeline, 5)
    jobs[1].delete()
    jobs[3].bury("gone")
    lost = queue.settle(deleted=jobs)
    assert [job.data for job in lost] == [1, 3]
    stats = queue.stats(pipeline)
    assert (stats.ready, stats.reserved, stats.buried) == (0, 0, 1)


def test_jobs_of_two_batches_are_settled_together(queue: Queue, pipeline: str):
    """Each by the lease of its own batch, alone and on the way to more."""
    queue.put_many(pipeline, range(9))
    first, second = (queue.reserve_many(pipeline, 4) for _ in range(2))
    first[0].delete()
    second[0].delete()
    lost = queue.settle(deleted=[first[0], first[1], second[1]])
    assert [job.data for job in lost] == [0]
    third = queue.reserve_many(pipeline, 1, settle=[second[0], second[2], second[3], first[2], first[3]])
    assert [job.data for job in third] == [8]
    assert [job.data for job in third.lost] == [4]
    assert queue.stats(pipeline).reserved == 1


def test_settle_and_claim_are_one_step(queue: Queue, pipeline: str):
    queue.put_many(pipeline, range(4))
    first = queue.reserve_many(pipeline, 2)
    first[0].delete()
    second = queue.reserve_many(pipeline, 2, settle=first)
    assert [job.data for job in second] == [2, 3]
    assert [job.data for job in second.lost] == [0]
    third = queue.reserve_many(
        pipeline, 2, settle=[Settlement(job=second[0], verb="bury", reason="x"), second[1]]
    )
    assert third == []
    assert third.lost == ()
    assert queue.stats(pipeline).buried == 1


def test_a_job_that_never_was_reserved_cannot_be_settled(queue: Queue, pipeline: str):
    queue.put(pipeline, 1)
    peeked = queue.peek_ready(pipeline)
    assert peeked is not None
    with pytest.raises((ValueError, LeaseLost)):
        peeked.delete()
    with pytest.raises(LeaseLost):
        queue.delete(peeked)
    assert queue.stats(pipeline).ready == 1
