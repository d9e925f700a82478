"""
Waking up when another process puts a job into a SQLite file, without polling it.

Linux tells through inotify that the ``-wal`` file was written, and that is
before the commit can be seen: the index in shared memory follows it.  So a
put also sets the file's times once it is committed, which the waiter sees as
another kind of event, exactly when it is time to look.  A commit without that
nudge (the caller's own transaction, another tool) is looked for a little later.

Setting the times costs a third of a put, so it is done only while somebody
waits: a waiter holds a shared lock on the ``-wal`` file, taken before it looks
for jobs, and asking for that lock is one cheap call.  It is a lock of the open
file, not of the process, so that it ends with the waiter and with nothing else.

The database itself is never opened here: closing a descriptor of it would drop
SQLite's locks of this process.  The ``-wal`` file holds none of them, and stays
the same file for as long as the connection of its process is open.
"""

from __future__ import annotations

import fcntl
import os
import select
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from fleet.queue.bell import Bell

_WAITS = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0)  # struct flock
_LEAVES = struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)
_ASKS = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
_UNLOCKED = struct.pack("h", fcntl.F_UNLCK)
_GET_LOCK: int = getattr(fcntl, "F_OFD_GETLK", 0)  # 0 where there is no inotify either
_SET_LOCK: int = getattr(fcntl, "F_OFD_SETLK", 0)

_IN_MODIFY = 0x2
_IN_ATTRIB = 0x4
_POLL_SECONDS = 1.0  # behind the push, and alone where there is no inotify: data_version at growing gaps
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.05
_COMMIT_SECONDS = 0.3  # how long a commit is looked for after its write was seen


class Nudge:
    """Call it to tell the waiters on a file that a commit is there to be seen; without a path, nobody."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}-wal" if path and _GET_LOCK else ""
        self._fd = -1

    def __call__(self) -> None:
        if not self._path:
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            if not fcntl.fcntl(self._fd, _GET_LOCK, _ASKS).startswith(_UNLOCKED):
                os.utime(self._fd)  # by descriptor: a path is looked up anew each time
        except OSError:
            pass  # another user's file, or no WAL: they look by themselves soon

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Watch:
    """Waits on one database file.  Owns *db*, a connection that only reads."""

    def __init__(self, path: str, db: sqlite3.Connection) -> None:
        self._db = db
        self._db.execute("SELECT 1 FROM sqlite_master").fetchone()  # the -wal file exists from here on
        self._events = _events(path + "-wal")
        self._bell = Bell()

    def interrupt(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._bell.close()
        if self._events is not None:
            self._events.close()
        self._db.close()

    def wait(self, next_due: Callable[[sqlite3.Connection], float], timeout: float) -> None:
        """
        Return once *next_due* says 0, when interrupted, or after *timeout* seconds.

        *next_due* gives the seconds until something is due by itself.
        """
        with self._events.nudged() if self._events else nullcontext():
            self._wait(next_due, timeout)

    def _wait(self, next_due: Callable[[sqlite3.Connection], float], timeout: float) -> None:
        give_up = time.monotonic() + timeout
        events, look, look_until = self._events, _FIRST_LOOK, 0.0
        while True:
            now = time.monotonic()
            looking = events is None or now < look_until
            if events is not None:
                # While it looks by itself, writes need not wake it: a busy writer makes thousands a second.
                events.want(_IN_ATTRIB if looking else _IN_ATTRIB | _IN_MODIFY)
            due, left = next_due(self._db), give_up - now
            if due <= 0 or left <= 0:
                return
            gap = min(due, left, look if looking else _POLL_SECONDS)
            look = min(_LAST_LOOK, look * 1.5) if looking else _FIRST_LOOK
            fds = [self._bell.waiting_fd] if events is None else [self._bell.waiting_fd, events.fd]
            readable = select.select(fds, [], [], gap)[0]
            if self._bell.waiting_fd in readable:
                self._bell.wait(0)
                return
            if events is not None and events.fd in readable and events.read() & _IN_MODIFY:
                # Written, perhaps not yet committed, perhaps for others: look soon, less soon each time.
                look_until = time.monotonic() + _COMMIT_SECONDS


class _Events:
    """What inotify tells about one file."""

    def __init__(self, libc: Any, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._libc = libc
        self._path = os.fsencode(path)
        self._wanted = 0

    def want(self, mask: int) -> bool:
        """Hear of these events from now on; False where that cannot be had."""
        if mask != self._wanted:
            self._wanted = mask
            return bool(self._libc.inotify_add_watch(self.fd, self._path, mask) >= 0)
        return True

    @contextmanager
    def nudged(self) -> Iterator[None]:
        """Ask for nudges meanwhile; where that cannot be had, writes wake the waiter a little later."""
        with suppress(OSError):
            fcntl.fcntl(self._file, _SET_LOCK, _WAITS)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.fcntl(self._file, _SET_LOCK, _LEAVES)

    def close(self) -> None:
        os.close(self._file)
        if self.fd >= 0:
            os.close(self.fd)

    def read(self) -> int:
        """The kinds of all events so far."""
        events = os.read(self.fd, 65536)
        at, mask = 0, 0
        while at < len(events):
            _, event, _, length = struct.unpack_from("iIII", events, at)
            mask |= event
            at += 16 + length
        return mask


def _events(path: str) -> _Events | None:
    """None where there is no inotify, or no more of it for this user."""
    try:
        import ctypes

        events = _Events(ctypes.CDLL(None, use_errno=True), path)
    except (AttributeError, OSError):
        return None
    if events.fd < 0 or not events.want(_IN_ATTRIB | _IN_MODIFY):
        events.close()
        return None
    return events
