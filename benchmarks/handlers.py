"""What the measured workers run.  Told by the environment where the board is, and which row is theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.board import BEGAN, COUNT, FIELDS, LAST, Board

_cells = Board(Path(os.environ["BENCH_BOARD"])).cells
_mine = int(os.environ["BENCH_SLOT"]) * FIELDS


def nothing(job: object) -> None:
    now = time.monotonic()
    if not _cells[_mine + COUNT]:
        _cells[_mine + BEGAN] = now
    _cells[_mine + COUNT] += 1
    _cells[_mine + LAST] = now


def nap(job: object) -> None:
    """A tenth of a second, as a handler that waits for a network would take."""
    if not _cells[_mine + COUNT]:
        _cells[_mine + BEGAN] = time.monotonic()
    time.sleep(0.1)
    _cells[_mine + COUNT] += 1
    _cells[_mine + LAST] = time.monotonic()
