"""
The time of the plan, by which jobs are put and workers are hurt.

It runs as fast as real time while the faults keep to their schedule.  Those that
touch everybody come one after another, and some take many times what was
planned: meanwhile it runs slower and slower, so that the work is not over when
the last of them bites.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

AHEAD = 0.5  # seconds by which the plan may be ahead of the next fault without slowing down
_SLOWEST = 0.03  # of real time; some work is always under way
_TICK = 0.02
_LONGEST_TICK = 0.1  # a process that was frozen does not make up for it


class Gate:
    """Where the injector says up to when the plan may go: each of its lanes, and the earliest holds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "gate"
        self._limits: dict[str, float] = {}
        self._lock = threading.Lock()

    def open(self, until: float, lane: str = "") -> None:
        """To the second *until* of the plan."""
        with self._lock:
            self._limits[lane] = until
            draft = self._path.with_suffix(".draft")
            draft.write_text(f"{min(self._limits.values())}")
            draft.rename(self._path)

    def until(self) -> float:
        try:
            return float(self._path.read_text())
        except FileNotFoundError:  # nobody waits for anybody
            return float("inf")


class Pace:
    """One process's or thread's reading of that time; it begins at the second *at*."""

    def __init__(self, gate: Gate, at: float = 0.0) -> None:
        self._gate = gate
        self._at = at
        self._seen = time.monotonic()

    def wait_until(self, second: float) -> None:
        while True:
            seen = time.monotonic()
            passed, self._seen = min(seen - self._seen, _LONGEST_TICK), seen
            ahead = self._at - self._gate.until()
            self._at += passed * min(1.0, max(_SLOWEST, -ahead / AHEAD))
            if self._at >= second:
                return
            time.sleep(_TICK)
