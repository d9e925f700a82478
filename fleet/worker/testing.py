"""
The pytest plug-in: a queue for each test, handlers run on it in the test itself, time moved by hand.

    def test_bad_address_is_buried(fleet_queue):
        fleet_queue.put("emails", {"to": "nope"})
        assert fleet_queue.work("emails", "shop.jobs.email:send").buried == ["not an address"]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleet.queue.job import Job, PipelineStats
    from fleet.queue.queue import Queue
    from fleet.worker.hooks import Hooks
    from fleet.worker.outcome import Policy

_EVERY_STATE = ("ready", "delayed", "reserved", "buried")


@dataclass(slots=True)
class Done:
    """What became of the jobs of one `work`."""

    ok: int = 0  # returned, and deleted
    failed: int = 0  # attempts that ended in an error
    retried: list[float] = field(default_factory=list)  # seconds until each next attempt
    buried: list[str] = field(default_factory=list)  # first lines of the reasons


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        import time

        self._now = time.time_ns() // 1000  # microseconds, as the back end counts

    def move(self, by: str | float) -> None:
        """Let that much time go by: "30s", or seconds."""
        from fleet.units import parse_duration

        self._now += round(parse_duration(by) * 1e6)

    def wall(self) -> int:
        return self._now

    def boot(self) -> int:
        return self._now


class FleetQueue:
    """The queue of one test.  `queue` is a real `fleet.Queue`, for everything that has no shortcut here."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def put(self, pipeline: str, payload: object, **options: Any) -> int:
        """As `Queue.put`."""
        return self.queue.put(pipeline, payload, **options)

    def count(self, pipeline: str) -> PipelineStats:
        """How many jobs are ready, delayed, reserved and buried."""
        return self.queue.stats(pipeline, cap=1_000_000)

    def work(
        self,
        pipeline: str,
        handler: str | Callable[[Job], Any],
        *,
        retries: Policy | None = None,
        hooks: Sequence[Hooks] = (),
    ) -> Done:
        """
        Run *handler*, a function or its import path, on every job that is ready.

        *retries* is the schedule of the pipeline; by default that of a
        manifest without one, but without jitter.  A job that is to be tried
        again is delayed: move the clock, and call this again.
        """
        from fleet.queue.consumer import Consumer
        from fleet.worker import family
        from fleet.worker.handler import check_result, is_async, load_handler
        from fleet.worker.hooks import with_hooks
        from fleet.worker.outcome import Policy

        function = with_hooks(load_handler(handler) if isinstance(handler, str) else handler, hooks)
        policy = retries or Policy(jitter=False)
        done, since = Done(), family.generation
        consumer = Consumer(self.queue, (pipeline,), pulse=False)
        try:
            while (job := consumer.take(0)) is not None:
                error: BaseException | None = None
                try:
                    if is_async(function):
                        import asyncio

                        asyncio.run(function(job))
                    else:
                        check_result(function(job))
                except KeyboardInterrupt:
                    raise
                except BaseException as raised:
                    error = raised
                family.end_child(since, error)
                if job.settled:
                    consumer.forget(job)
                else:
                    consumer.settle(_verdict(job, error, policy, done))
        finally:
            consumer.close()
        return done


@pytest.fixture
def fleet_clock() -> HandClock:
    """The clock of `fleet_queue`: `fleet_clock.move("30s")`."""
    return HandClock()


@pytest.fixture
def fleet_queue(fleet_clock: HandClock) -> Iterator[FleetQueue]:
    """
    An empty queue in memory, whose time is moved by `fleet_clock`.

    With $FLEET_TEST_DSN it is a queue on that server instead, under the table
    prefix "fleet_test", emptied before and after; its time cannot be moved.
    """
    from fleet.queue.queue import Queue, connect

    dsn = os.environ.get("FLEET_TEST_DSN")
    if dsn:
        with connect(dsn, prefix="fleet_test") as queue:
            _empty(queue)
            fleet_clock.move = _cannot_move  # type: ignore[method-assign]
            yield FleetQueue(queue)
            _empty(queue)
        return
    from fleet.queue.backends.sqlite import SqliteBackend

    backend = SqliteBackend(":memory:", clock=fleet_clock)  # type: ignore[arg-type]
    with Queue(backend) as queue:
        yield FleetQueue(queue)


def _verdict(job: Job, error: BaseException | None, policy: Policy, done: Done) -> Any:
    from fleet.queue.job import Settlement
    from fleet.worker.outcome import Bury, after_error

    if error is None:
        done.ok += 1
        return Settlement(job=job, verb="delete")
    verdict = after_error(job, error, policy, 0.0)
    if not isinstance(error, Bury):
        done.failed += 1
    if verdict.verb == "bury":
        done.buried.append(verdict.reason.partition("\n")[0])
    else:
        done.retried.append(verdict.delay)
    return verdict


def _empty(queue: Queue) -> None:
    for pipeline in queue.pipelines():
        for state in _EVERY_STATE:
            queue.discard(pipeline, state)  # type: ignore[arg-type]


def _cannot_move(by: str | float) -> None:
    pytest.skip(f"the clock of $FLEET_TEST_DSN cannot be moved by {by}")
