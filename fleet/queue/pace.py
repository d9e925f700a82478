"""How much to take at once, and how long to wait after a failure.  Pure."""

from __future__ import annotations

HAND = 0.05  # seconds of work that one claim should bring
MAX_BATCH = 128
_LONGEST_PAUSE = 5.0
_BELIEVE_SLOW, _BELIEVE_QUICK = 0.5, 0.125  # weight of one job in the mean


class Pace:
    """
    The time a job takes, as a running mean: a slow job is believed at once, quick ones only in a row.

    Where both kinds are mixed, a large claim would mostly end as a handful of
    finished jobs and a release of the rest, which wait behind a slow one.
    Nothing is known at first, so the first claim takes one job a slot.
    """

    __slots__ = ("mean",)

    def __init__(self) -> None:
        self.mean = HAND  # seconds

    def saw(self, seconds: float) -> None:
        self.mean += (seconds - self.mean) * (_BELIEVE_SLOW if seconds > self.mean else _BELIEVE_QUICK)

    def batch(self, slots: int) -> int:
        """Jobs that *slots* slots finish in about 50 ms, from 1 to 128."""
        if self.mean * MAX_BATCH <= HAND * slots:
            return MAX_BATCH
        return max(1, int(HAND * slots / self.mean))


def pause_after(failures: int, chance: float) -> float:
    """
    Seconds to wait after that many failures in a row: 0.1 doubling to 5, minus up to half.

    *chance*, from 0 to 1, is the jitter: a hundred workers must not come back in step.
    """
    return min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(failures - 1, 10)) * (1.0 - chance / 2)
