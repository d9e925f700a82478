"""release_jobs, bury_jobs, move_jobs: what an operator does with jobs that nobody holds."""

from __future__ import annotations

import time

import pytest

from fleet.errors import LeaseLost, NotSupported
from fleet.queue import Queue


def test_delayed_jobs_are_made_ready_now_and_keep_their_attempts(queue: Queue, pipeline: str):
    """A retry that waits for an hour need not, once the mistake is mended."""
    queue.put(pipeline, "later", priority=7, delay=3600)
    queue.put(pipeline, "failed", priority=9)
    job = queue.reserve(pipeline)
    assert job is not None
    job.release(delay=3600, reason="500 from the server")
    assert queue.reserve(pipeline) is None
    assert queue.release_jobs(pipeline, limit=1) == 1
    assert queue.release_jobs(pipeline) == 1
    jobs = queue.reserve_many(pipeline, 5)
    attempts = 2 if queue.capabilities.fresh_budget else 1  # beanstalkd kicks it, which forgives one
    assert [(job.data, job.priority) for job in jobs] == [("later", 7), ("failed", 9)]
    assert [job.attempt for job in jobs] == [1, attempts]


def test_released_jobs_are_chosen_by_id(queue: Queue, pipeline: str):
    first, second, third = (queue.put(pipeline, n, delay=3600) for n in range(3))
    ready = queue.put(pipeline, "ready", priority=5000)
    assert queue.release_jobs(pipeline, ids=[second, ready, 10**15]) == 1
    assert [job.id for job in queue.reserve_many(pipeline, 5)] == [second, ready]
    assert {queue.find(id_).state for id_ in (first, third)} == {"delayed"}  # type: ignore[union-attr]


def test_a_release_wakes_who_waits(queue: Queue, rival: Queue, pipeline: str):
    """Also a worker that knows of no reason to look before the delay is over."""
    queue.put(pipeline, 1, delay=3600)
    assert rival.reserve(pipeline) is None
    assert queue.release_jobs(pipeline) == 1
    assert rival.reserve(pipeline, timeout=10) is not None


def test_a_reserved_job_is_released_once_its_lease_is_over(queue: Queue, pipeline: str, short: float):
    """The worker is gone: one more crash, as if a claim had found it."""
    if not queue.capabilities.late_settle:
        with pytest.raises(NotSupported, match="ready again when its ttr is over"):
            queue.release_jobs(pipeline, "reserved")
        return
    queue.put(pipeline, "lost", ttr=short)
    queue.put(pipeline, "held", ttr=60)
    jobs = queue.reserve_many(pipeline, 2)
    time.sleep(short + 0.1)
    assert queue.release_jobs(pipeline, "reserved") == 1
    stats = queue.stats(pipeline)
    assert (stats.ready, stats.reserved) == (1, 1)
    again = queue.reserve(pipeline)
    assert again is not None
    assert (again.id, again.attempt, again.crashes) == (jobs[0].id, 2, 1)


def test_force_ends_the_lease_of_a_live_worker(queue: Queue, rival: Queue, pipeline: str):
    """Its holder may still settle the job, until somebody else has begun it: then it has lost it."""
    if not queue.capabilities.late_settle:
        return
    ids = queue.put_many(pipeline, ["slow", "quick"])
    slow, quick = queue.reserve_many(pipeline, 2)
    assert rival.release_jobs(pipeline, "reserved") == 0, "a valid lease is not broken"
    assert rival.release_jobs(pipeline, "reserved", force=True) == 2
    quick.delete()
    taken = rival.reserve(pipeline)
    assert taken is not None
    assert taken.id == ids[0]
    with pytest.raises(LeaseLost):
        slow.delete()
    taken.delete()


@pytest.mark.parametrize("state", ["ready", "delayed"])
def test_waiting_jobs_are_put_aside_for_a_reason(queue: Queue, pipeline: str, state):
    """A kick brings them back, with their priority."""
    delay = 3600 if state == "delayed" else 0
    ids = [queue.put(pipeline, n, priority=9 - n, delay=delay) for n in range(3)]
    if not queue.capabilities.reasons:
        with pytest.raises(NotSupported, match="buries reserved jobs only"):
            queue.bury_jobs(pipeline, state, "waits for the new server")
        return
    assert queue.bury_jobs(pipeline, state, "waits for the new server", 2) == 2
    buried = queue.peek(pipeline, "buried", 5)
    assert [(job.id, job.reason) for job in buried] == [(id_, "waits for the new server") for id_ in ids[:2]]
    assert buried[0].waited < 30
    assert queue.bury_jobs(pipeline, state, "this one too", ids=[ids[2]]) == 1
    assert queue.reserve(pipeline) is None
    assert queue.kick(pipeline, reason="waits%") == 2
    assert [job.priority for job in queue.reserve_many(pipeline, 5)] == [8, 9]


@pytest.mark.parametrize("state", ["ready", "delayed", "buried"])
def test_jobs_move_to_another_pipeline_as_they_are(queue: Queue, rival: Queue, pipeline: str, state):
    """Id, payload, priority, ttr, delay, attempts and reason are kept."""
    target = f"{pipeline}-slow"
    if not queue.capabilities.lists:
        with pytest.raises(NotSupported, match="stays in its tube"):
            queue.move_jobs(pipeline, target, state)
        return
    ids = [queue.put(pipeline, {"n": n}, priority=9 - n, ttr=30 + n) for n in range(3)]
    for job in queue.reserve_many(pipeline, 3):
        if state == "buried":
            job.bury("row 17")
        else:
            job.release(delay=3600 if state == "delayed" else 0, reason="row 17")
    rival.put(target, "newer", priority=5000)
    assert rival.reserve(target) is not None, "claims of the target have passed the older ids"
    before = {job.id: job for job in queue.peek(pipeline, state, 5)}
    assert queue.move_jobs(pipeline, target, state, ids=[ids[2]]) == 1
    assert queue.move_jobs(pipeline, target, state, 1) == 1
    assert [job.id for job in queue.peek(pipeline, state, 5)] == [ids[1]]
    moved = {job.id: job for job in queue.peek(target, state, 5)}
    assert moved.keys() == {ids[0], ids[2]}
    same = ("payload", "priority", "ttr", "attempt", "crashes", "reason", "uid")
    for id_, job in moved.items():
        assert job.pipeline == target
        assert [getattr(job, name) for name in same] == [getattr(before[id_], name) for name in same]
        assert abs(job.delay - before[id_].delay) < 30
    if state == "ready":
        assert [job.id for job in rival.reserve_many(target, 5)] == [ids[2], ids[0]]


def test_a_job_whose_unique_key_is_taken_there_stays(queue: Queue, pipeline: str):
    """Nothing is lost, and nothing is there twice."""
    if not queue.capabilities.unique:
        return
    target = f"{pipeline}-slow"
    queue.put(target, "theirs", unique="k")
    mine = queue.put(pipeline, "mine", unique="k")
    free = queue.put(pipeline, "free", unique="k2")
    plain = queue.put(pipeline, "plain")
    assert queue.move_jobs(pipeline, target, "ready") == 2
    assert [job.id for job in queue.peek(pipeline, "ready", 5)] == [mine]
    assert {job.id for job in queue.peek(target, "ready", 5)} > {free, plain}


def test_a_state_that_a_verb_is_not_for_is_a_slip(queue: Queue, pipeline: str):
    """What becomes of a reserved job is for its holder to say."""
    for call in (
        lambda: queue.release_jobs(pipeline, "ready"),  # type: ignore[arg-type]
        lambda: queue.bury_jobs(pipeline, "reserved", "x"),  # type: ignore[arg-type]
        lambda: queue.move_jobs(pipeline, "other", "reserved"),  # type: ignore[arg-type]
        lambda: queue.move_jobs(pipeline, pipeline, "ready"),
        lambda: queue.move_jobs(pipeline, "no such\nname", "ready"),
    ):
        with pytest.raises(ValueError):
            call()
