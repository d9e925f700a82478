"""Which fault happens when: fixed by the seed.  Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.steps import STEPS

WORKER_FAULTS = ("kill", "kill-step", "stop", "stop-step", "term", "term-step", "oom", "worker-clock")
MANAGER_FAULTS = ("supervisord", "stdout", "log-full", "apply")
STORAGE_FAULTS = ("power", "disk-full", "fsync", "write")
SERVER_FAULTS = ("server", "server-stop", "freeze", "cut", "cut-byte", "stall", "connections", "clock")
SQL_FAULTS = ("admin-kill", "deadlock", "migrate")
_STORE = {
    "sqlite": (*STORAGE_FAULTS, "lock", "migrate"),
    "postgresql": (*STORAGE_FAULTS, *SERVER_FAULTS, *SQL_FAULTS),
    "mariadb": (*STORAGE_FAULTS, *SERVER_FAULTS, *SQL_FAULTS),
    # No errors of its disk: after one it may stop to write its log, or bury what it was to release, and tells
    # nobody.  Nothing is promised there, so there is nothing to judge.
    "beanstalkd": ("power", *SERVER_FAULTS),
    "pgbouncer": (*STORAGE_FAULTS, *SERVER_FAULTS, *SQL_FAULTS, "pooler"),
}
_SHARE = {
    "kill": 10,
    "kill-step": 10,
    "stop": 2,
    "stop-step": 4,
    "term": 4,
    "term-step": 4,
    "cut": 6,
    "cut-byte": 8,
    "apply": 0.5,
}
_EARLIEST = 0.08  # share of the time, so that workers are up
_LATEST = 0.97
_LONGEST_BYTES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """
    One fault.

    at        seconds from the start
    slot      which worker, counted modulo those that live
    step      of a worker, for kill-step, stop-step, term-step and oom
    hold      seconds that a freeze, a full disk or a lock lasts
    count     bytes until the cut, or steps until fleet apply is killed
    reply     cut the answer, not the question; turn the clock forward, not back; SIGTERM twice, not once
    """

    at: float
    kind: str
    slot: int
    step: str
    hold: float
    count: int
    reply: bool


def kinds_for(backend: str) -> tuple[str, ...]:
    """Every fault that makes sense there."""
    return (*WORKER_FAULTS, *MANAGER_FAULTS, *_STORE[backend])


def schedule(
    seed: int,
    kinds: Sequence[str],
    seconds: float,
    count: int,
    ttr: float,
    steps: Sequence[str] = STEPS,
) -> tuple[Planned, ...]:
    """
    *count* faults over *seconds*, sorted by time; the same arguments give the same faults.

    Each kind happens at least once when *count* allows, the cheap ones more often.
    """
    rng = random.Random(f"faults/{seed}")
    chosen = list(kinds)
    rng.shuffle(chosen)
    chosen = chosen[:count]
    if len(chosen) < count:
        chosen += rng.choices(kinds, [_SHARE.get(kind, 1) for kind in kinds], k=count - len(chosen))
    rng.shuffle(chosen)
    width = (_LATEST - _EARLIEST) * seconds / max(1, count)
    return tuple(
        Planned(
            at=_EARLIEST * seconds + (index + rng.random()) * width,
            kind=kind,
            slot=rng.randrange(1 << 16),
            step=rng.choice(steps),
            hold=rng.uniform(0.3, 1.5) * ttr,
            count=rng.randrange(1, _LONGEST_BYTES),
            reply=rng.random() < 0.5,
        )
        for index, kind in enumerate(chosen)
    )
