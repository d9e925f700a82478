"""The lease: who may still settle a job, and who may not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fleet.errors import LeaseLost
from fleet.queue import Queue
from fleet.queue.job import Job
from tests.contract.clockwork import advance, can_advance

VERBS: dict[str, Callable[[Job], None]] = {
    "delete": lambda job: job.delete(),
    "release": lambda job: job.release(),
    "bury": lambda job: job.bury("late"),
    "touch": lambda job: job.touch(),
}


@pytest.fixture
def overtaken(queue: Queue, rival: Queue, pipeline: str, short: float) -> tuple[Job, Job]:
    """A job whose first holder slept through its lease, and the second holder's handle."""
    queue.put(pipeline, b"hello", priority=100, ttr=short)
    mine = queue.reserve(pipeline)
    speak = threading.Timer(short + 0.1, queue.stats, [pipeline])
    if not queue.capabilities.late_settle:
        # beanstalkd 1.12 and 1.13 miss the end of most leases whose connection is silent (conn_timeout in
        # prot.c compares with >=).  They notice it as soon as the holder says anything.
        speak.start()
    theirs = rival.reserve(pipeline, timeout=short + 3)  # returns once the lease runs out
    if speak.is_alive():
        speak.join()
    assert mine is not None
    assert theirs is not None
    assert theirs.id == mine.id
    return mine, theirs


@pytest.mark.parametrize("verb", VERBS)
def test_a_lease_that_ran_out_cannot_settle_the_job(
    queue: Queue, pipeline: str, overtaken: tuple[Job, Job], verb: str
):
    """P4: a slow worker cannot change a job that another worker now holds."""
    mine, theirs = overtaken
    with pytest.raises(LeaseLost):
        VERBS[verb](mine)
    assert mine.lost
    stats = queue.stats(pipeline)
    assert (stats.reserved, stats.ready, stats.buried, stats.delayed) == (1, 0, 0, 0)
    theirs.delete()
    assert queue.stats(pipeline).reserved == 0


def test_the_second_start_is_counted_as_a_crash_of_the_first(overtaken: tuple[Job, Job]):
    """Crashes are counted apart from failures, and both starts count as attempts."""
    _, theirs = overtaken
    assert (theirs.attempt, theirs.crashes) == (2, 1)
    assert theirs.failures == 0


@pytest.mark.parametrize("verb", VERBS)
def test_an_expired_lease_that_nobody_took_is_still_ours(
    queue: Queue, pipeline: str, short: float, verb: str
):
    """The work is done; repeating it helps nobody.  A forced difference on beanstalkd."""
    queue.put(pipeline, 1, ttr=short)
    job = queue.reserve(pipeline)
    assert job is not None
    _let_it_expire(queue, short)
    if queue.capabilities.late_settle:
        VERBS[verb](job)
    else:
        with pytest.raises(LeaseLost):
            VERBS[verb](job)


def test_touch_keeps_the_lease_beyond_its_ttr(queue: Queue, rival: Queue, dsn: str, pipeline: str):
    """P10: a renewed lease is as good as a new one."""
    ttr = 60 if can_advance(dsn) else 4  # seconds that really go by: as many as a busy machine may need
    queue.put(pipeline, 1, ttr=ttr)
    job = queue.reserve(pipeline)
    assert job is not None
    for _ in range(3):
        _let_pass(dsn, pipeline, ttr * 0.55)
        assert rival.reserve(pipeline) is None
        before = job.expires_at
        job.touch()
        assert job.expires_at > before
    job.delete()


def test_touch_can_set_another_length(queue: Queue, rival: Queue, pipeline: str, short: float):
    if not queue.capabilities.touch_ttr:
        return
    queue.put(pipeline, 1, ttr=short)
    job = queue.reserve(pipeline)
    assert job is not None
    queue.touch(job, 60)
    assert rival.reserve(pipeline, timeout=short * 1.5) is None
    job.delete()


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_was_settled_cannot_be_settled_again(queue: Queue, pipeline: str, verb: str):
    """P5: the same verb repeated never touches another job and never goes unnoticed."""
    queue.put(pipeline, 1)
    queue.put(pipeline, 2)
    job = queue.reserve(pipeline)
    assert job is not None
    job.delete()
    with pytest.raises(LeaseLost):
        VERBS[verb](job)
    assert queue.stats(pipeline).ready == 1


def test_a_released_job_does_not_obey_its_former_holder(queue: Queue, rival: Queue, pipeline: str):
    """The fence is the token, not the attempt number: release does not make the old handle valid again."""
    queue.put(pipeline, 1)
    mine = queue.reserve(pipeline)
    assert mine is not None
    mine.release()
    theirs = rival.reserve(pipeline)
    assert theirs is not None
    with pytest.raises(LeaseLost):
        mine.delete()
    theirs.delete()


def test_an_operator_can_take_a_job_from_its_holder(queue: Queue, rival: Queue, pipeline: str):
    """discard is unfenced on purpose, and the holder finds out."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    if not queue.capabilities.late_settle:
        return  # beanstalkd lets nobody touch a reserved job of another connection
    assert rival.discard(pipeline, "reserved") == 1
    with pytest.raises(LeaseLost):
        job.touch()


def _let_it_expire(queue: Queue, short: float) -> None:
    time.sleep(short + (0.1 if queue.capabilities.subsecond else 1.2))


def _let_pass(dsn: str, pipeline: str, seconds: float) -> None:
    if can_advance(dsn):
        advance(dsn, pipeline, seconds)
    else:
        time.sleep(seconds)


@pytest.mark.parametrize("verb", ["release", "bury", "touch"])
def test_a_holder_who_comes_back_after_the_rescue_has_not_crashed(
    queue: Queue, rival: Queue, dsn: str, pipeline: str, verb: str
):
    """The rescue counts a crash; the late holder's own verb takes that count away again."""
    if not queue.capabilities.late_settle:
        return
    queue.put(pipeline, "first", priority=1, ttr=60)
    queue.put(pipeline, "second", priority=9, ttr=60)
    mine = queue.reserve_many(pipeline, 2)[1]
    advance(dsn, pipeline, 61)
    taken = rival.reserve(pipeline)  # rescues both, and takes the urgent one
    assert taken is not None
    assert taken.data == "first"
    VERBS[verb](mine)
    if verb == "touch":
        assert queue.stats(pipeline).reserved == 2
        mine.release()
    elif verb == "bury":
        buried = queue.peek_buried(pipeline)
        assert buried is not None
        assert (buried.attempt, buried.crashes) == (1, 0)
        return
    again = rival.reserve(pipeline)
    assert again is not None
    assert (again.data, again.attempt, again.crashes) == ("second", 2, 0)
