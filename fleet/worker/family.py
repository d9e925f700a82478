"""What handlers have forked: ended where it comes back, and with a worker that had to interrupt them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

from fleet.queue.vitals import supervised

_ROUNDS = 100  # of a fork bomb; one or two of anything else


generation = 0  # forks between the first process and this one; a look at it takes no system call


def _born() -> None:
    global generation
    generation += 1


os.register_at_fork(after_in_child=_born)


def end_child(since: int, error: BaseException | None) -> None:
    """
    A child that a handler forked, and that comes back from it, ends here: one that was born *since* then.

    It holds a copy of everything that was claimed, and would work on it as well.
    """
    if generation == since:
        return
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        import traceback

        traceback.print_exception(error)
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def end_family() -> None:
    """
    Kill everybody in this process's group, as supervisord does when it has to kill the worker.

    Only where supervisord made the group for us: a shell's holds others, such as
    who reads our output.  A child that called setsid has left it.
    """
    if not supervised() or os.getpgrp() != os.getpid():
        return
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        found = set(_members(os.getpid())) - stopped
        if not found:
            break
        # Who is stopped forks no more, and keeps the place that a killed one would leave to a new one.
        _send(found, signal.SIGSTOP)
        stopped |= found
    _send(stopped, signal.SIGKILL)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


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
