"""Every back end against one in-memory model, over random stories of two workers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import fleet
from fleet.errors import LeaseLost
from fleet.queue import Queue
from fleet.queue.job import Job, JobState, Settlement
from tests.contract.clockwork import advance, can_advance
from tests.contract.model import Model

_names = itertools.count(1)
_MINUTES = 600.0  # delays and leases never end by themselves: only `advance` ends them

# How an exchange may end an attempt.
_ENDS: dict[str, dict[str, Any]] = {
    "done": {"verb": "delete"},
    "aside": {"verb": "bury", "reason": "why"},
    "again": {"verb": "release", "priority": 0},
    "later": {"verb": "release", "delay": _MINUTES, "reason": "later"},
    "unbegun": {"verb": "release", "counted": False},
}

workers = st.sampled_from([0, 1])
sides = st.sampled_from("aaab")  # mostly one pipeline: stories that meet are the interesting ones
few = st.integers(min_value=1, max_value=4)


class QueueMachine(RuleBasedStateMachine):
    """Leases stay in their bundle after they ended: stale tokens are the interesting inputs."""

    dsn = ""
    leases: Bundle[tuple[Job, int]] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.queues: list[Queue] = [fleet.connect(self.dsn) for _ in range(2)]
        self.prefix = f"model-{os.getpid()}-{next(_names)}-"
        self.model = Model()
        self.able = self.queues[0].capabilities

    def teardown(self) -> None:
        for side in "ab":
            for state in (JobState.READY, JobState.DELAYED, JobState.BURIED):
                self.queues[0].discard(self.prefix + side, state)
        for queue in self.queues:
            queue.close()

    @rule(
        worker=workers,
        side=sides,
        priority=st.sampled_from([0, 1, 1024]),
        delayed=st.booleans(),
        unique=st.sampled_from([None, None, "k"]),
    )
    def put(self, worker: int, side: str, priority: int, delayed: bool, unique: str | None) -> None:
        unique = unique if self.able.unique else None
        pipeline, delay = self.prefix + side, _MINUTES if delayed else 0
        given = self.queues[worker].put(
            pipeline, {"p": priority}, priority=priority, delay=delay, ttr=_MINUTES, unique=unique
        )
        self.model.put(given, pipeline, priority, delay, _MINUTES, unique)

    @rule(worker=workers, side=sides, count=few)
    def put_many(self, worker: int, side: str, count: int) -> None:
        pipeline = self.prefix + side
        for given in self.queues[worker].put_many(pipeline, range(count), priority=5, ttr=_MINUTES):
            self.model.put(given, pipeline, 5, 0, _MINUTES, None)

    @precondition(lambda self: self.able.uid and self.model.rows)
    @rule(worker=workers, which=st.integers(0, 9))
    def put_again(self, worker: int, which: int) -> None:
        """As after a lost answer: the job keeps its repetition out in whatever state it is."""
        ids = sorted(self.model.rows)
        job = self.queues[worker].find(ids[which % len(ids)])
        assert job is not None
        if job.uid:
            assert self.queues[worker].put(job.pipeline, job.payload, priority=7, uid=job.uid) == job.id

    @rule(target=leases, worker=workers, order=st.sampled_from(["a", "a", "ab", "ba"]), limit=few)
    def reserve(self, worker: int, order: str, limit: int) -> object:
        pipelines = [self.prefix + side for side in order]
        return self._compared(self.queues[worker].reserve_many(pipelines, limit), pipelines, limit)

    @rule(lease=leases, verb=st.sampled_from(["delete", "bury", "bury", "touch"]))
    def settle(self, lease: tuple[Job, int], verb: str) -> None:
        job, number = lease
        allowed = self.model.settle(job.id, number, verb, reason="why" if verb == "bury" else "")
        try:
            {"delete": job.delete, "bury": lambda: job.bury("why"), "touch": job.touch}[verb]()
            happened = True
        except LeaseLost:
            happened = False
        assert happened == allowed

    @rule(lease=leases, delayed=st.booleans(), priority=st.sampled_from([None, 0, 2000]))
    def release(self, lease: tuple[Job, int], delayed: bool, priority: int | None) -> None:
        job, number = lease
        delay = _MINUTES if delayed else 0
        allowed = self.model.settle(job.id, number, "release", delay=delay, priority=priority)
        try:
            job.release(delay=delay, priority=priority)
            happened = True
        except LeaseLost:
            happened = False
        assert happened == allowed

    @rule(batch=st.lists(consumes(leases), max_size=4))
    def delete_a_batch(self, batch: list[tuple[Job, int]]) -> None:
        if not batch:
            return
        # One connection settles what both reserved: on SQL the token is all that counts.
        if self.able.late_settle:
            queue = self.queues[0]
            verdicts, _ = queue.exchange([Settlement(job=job, verb="delete") for job, _ in batch], (), 0)
            assert verdicts == [self.model.settle(job.id, number, "delete") for job, number in batch]

    @rule(
        target=leases,
        batch=st.lists(st.tuples(leases, st.sampled_from(sorted(_ENDS))), min_size=1, max_size=4),
        order=st.sampled_from(["a", "ab"]),
        limit=few,
    )
    def settle_and_reserve(self, batch: list[tuple[tuple[Job, int], str]], order: str, limit: int) -> object:
        """In one step, as workers do: what is given back may come at once."""
        ends = {number: (job, _ENDS[end]) for (job, number), end in batch}  # each lease once
        if not self.able.late_settle:  # beanstalkd: on its own connection only
            ends = {number: end for number, end in ends.items() if end[0]._queue is self.queues[0]}
        pipelines = [self.prefix + side for side in order]
        settlements = [Settlement(job=job, **end) for job, end in ends.values()]
        verdicts, jobs = self.queues[0].exchange(settlements, pipelines, limit)
        assert verdicts == [self.model.settle(job.id, number, **end) for number, (job, end) in ends.items()]
        return self._compared(jobs, pipelines, limit)

    def _compared(self, jobs: Sequence[Job], pipelines: Sequence[str], limit: int) -> object:
        """The leases of *jobs*, which must be what the model gives."""
        expected = self.model.reserve(pipelines, limit)
        assert [job.id for job in jobs] == [row.id for row, _ in expected]
        for job, (row, _) in zip(jobs, expected, strict=True):
            assert job.priority == row.priority
            if self.able.tables:
                assert (job.attempt, job.crashes, job.reason) == (row.attempts, row.crashes, row.reason)
        return multiple(*((job, lease) for job, (_, lease) in zip(jobs, expected, strict=True)))

    @rule(worker=workers, side=sides, limit=few)
    def kick(self, worker: int, side: str, limit: int) -> None:
        pipeline = self.prefix + side
        if not self.able.tables:
            limit = 1000  # beanstalkd kicks in the order of the burials, and is asked for all of them here
        assert self.queues[worker].kick(pipeline, limit) == self.model.kick(pipeline, limit)

    @rule(worker=workers, side=sides, limit=few, state=st.sampled_from(["ready", "delayed", "buried"]))
    def discard(self, worker: int, side: str, limit: int, state: str) -> None:
        if not self.able.late_settle:
            return  # beanstalkd deletes ready jobs in its own order
        pipeline = self.prefix + side
        expected = self.model.discard(pipeline, state, limit)
        assert self.queues[worker].discard(pipeline, JobState(state), limit) == expected

    @rule(
        worker=workers,
        side=sides,
        limit=few,
        state=st.sampled_from(["delayed", "reserved"]),
        force=st.booleans(),
    )
    def release_jobs(self, worker: int, side: str, limit: int, state: str, force: bool) -> None:
        if not self.able.late_settle:
            return  # beanstalkd releases by its own order, and no reserved ones
        pipeline = self.prefix + side
        expected = self.model.release_jobs(pipeline, state, limit, force=force)
        moved = self.queues[worker].release_jobs(pipeline, JobState(state), limit, force=force)
        assert moved == expected

    @rule(worker=workers, side=sides, limit=few, state=st.sampled_from(["ready", "delayed"]))
    def bury_jobs(self, worker: int, side: str, limit: int, state: str) -> None:
        if self.able.late_settle:
            pipeline = self.prefix + side
            expected = self.model.bury_jobs(pipeline, state, limit, "aside")
            assert self.queues[worker].bury_jobs(pipeline, JobState(state), "aside", limit) == expected

    @rule(worker=workers, side=sides, limit=few, state=st.sampled_from(["ready", "delayed", "buried"]))
    def move_jobs(self, worker: int, side: str, limit: int, state: str) -> None:
        if self.able.late_settle:
            here, there = self.prefix + side, self.prefix + ("b" if side == "a" else "a")
            expected = self.model.move_jobs(here, there, state, limit)
            assert self.queues[worker].move_jobs(here, there, JobState(state), limit) == expected

    @rule(worker=workers, side=sides, on=st.sampled_from([False, False, False, True]))
    def pause(self, worker: int, side: str, on: bool) -> None:
        pipeline = self.prefix + side
        self.queues[worker].pause(pipeline, _MINUTES if on else 0)
        self.model.paused[pipeline] = self.model.now + _MINUTES if on else 0

    @precondition(lambda self: can_advance(self.dsn))
    @rule(seconds=st.sampled_from([_MINUTES / 3, _MINUTES * 1.1, _MINUTES * 1.1]))
    def advance(self, seconds: float) -> None:
        advance(self.dsn, self.prefix + "%", seconds)
        self.model.now += seconds

    @rule(worker=workers)
    def reconnect(self, worker: int) -> None:
        """A worker that vanishes keeps its leases on SQL; on beanstalkd the server ends them."""
        if self.able.late_settle:
            self.queues[worker].close()
            Queue.__init__(self.queues[worker], fleet.connect(self.dsn).backend)  # jobs in hand know this one

    @invariant()
    def counts_are_equal(self) -> None:
        for side in "ab":
            stats = self.queues[0].stats(self.prefix + side)
            real = {state: getattr(stats, state) for state in ("ready", "delayed", "reserved", "buried")}
            assert real == self.model.counts(self.prefix + side)


@pytest.mark.timeout(400)
def test_random_stories_end_as_in_the_model(dsn: str):
    """P1, P3, P4, P5, P8: states, order, leases, tokens, delays, kick, bury, pause, unique keys."""
    machine = type("Machine", (QueueMachine,), {"dsn": dsn})
    profile = settings(
        # A story costs a server a hundred round trips and commits; SQLite has the time for more of them.
        max_examples=int(os.environ.get("FLEET_MODEL_EXAMPLES", "50" if dsn.startswith("sqlite") else "15")),
        stateful_step_count=50,
        deadline=None,
        derandomize=os.environ.get("CI") == "true",
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=profile)
