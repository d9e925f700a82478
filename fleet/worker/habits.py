"""What a handler may change of its process, and the next job shall not find changed."""

from __future__ import annotations

import os
from contextlib import suppress

from fleet.worker import signals


class Habits:
    """
    Working directory, umask, and the signals that end a worker, as they were when this was made.

    A handler that runs an asyncio loop with signal handlers of its own leaves
    SIGTERM to the system, for example, and the worker could not drain any more.
    For one job at a time, in the main thread: several share all of this.
    """

    def __init__(self) -> None:
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._folder = -1
        with suppress(OSError):  # it may have been removed
            self._folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)

    def resume(self) -> None:
        """After every job: three quick calls, without a look at what has changed."""
        os.umask(self._umask)
        if self._folder >= 0:
            try:  # noqa: SIM105 - `suppress` takes as long as the call
                os.fchdir(self._folder)
            except OSError:
                pass
        signals.hear_again()
