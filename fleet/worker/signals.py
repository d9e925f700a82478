"""The signals a worker understands, heard in a thread of their own."""

from __future__ import annotations

import os
import signal

# That of `signal` tries to make an enum of the answer: 2 µs, after every job.
from _signal import getsignal  # type: ignore[import-not-found]
from contextlib import suppress
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM
from types import FrameType
from typing import Any

from fleet.queue.bell import Bell

STOP = frozenset({SIGTERM, SIGINT, SIGQUIT, SIGHUP})
PAUSE = signal.SIGUSR1
RESUME = signal.SIGCONT
DUMP = signal.SIGUSR2


Before = dict[signal.Signals, Any]
_rung = -1  # what `hear` gave the C handler, while signals are heard


def hear(bell: Bell) -> Before:
    """
    From now on each of these signals rings *bell* with its number.

    Python runs its own signal handlers between bytecodes of the main thread,
    which may be deep in somebody's C code for minutes.  The wake-up descriptor
    is written by the C handler at once, so a second SIGTERM is heard all the same.

    Returns what `restore` needs.
    """
    before = _take(bell.fd)
    # A child that a handler forks has this descriptor too: SIGTERM to the child must not stop the worker.
    os.register_at_fork(after_in_child=lambda: restore(before))
    return before


def hear_again() -> None:
    """Take the signals back from a handler that took them from us; in the main thread."""
    if (
        not getsignal(SIGTERM) is getsignal(SIGINT) is getsignal(SIGQUIT) is getsignal(SIGHUP) is _heard
        and _rung >= 0
    ):
        _take(_rung)


def _take(fd: int) -> Before:
    global _rung
    _rung = fd
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return {number: signal.signal(number, _heard) for number in (*STOP, PAUSE, RESUME, DUMP)}


def restore(before: Before) -> None:
    """Put the handlers back that were there before `hear`."""
    global _rung
    _rung = -1
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        if getsignal(number) is _heard:  # a child's may be those that a handler made for it
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _heard(number: int, _frame: FrameType | None) -> None:
    """
    The C handler has rung already, unless the descriptor is another's by now.

    An asyncio loop takes it for any signal that it is told of, and drops it at its end.
    """
    if _rung < 0 or (other := signal.set_wakeup_fd(_rung, warn_on_full_buffer=False)) == _rung:
        return
    with suppress(OSError):  # a full pipe wakes the watch just as well
        os.write(_rung, bytes((number,)))
    if other >= 0:
        with suppress(OSError, ValueError):  # it may be closed
            signal.set_wakeup_fd(other)
