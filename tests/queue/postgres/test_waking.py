"""LISTEN and NOTIFY: who waits hears at once, and asks little."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from fleet.queue import Queue
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.waiting import LOOK_SECONDS
from tests.queue.postgres.tools import backend
from tests.waiting import eventually

pytestmark = pytest.mark.server


def test_a_put_wakes_a_waiting_worker_within_milliseconds(queue: Queue, rival: Queue):
    """Pushed, not polled."""
    waits = []
    for n in range(12):
        timer = threading.Timer(0.1, lambda: rival.put("emails", time.monotonic()))
        timer.start()
        job = queue.reserve("emails", timeout=10)
        assert job is not None
        if n:  # the first wait connects its listener
            waits.append(time.monotonic() - job.data)
        job.delete()
        timer.join()
    # A quarter of them: what a busy machine makes late, it makes late now and then, and a poll each time.
    assert sorted(waits)[2] < 0.1, waits


@pytest.mark.parametrize(
    "happens",
    [
        lambda rival: rival.put_many("emails", range(60)),
        lambda rival: rival.kick("emails"),
        lambda rival: rival.resume("emails"),
        lambda rival: rival.put("emails", 1, delay=0.3),
    ],
    ids=["put_many", "kick", "resume", "a shorter delay"],
)
def test_whatever_makes_a_job_ready_wakes_the_waiting(queue: Queue, rival: Queue, happens: Any):
    rival.put("emails", 1)
    job = rival.reserve("emails")
    assert job is not None
    job.bury()
    if happens.__code__.co_names[0] == "resume":
        rival.kick("emails")
        rival.pause("emails", 60)
    assert queue.reserve("emails", timeout=0.3) is None
    happened_at = 0.0

    def happen() -> None:
        nonlocal happened_at
        happened_at = time.monotonic()
        happens(rival)

    timer = threading.Timer(0.2, happen)
    timer.start()
    assert queue.reserve("emails", timeout=10) is not None
    woken_at = time.monotonic()
    timer.join()
    assert woken_at - happened_at < LOOK_SECONDS / 2


def test_bursts_are_told_once_and_none_of_their_jobs_is_overlooked(queue: Queue, rival: Queue):
    """A put right after another one is not told again: whoever heard the first looks twice."""
    assert queue.reserve("emails", timeout=0.2) is None
    for _ in range(5):
        done_at: list[float] = []

        def burst() -> None:
            for n in range(12):
                rival.put("emails", n)
                time.sleep(0.001)
            done_at.append(time.monotonic())  # noqa: B023

        thread = threading.Thread(target=burst)
        thread.start()
        taken = 0
        while taken < 12:
            jobs = queue.reserve_many("emails", 5, timeout=10)
            queue.settle(deleted=jobs)
            taken += len(jobs)
        taken_at = time.monotonic()
        thread.join()
        assert taken_at - done_at[0] < LOOK_SECONDS / 2


def test_a_listener_that_lost_its_connection_comes_back(queue: Queue, rival: Queue, admin: Any, prefix: str):
    assert queue.reserve("emails", timeout=0.3) is None
    listeners = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    assert admin.execute(listeners, [f"{prefix} listen"]).rowcount == 1
    timer = threading.Timer(0.5, rival.put, args=("emails", 1))
    timer.start()
    started = time.monotonic()
    assert queue.reserve("emails", timeout=10) is not None
    assert time.monotonic() - started < 0.5 + LOOK_SECONDS / 2
    timer.join()


@pytest.mark.slow
def test_an_idle_worker_asks_the_server_every_few_seconds_at_most(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    """At most one question in two seconds, with the look that stands behind the push."""
    asked: list[float] = []
    ask = Runner.ask

    def counted(self: Runner, *arguments: Any) -> Any:
        asked.append(time.monotonic())
        return ask(self, *arguments)

    assert queue.reserve("emails", timeout=1) is None
    monkeypatch.setattr(Runner, "ask", counted)
    cpu = time.process_time()
    assert queue.reserve("emails", timeout=12) is None
    assert len(asked) <= 6  # the first, the last, and one about every 3.7 seconds
    assert time.process_time() - cpu < 0.1


def test_a_listener_reads_also_while_its_worker_is_busy(queue: Queue, rival: Queue, admin: Any):
    """Unread notifications would fill the server's buffers and hold back its vacuum."""
    assert queue.reserve("emails", timeout=0.2) is None
    admin.execute("SELECT pg_notify(%s, 'x' || i) FROM generate_series(1, 20000) AS i", [_channel(queue)])
    listener = backend(queue)._waiting.listener
    assert listener is not None
    eventually(lambda: listener.mark(["x20000"]) > listener.mark([]))


def _channel(queue: Queue) -> str:
    return backend(queue)._bell.channel
