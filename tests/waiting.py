"""Wait for a condition instead of for a number of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 30.0, every: float = 0.02) -> T:
    """
    The first true value of *condition*, asked every *every* seconds.

    *within* is how long a busy machine may take, and no promise of the program.

    Raises:
        AssertionError: it was still false *within* seconds later; the message holds the last value.
    """
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {within:g} s: {condition}")
        time.sleep(every)
