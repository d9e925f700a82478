"""The pytest plug-in, used as a project would use it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from fleet import Bury, Job, Retry
from fleet.worker.outcome import Policy
from fleet.worker.testing import FleetQueue, HandClock, fleet_clock, fleet_queue

__all__ = ["fleet_clock", "fleet_queue"]  # found here even where the entry point is not installed


def send(job: Job) -> None:
    to = job.data["to"]
    if "@" not in to:
        raise Bury("not an address")
    if to == "busy@example.org" and job.attempt == 1:
        raise Retry(after="30s")


async def send_async(job: Job) -> None:
    send(job)


@pytest.mark.parametrize("handler", [send, send_async, "tests.worker.test_plugin:send"])
def test_what_became_of_each_job_is_counted(fleet_queue: FleetQueue, handler: object) -> None:
    """A function or its import path, plain or async."""
    for to in ("ada@example.org", "nope", "busy@example.org"):
        fleet_queue.put("emails", {"to": to})
    done = fleet_queue.work("emails", handler)  # type: ignore[arg-type]

    assert (done.ok, done.failed, done.retried, done.buried) == (1, 1, [30.0], ["not an address"])
    assert fleet_queue.count("emails").buried == 1


def test_time_is_moved_by_hand(fleet_queue: FleetQueue, fleet_clock: HandClock) -> None:
    """A retry waits until the clock says so, and no test sleeps."""
    fleet_queue.put("emails", {"to": "busy@example.org"})
    assert fleet_queue.work("emails", send).retried == [30.0]

    fleet_clock.move("29s")
    assert fleet_queue.work("emails", send).ok == 0
    fleet_clock.move(1)
    assert fleet_queue.work("emails", send).ok == 1


def test_retries_end_in_a_burial(fleet_queue: FleetQueue, fleet_clock: HandClock) -> None:
    """With the cause as its reason."""

    def broken(job: Job) -> None:
        raise ValueError("no")

    fleet_queue.put("emails", 1)
    policy = Policy(max=1, first=10, jitter=False)
    assert fleet_queue.work("emails", broken, retries=policy).retried == [10]
    fleet_clock.move(10)
    (reason,) = fleet_queue.work("emails", broken, retries=policy).buried
    assert reason.startswith("ValueError: no at ")


def test_the_plug_in_costs_other_test_runs_nothing() -> None:
    """pytest loads it everywhere, so it loads no queue, no driver and no asyncio before it is used."""
    (entry,) = [entry for entry in entry_points(group="pytest11") if entry.name == "fleet"]
    script = (
        "import sys, pytest; before = set(sys.modules)\n"
        f"import {entry.value}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["fleet", "fleet.worker", "fleet.worker.testing"]
