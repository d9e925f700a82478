"""Where a claim starts to read its index."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fleet.queue.job import Job

_SLOW, _SLOW_EACH = 1_000, 25  # microseconds: more than a scan without dead entries takes
_SLOW_IN_A_ROW = 3
_RESCAN_SECONDS = 1.0
_SHARE = 10  # at most one part in ten of the time goes into scans from the start


class Watermark:
    """
    The last key that was claimed from each of some pipelines, while it pays to start there.

    Normally every claim reads its index from the start, which keeps the order
    by itself.  Only while an old transaction stops the server from removing
    dead entries does that get slow: every claim would walk over all jobs that
    are done since.  Once it was slow three times in a row, claims start above the
    last key taken, until at most a second later one scan from the start looks
    whether that is still so.

    What a claim above the watermark must not miss, `Statements` looks for below
    it: more urgent jobs, and those that became ready otherwise than by a put.
    The one kind that is left, a put that was under way while a later one was
    claimed already, is found by that scan, or as soon as a claim comes back
    with less than was asked for.
    """

    __slots__ = ("_floor", "_keys", "_slow", "_until", "floor")

    def __init__(self) -> None:
        self._floor = 0  # instant of the server up to which nothing was left due
        self._keys: dict[str, tuple[int, int]] = {}
        self._slow = 0
        self._until = 0.0

    def is_set(self) -> bool:
        return bool(self._keys) and time.monotonic() < self._until

    def values(self, pipelines: Sequence[str]) -> dict[str, object]:
        """The parameters of a marked statement; (-1, 0) is the start of a pipeline."""
        keys = [self._keys.get(name, (-1, 0)) for name in pipelines]
        if len(keys) == 1:
            return {"floor": self._floor, "priority": keys[0][0], "above": keys[0][1]}
        priorities, above = ([key[n] for key in keys] for n in (0, 1))
        return {"floor": self._floor, "priorities": priorities, "above": above}

    def learn(self, jobs: Sequence[Job], limit: int, took: int, now: int, *, from_start: bool) -> None:
        """A claim gave *jobs*, in claim order; the server took *took* µs to choose them at instant *now*."""
        if from_start:
            self._slow = self._slow + 1 if took > _SLOW + _SLOW_EACH * limit else 0
            self._keys.clear()
            self._until = time.monotonic() + min(_RESCAN_SECONDS, _SHARE * took / 1e6)
        if len(jobs) < limit:
            self._keys.clear()
        elif self._slow >= _SLOW_IN_A_ROW:
            self._keys.update((job.pipeline, (job.priority, job.id)) for job in jobs)
            self._floor = now
