"""The two clocks of the SQLite back end."""

from __future__ import annotations

import time

_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Both clocks, in microseconds.  Tests hand in one that they move by hand."""

    def wall(self) -> int:
        return time.time_ns() // 1000

    def boot(self) -> int:
        return time.clock_gettime_ns(_LEASE_CLOCK) // 1000
