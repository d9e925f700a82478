"""
A worker's time of day that can be moved from outside.

libfaketime 0.9.10 breaks Python's `time.sleep` when it moves only the time of
day, so this replaces `time.time` and `time.time_ns` instead, which is all that
fleet asks.  Servers, which are not written in Python, get libfaketime.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "CHAOS_CLOCK"
_LOOKS_EVERY = 0.1  # seconds


def stamp(folder: Path, pid: int) -> Path:
    """The file that holds by how many seconds that worker is off."""
    return folder / f"clock-{pid}"


def install(folder: Path) -> None:
    """Move the clock of this process by what its file says."""
    path = stamp(folder, os.getpid())
    real, real_ns = time.time, time.time_ns
    offset, looked_at = 0.0, -1.0

    def look() -> float:
        nonlocal offset, looked_at
        if time.monotonic() - looked_at > _LOOKS_EVERY:
            looked_at = time.monotonic()
            try:
                offset = float(path.read_text() or 0)
            except FileNotFoundError:
                offset = 0.0
        return offset

    time.time = lambda: real() + look()
    time.time_ns = lambda: real_ns() + round(look() * 1e9)
