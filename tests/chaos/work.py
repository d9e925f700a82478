"""
The jobs of a chaos run: what is put, when, and what its handler is to do.  Pure, and fixed by the seed.

The payload carries everything that handler and checker need, so that both work
on a back end that keeps no uid.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PIPELINE = "chaos"
MAX_RETRIES = 3
MAX_CRASHES = 3
PRIORITIES = (0, 100, 1024, 1024, 1024, 5000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One job.

    kind    quick slow chatty flaky late  are done in the end, and so is
            long                          which outlasts its ttr, so that its lease must be renewed;
            poison bury deadly            are buried in the end;
            crash                         kills its worker the first time, and is done in the end
    spend   seconds its handler takes
    again   the producer gives a uid and repeats a put whose outcome is unknown
    """

    uid: str
    kind: str
    priority: int
    delay: float
    ttr: float
    spend: float
    again: bool

    @property
    def payload(self) -> bytes:
        return json.dumps({"uid": self.uid, "kind": self.kind, "spend": self.spend}).encode()

    @property
    def sha(self) -> str:
        return digest(self.payload)

    @property
    def is_buried_in_the_end(self) -> bool:
        return self.kind in BURIED

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "sha": self.sha}


BURIED = frozenset({"poison", "bury", "deadly"})
_SHARE = {
    "quick": 600,
    "slow": 120,
    "late": 80,
    "flaky": 60,
    "chatty": 60,
    "long": 4,
    "poison": 10,
    "bury": 10,
    "crash": 3,
}
KINDS = tuple(_SHARE)
# Jobs that only wait, or end their worker: a large run gets as many of them as one of this size.
_COSTLY = ("slow", "long", "crash")
_ENOUGH = 3000


def digest(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


def uid_of(payload: bytes) -> str:
    return str(json.loads(payload)["uid"])


def groups(
    seed: int, producer: int, jobs: int, ttr: float, *, deadly: bool, kinds: Sequence[str] = KINDS
) -> Iterator[list[Task]]:
    """
    What one producer puts: groups of one by `put`, larger ones by `put_many`.

    Jobs of a group share priority, delay and ttr.  With *deadly* the first job
    of the first producer kills every worker that begins it.
    """
    rng = random.Random(f"work/{seed}/{producer}")
    few = min(1.0, _ENOUGH / max(1, jobs))
    shares = [_SHARE[kind] * (few if kind in _COSTLY else 1) for kind in kinds]
    left = jobs
    if deadly and producer == 0:
        yield [_task(rng, "deadly", 1024, 0.0, ttr)]
        left -= 1
    while left > 0:
        size = min(left, rng.choice((1, 1, 1, 5, 20)))
        priority = rng.choice(PRIORITIES)
        chosen = rng.choices(kinds, shares, k=size)
        delay = float(rng.choice((1, 2))) if "late" in chosen[:1] else 0.0
        yield [_task(rng, kind, priority, delay, ttr) for kind in chosen]
        left -= size


def _task(rng: random.Random, kind: str, priority: int, delay: float, ttr: float) -> Task:
    return Task(
        uid=f"{rng.getrandbits(128):032x}",
        kind=kind,
        priority=priority,
        delay=delay,
        ttr=ttr,
        spend={"slow": rng.uniform(0.02, 0.15), "long": 1.2 * ttr}.get(kind, 0.0),
        again=rng.random() < 0.5,
    )
