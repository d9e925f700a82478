"""A lease is told from another one of the same job."""

from __future__ import annotations

import time

import pytest

import fleet
from fleet.errors import (
    LeaseLost,
)
from fleet.queue import Queue
from fleet.queue.job import Settlement
from tests import servers

pytestmark = pytest.mark.server


def test_an_old_handle_does_not_touch_the_job_that_has_its_number_now(own: servers.Server):
    """Ids start again when a server without a log is restarted, and anybody may delete a ready job."""
    with fleet.connect(own.dsn) as queue:
        queue.put("emails", "old")
        old = queue.reserve("emails")
        own.stop()
        own.start()
        time.sleep(0.1)  # a silent connection is looked at before it is used
        assert queue.put("emails", "new") == old.id  # type: ignore[union-attr]
        for verb in (old.delete, old.release, old.bury, old.touch):  # type: ignore[union-attr]
            with pytest.raises(LeaseLost):
                verb()
        assert queue.stats("emails").ready == 1


@pytest.mark.parametrize("known", [False, True], ids=["never-looked-at", "looked-at"])
def test_a_late_delete_does_not_remove_what_another_worker_put_back(
    queue: Queue, rival: Queue, pipeline: str, known: bool
):
    """The hole in beanstalkd's own fence: it deletes any job that is not reserved, for anybody."""
    queue.put(pipeline, 1, ttr=1)
    mine = queue.reserve(pipeline)
    assert mine is not None
    if known:
        assert mine.ttr == 1
    time.sleep(1.1)
    queue.stats(pipeline)  # beanstalkd looks at a silent connection's leases when it speaks
    theirs = rival.reserve(pipeline, timeout=2)
    assert theirs is not None
    theirs.release()
    with pytest.raises(LeaseLost):
        mine.delete()
    assert queue.stats(pipeline).ready == 1
    assert queue.discard(pipeline, "ready") == 1


def test_two_leases_of_one_connection_are_told_apart(queue: Queue, pipeline: str):
    """To the server both are the same holder."""
    queue.put(pipeline, 1)
    first = queue.reserve(pipeline)
    assert first is not None
    first.release()
    second = queue.reserve(pipeline)
    assert second is not None
    assert second.id == first.id
    for verb in (first.delete, first.release, first.bury, first.touch):
        with pytest.raises(LeaseLost):
            verb()
    second.delete()


def test_a_job_named_twice_in_a_batch_is_settled_once(queue: Queue, pipeline: str):
    queue.put(pipeline, 1)
    jobs = queue.reserve_many(pipeline, 1)
    verdicts, _ = queue.exchange([Settlement(job=jobs[0], verb="delete")] * 2, (), 0)
    assert verdicts == [True, False]


def test_a_job_of_another_queue_is_not_settled(queue: Queue, pipeline: str):
    with fleet.connect("sqlite:///:memory:") as other:
        other.put(pipeline, 1)
        job = other.reserve(pipeline)
        assert job is not None
        with pytest.raises(LeaseLost):
            queue.delete(job)
