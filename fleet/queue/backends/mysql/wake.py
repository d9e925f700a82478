"""
Waking workers of the same host when a job was put, without asking the server.

MySQL cannot tell a waiting client anything.  A put sets the times of a small
file once it is committed, and workers that wait watch that file with inotify:
a pick-up takes a millisecond and no query.  The file only carries the event.
Puts of other hosts, of the caller's transactions and of other tools are
found by asking the server four times a second.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import select
from contextlib import suppress

from fleet.queue.bell import Bell as Sleep

_IN_ATTRIB = 0x4
_IN_IGNORED = 0x8000  # the file was removed


class Bell:
    """The file of one set of tables in one database of one server."""

    def __init__(self, server: str, prefix: str) -> None:
        """*server* names server and database, the same from every client."""
        # Not /tmp: a service with PrivateTmp= has one of its own.
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"  # noqa: S108, PTH112
        name = hashlib.sha256(f"{server} {prefix}".encode()).hexdigest()[:32]
        self.path = f"{folder}/fleet-bell-{name}"
        self._fd: int | None = None
        self._sleep = Sleep()

    def interrupt(self) -> None:
        """End a sleep of another thread."""
        self._sleep.ring()

    def ring(self) -> None:
        """Tell waiting workers of this host that something is ready."""
        with suppress(OSError):  # nobody waits here
            os.utime(self.path, follow_symlinks=False)

    def sleep(self, seconds: float) -> bool:
        """Sleep until the bell rings, but no longer than *seconds*; whether it rang."""
        if self._fd is None:
            self._fd = self._watch()
        if self._fd is None:
            return bool(self._sleep.wait(seconds))
        readable = select.select([self._fd, self._sleep.waiting_fd], [], [], seconds)[0]
        if self._sleep.waiting_fd in readable:
            self._sleep.wait(0)
            return True
        if not readable:
            return False
        events = os.read(self._fd, 65536)
        if any(
            int.from_bytes(events[at + 4 : at + 8], "little") & _IN_IGNORED
            for at in range(0, len(events), 16)
        ):
            self.close()
        return True

    def listen(self) -> None:
        """Hear what rings from now on, before the server is asked whether something is ready."""
        if self._fd is None:
            self._fd = self._watch()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _watch(self) -> int | None:
        try:
            # Workers and producers may be different users: each may ring, and nothing can be read from it.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            os.chmod(self.path, 0o666)  # noqa: PTH101, S103
        except FileExistsError:
            pass
        except OSError:
            return None
        return _inotify(self.path)


def _inotify(path: str) -> int | None:
    """A descriptor that becomes readable when the times of *path* change; None where that cannot be had."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    except (AttributeError, OSError):
        return None
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), _IN_ATTRIB) < 0:
        os.close(fd)
        return None
    return fd if fd >= 0 else None
