"""
Where a claim starts to read.

A deleted or moved index entry stays until the server purges it, and a locking
read pays almost a microsecond for each.  With a hundred thousand of them in
front of the first ready job, a claim would take a tenth of a second.  So each
connection remembers a `Mark` per pipeline: up to there it has taken everything.

What keeps a mark from hiding a job:

* Inside one priority ids only grow, so a new job comes behind the mark, unless
  its priority is more urgent.  Every claim glances at the rows that were put
  since the last one (``id > tail``), and looks again when one of these is.
* Jobs that come back (release, kick, a delay or a lease that ended) count up
  `returns` of their pipeline in their own transaction; every claim reads it.
* Delayed jobs show themselves when they are put (the same glance) or come
  back (the counter `delays`); the mark knows when the first of them is due,
  and when the first lease ends of those that the last look saw.  With many
  retries one of these happens at every claim, so they make it look again
  only 0.05 seconds after the last look: while there are other jobs to
  claim, a delay may last that much longer.
* A claim locks no job that it does not take: others would step over it, and
  move their marks past it.  So the glance decides, inside of its packet,
  whether the statements behind it lock anything; these ask for as many jobs
  as are wanted and no more, in an order that needs no sort; and what one
  pipeline gave is not let go because another wants a look.
* That leaves a put that was not yet committed when a later id was taken, and
  a claim that was rolled back all the same (killed, a deadlock, a lost lease)
  after this one stepped over its rows: both overlapped in time with what
  overtook them.  And a newer lease that was lost.  A look, which reads from
  the start, finds them.  One happens at least once a second, and before a
  claim says that there is nothing.

A look is a plain read, which passes a dead entry in 25 nanoseconds; it may use
a twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from fleet.queue.backends.mysql.statements import NEVER
from fleet.queue.job import DEFAULT_PRIORITY, MAX_PRIORITY

_SHARE = 20  # after a look, this many times as long without one
_SELDOM, _OFTEN = 1.0, 0.05  # seconds: but no longer, and no shorter
_PATIENCE = 0.05  # seconds after a look in which what falls due does not ask for the next one
_CHEAP = 0.02  # seconds: a look that is made whenever a claim would say "nothing"


Key = tuple[int, int]  # priority and id: the order of claims


class Facts(NamedTuple):
    """What a look learns beside the jobs; times are the server's clock in microseconds, `NEVER` is none."""

    now: int
    paused_until: int
    returns: int
    delays: int
    tail: int
    delayed: int  # when the first delayed job is due
    leased: int  # when the first lease ends


class Pick(NamedTuple):
    """Some jobs by their keys, and how many of them."""

    keys: list[Key]
    limit: int


@dataclass(slots=True)
class Mark:
    """What one connection knows about one pipeline.  A fresh one lies behind every key: look first."""

    priority: int = MAX_PRIORITY + 1  # with `last`: the key up to which everything is taken
    last: int = 0
    tail: int = 0  # the highest id that was seen in the table
    returns: int = 0
    delays: int = 0
    due: int = NEVER  # server's clock, microseconds: when the first delayed job or known lease is
    patient_until: int = 0  # the same clock: before, nothing that is due makes a claim look again
    below: tuple[Key, ...] = ()  # ready although before the mark, and not yet asked for; in order
    looked_at: float = float("-inf")  # `time.monotonic()` when the last look ended
    cost: float = 0.0  # seconds that it took

    def wants_a_look(self, now: float) -> bool:
        """Whether it is time to read from the start again, by `time.monotonic()`."""
        return now - self.looked_at >= min(_SELDOM, max(_OFTEN, _SHARE * self.cost))

    def allows_a_look(self, now: float) -> bool:
        """Whether a claim that found nothing may read from the start before it says so."""
        return self.cost < _CHEAP or now - self.looked_at >= _SELDOM

    def glanced(self, tail: int, due: int, *, passed: bool) -> None:
        """Take in a glance; *passed* says that something became ready before the mark."""
        self.tail = max(self.tail, tail)
        self.due = min(self.due, due)
        if passed:
            self.looked_at = float("-inf")  # the next glance will not see an urgent job again

    def picks(self, want: int) -> list[Pick]:
        """Which jobs before the mark to ask for, to get *want*: one question a priority."""
        picks: list[Pick] = []
        for _, keys in groupby(self.below, key=itemgetter(0)):
            if want <= 0:
                break
            several = list(keys)
            pick = Pick(several, min(want, len(several)))
            picks.append(pick)
            want -= pick.limit
        return picks

    def taken(self, asked: Key | None, last: Sequence[Key]) -> None:
        """
        Take in a claim that is committed.

        *asked* is up to where the jobs before the mark were asked for, *last*
        the least urgent one that the claim got, if any.
        """
        if asked:
            self.below = tuple([key for key in self.below if key > asked])
        self.priority, self.last = max([(self.priority, self.last), *last])

    def looked(self, facts: Facts, below: Sequence[Key], asked_for: int) -> None:
        """Take in a look; *below* are the first ready jobs before the mark, in order."""
        self.returns, self.delays, self.tail = facts.returns, facts.delays, max(self.tail, facts.tail)
        self.due = min(facts.delayed, facts.leased)
        self.patient_until = facts.now + round(_PATIENCE * 1e6)
        if len(below) >= asked_for:
            # There may be more than these: go back to the first.
            self.priority, self.last, self.below = below[0][0], below[0][1] - 1, ()
            return
        if self.priority > MAX_PRIORITY:
            self.priority, self.last = DEFAULT_PRIORITY, facts.tail
        self.below = tuple([key for key in below if key <= (self.priority, self.last)])
