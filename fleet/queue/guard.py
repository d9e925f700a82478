"""The lock around each call to a back end."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

from fleet.errors import BackendUnavailable
from fleet.queue.backend import Backend


class Guard:
    """``with guard():``: one thread at a time, and no process that was forked since."""

    __slots__ = ("_backend", "_lock", "_pid")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def __call__(self) -> AbstractContextManager[bool]:
        """
        The lock itself.

        With an `__enter__` of ours, what a signal handler raises could come
        between taking the lock and the block that gives it back.
        """
        if os.getpid() != self._pid:
            raise BackendUnavailable(
                "this queue was opened before a fork, and a connection cannot be shared by two processes. "
                "Call fleet.connect() in the child."
            )
        return self._lock

    def close(self) -> None:
        """Close the back end, unless it is the parent's."""
        if os.getpid() == self._pid:
            with self._lock:
                self._backend.close()
