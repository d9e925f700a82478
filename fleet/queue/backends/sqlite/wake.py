"""
Waking up when another process puts a job into a SQLite file, without polling it.

Linux tells through inotify that the ``-wal`` file was written, and that is
before the commit can be seen: the index in shared memory follows it.  So a
put also sets the file's times once it is committed, which the waiter sees as
another kind of event, exactly when it is time to look.  A commit without that
nudge (the caller's own transaction, another tool) is looked for a little later.
The path is only watched and stamped, never opened: closing a descriptor of the
file would drop SQLite's locks of this process.
"""

from __future__ import annotations

import os
import select
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from fleet.queue.bell import Bell

_IN_MODIFY = 0x2
_IN_ATTRIB = 0x4
_POLL_SECONDS = 1.0  # behind the push, and alone where there is no inotify: data_version at growing gaps
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.05
_COMMIT_SECONDS = 0.3  # how long a commit is looked for after its write was seen


def nudge(path: str) -> None:
    """Tell waiters on *path* that a commit is there to be seen."""
    with suppress(OSError):  # another user's file, or no WAL: they look by themselves soon
        os.utime(path + "-wal")


class Watch:
    """Waits on one database file.  Owns *db*, a connection that only reads."""

    def __init__(self, path: str, db: sqlite3.Connection) -> None:
        self._db = db
        self._db.execute("SELECT 1 FROM sqlite_master").fetchone()  # the -wal file exists from here on
        self._fd = _inotify(path + "-wal")
        self._bell = Bell()

    def interrupt(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._bell.close()
        if self._fd is not None:
            os.close(self._fd)
        self._db.close()

    def wait(self, next_due: Callable[[sqlite3.Connection], float], timeout: float) -> None:
        """
        Return once *next_due* says 0, when interrupted, or after *timeout* seconds.

        *next_due* gives the seconds until something is due by itself.
        """
        give_up = time.monotonic() + timeout
        look, look_until = _FIRST_LOOK, 0.0
        while (due := next_due(self._db)) > 0 and (left := give_up - time.monotonic()) > 0:
            looking = self._fd is None or time.monotonic() < look_until
            gap = min(due, left, look if looking else _POLL_SECONDS)
            look = min(_LAST_LOOK, look * 1.5) if looking else _FIRST_LOOK
            fds = [self._bell.waiting_fd] if self._fd is None else [self._bell.waiting_fd, self._fd]
            readable = select.select(fds, [], [], gap)[0]
            if self._bell.waiting_fd in readable:
                self._bell.wait(0)
                return
            if self._fd in readable:
                # Written, perhaps not yet committed, perhaps for others: look soon, less soon each time.
                look_until = time.monotonic() + _COMMIT_SECONDS
                if not _nudged(self._fd):
                    time.sleep(min(left, look))


def _nudged(fd: int) -> bool:
    """Read all events at once; whether one of them says that a put has committed."""
    events = os.read(fd, 65536)
    at, mask = 0, 0
    while at < len(events):
        _, event, _, length = struct.unpack_from("iIII", events, at)
        mask |= event
        at += 16 + length
    return bool(mask & _IN_ATTRIB)


def _inotify(path: str) -> int | None:
    """A descriptor that becomes readable when *path* is written or stamped; None where that cannot be had."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    except (AttributeError, OSError):
        return None
    if fd < 0:
        return None
    if libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY | _IN_ATTRIB) < 0:
        os.close(fd)
        return None
    return fd
