"""A reserve that waits holds nobody up and loses nothing."""

from __future__ import annotations

import threading
import time

import pytest

from fleet.queue import Queue
from tests.queue.beanstalkd.tools import counter
from tests.waiting import eventually

pytestmark = pytest.mark.server


def test_a_waiting_reserve_does_not_hold_up_other_threads(queue: Queue, rival: Queue, pipeline: str):
    """The blocking reserve has a connection of its own: puts and heartbeats go on beside it."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    waiting = threading.Thread(target=queue.reserve, args=(pipeline + "-empty", 30))
    waiting.start()
    time.sleep(0.1)
    started = time.monotonic()
    for _ in range(20):
        queue.put(pipeline, 2)
        job.touch()
    # The wait is asked for a second at a time: 40 verbs that each met one would take four times as long.
    assert time.monotonic() - started < 10
    assert waiting.is_alive()
    rival.put(pipeline + "-empty", 1)
    waiting.join()
    job.delete()
    queue.discard(pipeline, "ready")


def test_a_job_that_comes_while_waiting_is_not_lost(queue: Queue, rival: Queue, pipeline: str):
    """A wait reserves; the claim that follows hands that very job out, with the facts of its own pipeline."""
    first, second = f"{pipeline}-1", f"{pipeline}-2"
    timer = threading.Timer(0.2, rival.put, args=(second, "here"), kwargs={"ttr": 30})
    timer.start()
    queue.wait([first, second], 1)
    timer.join()
    assert queue.stats(second).reserved == 1
    job = queue.reserve([first, second])
    assert job is not None
    assert (job.pipeline, job.data, job.ttr) == (second, "here", 30)
    job.delete()


def test_a_job_that_nobody_comes_for_is_given_back(queue: Queue, rival: Queue, pipeline: str):
    rival.put(pipeline, "here")
    queue.wait(pipeline, 1)
    assert queue.reserve(pipeline + "-other") is None
    assert queue.stats(pipeline).reserved == 1  # somebody may be on his way
    time.sleep(1.1)
    assert queue.reserve(pipeline + "-other") is None
    assert queue.stats(pipeline).ready == 1
    assert queue.discard(pipeline, "ready") == 1


def test_abandoned_leases_pin_no_connections(queue: Queue, rival: Queue, pipeline: str):
    """A handle that is dropped without a verb costs its ttr, and nothing after that."""
    before = counter(rival, "current-connections")
    for n in range(5):
        rival.put(pipeline, n, ttr=1)
        assert queue.reserve(pipeline, timeout=2) is not None
        time.sleep(1.05)
        queue.stats(pipeline)
        assert rival.discard(pipeline, "ready") == 1
    assert counter(rival, "current-connections") <= before + 2


def test_a_wait_below_a_second_takes_no_job_afterwards(queue: Queue, rival: Queue, pipeline: str):
    """The server counts whole seconds: what is left of one must not swallow a job."""
    for _ in range(3):
        assert queue.reserve(pipeline, timeout=0.1) is None
    rival.put(pipeline, 1)
    time.sleep(0.1)
    assert queue.stats(pipeline).ready == 1
    job = rival.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes) == (1, 0)
    job.delete()


def test_a_parked_job_whose_lease_is_over_is_not_handed_out(queue: Queue, pipeline: str):
    """It may be another worker's by now: it is claimed again, with a lease that holds."""
    queue.put(pipeline, b"x", ttr=1)
    queue.wait(pipeline, 5)
    time.sleep(1.1)
    job = queue.reserve(pipeline, timeout=3)
    assert job is not None
    job.delete()


def test_a_wait_ends_when_it_is_woken(queue: Queue, pipeline: str):
    waited = []
    for _ in range(3):
        threading.Timer(0.1, queue.wake).start()
        started = time.monotonic()
        queue.wait(pipeline, 1)
        waited.append(time.monotonic() - started)
    assert min(waited) < 0.6  # it would be a second each time, and on a busy machine it may be more once


def test_a_job_is_picked_up_at_once(queue: Queue, rival: Queue, pipeline: str):
    """The put wakes the waiting worker; no poll lies between."""
    taken: list[float] = []

    def work() -> None:
        for _ in range(20):
            job = queue.reserve(pipeline, timeout=5)
            taken.append(time.monotonic())
            assert job is not None
            job.delete()

    worker = threading.Thread(target=work)
    worker.start()
    late = []
    for n in range(20):
        time.sleep(0.03)
        put_at = time.monotonic()
        rival.put(pipeline, n)
        eventually(lambda n=n: len(taken) > n, every=0.001)
        late.append(taken[n] - put_at)
    worker.join()
    # A quarter of them: what a busy machine, or its disk, makes late, it makes late now and then.
    assert sorted(late)[5] < 0.05, late


def test_a_lease_about_to_end_makes_no_tight_loop(queue: Queue, pipeline: str):
    """In the last second of a lease beanstalkd answers its holder's reserves with DEADLINE_SOON, at once."""
    queue.put(pipeline, 1, ttr=1)
    assert queue.reserve(pipeline) is not None
    before = counter(queue, "cmd-reserve-with-timeout")
    queue.reserve(pipeline + "-empty", timeout=1.5)
    assert counter(queue, "cmd-reserve-with-timeout") - before < 15
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    job.delete()
