"""A lock that several fleet commands share: flock on a file that is never removed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import Refused

# In a conf_dir: whoever writes there, or stops what was written, holds it.  The dot hides it from includes.
LOCK = ".fleet.lock"
_PAUSE = 0.05


@contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """
    Hold the lock *path*, waiting up to *timeout* seconds for its holder.

    The kernel gives it back when the process ends, however it ends.  A removed
    file would let two holders in, so it stays.

    Raises:
        Refused: somebody else held it all that time; says who.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(f"{path} is a symbolic link; fleet locks no such file. Remove it.") from error
        raise Refused(f"the lock file {path} cannot be opened: {error.strerror}.") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Refused(f"{path} is not a plain file, and fleet locks no other. Remove it.")
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
                    raise Refused(
                        f"another fleet command works here (pid {holder or 'unknown'}, lock {path}) "
                        f"and did not finish within {timeout:g} s. Try again when it has."
                    ) from None
                time.sleep(_PAUSE)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
