"""
Settling: what the fence lets pass as commands, and the server's answers as verdicts.

A job that was never begun is given back by two commands: released with a
delay of one second, and kicked out of it at once.  The server counts both, so
`lease.facts_of` can tell it from a release after an error.  A worker that dies
between the two leaves a job that waits for a second, and counts an attempt.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.queue.backends.beanstalkd.lease import ReservedJob, clock
from fleet.queue.backends.beanstalkd.links import Links
from fleet.queue.backends.beanstalkd.protocol import Link, Lost, unexpected
from fleet.queue.job import Settlement

_SETTLED = (b"DELETED", b"RELEASED", b"BURIED")


@dataclass(slots=True)
class Orders:
    """The settlements that go over one connection."""

    places: list[int] = field(default_factory=list)  # of their verdicts
    commands: list[bytes] = field(default_factory=list)
    given_back: list[tuple[int, int]] = field(default_factory=list)  # place and id: still to be kicked


def orders_of(settlements: Sequence[Settlement]) -> dict[Link, Orders]:
    """What the fence lets pass, by connection."""
    orders: dict[Link, Orders] = {}
    now = clock()
    for index, settlement in enumerate(settlements):
        command = let_pass(settlement, now)
        if command is None:
            continue
        job: ReservedJob = settlement.job  # type: ignore[assignment]
        theirs = orders.get(job._link)
        if theirs is None:
            theirs = orders[job._link] = Orders()
        theirs.places.append(index)
        theirs.commands.append(command)
        if is_give_back(settlement):
            theirs.given_back.append((index, job.id))
    return orders


def settle(link: Link, orders: Orders, verdicts: list[bool]) -> None:
    """Carry them out, and set their verdicts, which are False until then."""
    with contextlib.suppress(Lost), link:  # a lease whose connection is lost is lost
        link.send(b"".join(orders.commands))
        read_verdicts(link, orders, verdicts)
        kick_again(link, [id_ for place, id_ in orders.given_back if verdicts[place]])


def settle_one(settlement: Settlement, links: Links) -> bool:
    """`job.delete()` and its like, without the lists of a batch."""
    command = let_pass(settlement, clock())
    if command is None:
        return False
    job: ReservedJob = settlement.job  # type: ignore[assignment]
    link = job._link
    try:
        with link:
            link.send(command)
            done = is_settled(link.line())
            if done and is_give_back(settlement):
                kick_again(link, [job.id])
    except Lost:
        return False  # a lease whose connection is lost is lost
    if link is not links.main:
        links.retire(link)
    return done


def let_pass(settlement: Settlement, now: float) -> bytes | None:
    """The fence: the command for the server, and the handle is spent; None when its lease is over."""
    # Every job of a drain comes through here: its questions are asked without a call where they can be.
    job = settlement.job
    if not isinstance(job, ReservedJob):
        return None
    leases = job._link.leases
    if leases.get(job.id) is not job or job._link.closed:
        return None
    command = b"delete %d\r\n" % job.id if settlement.verb == "delete" else _put_back(settlement)
    over = now >= job._sure_until and job.is_over(now)
    if leases.pop(job.id, None) is None or over:
        return None
    return command


def _put_back(settlement: Settlement) -> bytes:
    job = settlement.job
    priority = job.priority if settlement.priority is None else settlement.priority
    if settlement.verb == "bury":
        return b"bury %d %d\r\n" % (job.id, priority)
    delay = 1 if is_give_back(settlement) else math.ceil(settlement.delay)
    return b"release %d %d %d\r\n" % (job.id, priority, delay)


def is_give_back(settlement: Settlement) -> bool:
    return not settlement.counted and settlement.verb == "release" and not settlement.delay


def kick_again(link: Link, ids: list[int]) -> None:
    """End the delay of jobs that were given back, in the conversation that released them."""
    if ids:
        link.send(b"".join([b"kick-job %d\r\n" % id_ for id_ in ids]))
        link.lines(len(ids))  # NOT_FOUND: somebody else has kicked it


def read_verdicts(link: Link, orders: Orders, verdicts: list[bool]) -> None:
    places = orders.places
    for place, answer in zip(places, link.lines(len(places)), strict=True):
        verdicts[place] = is_settled(answer)


def is_settled(answer: bytes) -> bool:
    if answer in _SETTLED:  # a release is answered BURIED when the server has no memory left
        return True
    if answer != b"NOT_FOUND":
        raise unexpected(answer)
    return False
