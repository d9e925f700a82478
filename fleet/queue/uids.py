"""
The uids that fleet makes itself, for every put that came without one.

They begin with a zero byte, so that a back end can tell them from uids that
callers make up: ours are put a second time only after an answer was lost.
Then come the second, and a random number that is unlike any other and still
makes neighbours in an index of what was put at one time.
"""

from __future__ import annotations

import os
import time


def fresh(count: int) -> list[bytes]:
    """That many new uids of 16 bytes."""
    head = b"\0" + int(time.time()).to_bytes(4, "big")
    if count == 1:
        return [head + os.urandom(11)]
    first = int.from_bytes(head + os.urandom(11), "big")
    return [number.to_bytes(16, "big") for number in range(first, first + count)]


def may_be_ours(uid: bytes) -> bool:
    """True for each uid that `fresh` ever made, and for few others."""
    return uid[0] == 0
