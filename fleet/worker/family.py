"""What handlers have forked, at the end of a worker that had to interrupt them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

_ROUNDS = 20  # they may fork meanwhile


def end_family() -> None:
    """
    Kill everybody in this process's group, as supervisord does when it has to kill the worker.

    Only where the group is our own, as supervisord makes it: else it is somebody's
    shell.  A child that called setsid has left it.
    """
    if os.getpgrp() != os.getpid():
        return
    for _ in range(_ROUNDS):
        found = list(_members(os.getpid()))
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _members(group: int) -> Iterator[int]:
    """All of them but ourselves, and those that are dead already."""
    with suppress(OSError), os.scandir("/proc") as entries:  # no such folder: not Linux
        for entry in entries:
            with suppress(OSError, ValueError):
                if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                    continue
                with open(f"{entry.path}/stat", "rb") as file:
                    # "pid (name) state ppid pgrp …", and the name may hold anything.
                    state, _, its = file.read().rpartition(b")")[2].split()[:3]
                if int(its) == group and state not in (b"Z", b"X"):
                    yield int(entry.name)
