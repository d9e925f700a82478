"""
Waking workers of the same host when a job was put, without asking the server.

MySQL cannot tell a waiting client anything.  A put sets the times of a small
file once it is committed, and workers that wait watch that file with inotify:
a pick-up takes a millisecond and no query.  The file holds nothing; the event
is all.  Puts of other hosts, of the caller's transactions and of other tools
are found by asking the server every 0.75 seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import select
from contextlib import suppress

from fleet.queue.bell import Bell

_IN_ATTRIB = 0x4
_IN_IGNORED = 0x8000  # the file was removed
_EVENT_BYTES = 16  # of one event on a file that is watched by itself


def path_of(server: str, prefix: str) -> str:
    """The file of one set of tables; *server* names server and database, the same from every client."""
    # Not /tmp: a service with PrivateTmp= has one of its own.
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"  # noqa: S108, PTH112
    return f"{folder}/fleet-{hashlib.sha256(f'{server} {prefix}'.encode()).hexdigest()[:32]}"


def nudge(path: str) -> None:
    """Tell waiting workers of this host that something is ready."""
    with suppress(OSError):  # nobody waits here
        os.utime(path, follow_symlinks=False)


class Watch:
    """Sleeps until a nudge."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._bell = Bell()

    def listen(self) -> None:
        """Notice nudges from now on: before the server is asked whether something is ready."""
        if self._fd is None:
            self._fd = _watch(self._path)

    def sleep(self, seconds: float) -> bool:
        """Sleep until a nudge or an interruption, but no longer than *seconds*; whether there was one."""
        fds = [self._bell.waiting_fd] if self._fd is None else [self._bell.waiting_fd, self._fd]
        readable = select.select(fds, [], [], max(0.0, seconds))[0]
        if self._bell.waiting_fd in readable:
            self._bell.wait(0)
        if self._fd is not None and self._fd in readable:
            events = os.read(self._fd, 256 * _EVENT_BYTES)
            masks = [int.from_bytes(events[at + 4 : at + 8], "little") for at in range(0, len(events), 16)]
            if any(mask & _IN_IGNORED for mask in masks):
                os.close(self._fd)
                self._fd = None
        return bool(readable)

    def interrupt(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._bell.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _watch(path: str) -> int | None:
    """A descriptor that becomes readable when the times of *path* change; None where that cannot be had."""
    try:
        # Workers and producers may be different users: each may ring, and there is nothing to read.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.chmod(path, 0o666)  # noqa: PTH101, S103
    except FileExistsError:
        pass
    except OSError:
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    except (AttributeError, OSError):
        return None
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), _IN_ATTRIB) < 0:
        os.close(fd)
        return None
    return fd if fd >= 0 else None
