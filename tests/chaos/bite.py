"""What a fault did, as it says so itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds that a worker may take to come to a step, or a byte to a proxy: many, because a server that was
# killed recovers for some, and workers look for it again up to five later.
BITES_WITHIN = 30.0


@dataclass(slots=True)
class Bite:
    """
    What a fault did.

    proof    how one knows; "" when it did not bite
    pid      of the worker that it touched; 0 when it touched everybody
    broken   a promise that was seen broken meanwhile
    lasts    seconds that its effects go on after its end
    killed   pids of the workers that it killed, where it killed several
    """

    proof: str = ""
    pid: int = 0
    broken: str = ""
    lasts: float = 0.0
    killed: tuple[int, ...] = ()


def wait_until(condition: Callable[[], object], within: float = BITES_WITHIN) -> bool:
    """Whether *condition* became true in time."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
