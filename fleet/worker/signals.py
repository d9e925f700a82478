"""The signals a worker understands, heard in a thread of their own."""

from __future__ import annotations

import signal
from types import FrameType

from fleet.queue.bell import Bell

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
PAUSE = signal.SIGUSR1
RESUME = signal.SIGCONT
DUMP = signal.SIGUSR2


def hear(bell: Bell) -> None:
    """
    From now on each of these signals rings *bell* with its number.

    Python runs its own signal handlers between bytecodes of the main thread,
    which may be deep in somebody's C code for minutes.  The wake-up descriptor
    is written by the C handler at once, so a second SIGTERM is heard all the same.
    """
    for number in (*STOP, PAUSE, RESUME, DUMP):
        signal.signal(number, _heard_elsewhere)
    signal.set_wakeup_fd(bell.fd, warn_on_full_buffer=False)


def _heard_elsewhere(_number: int, _frame: FrameType | None) -> None: ...
