"""A sleep that another thread, or a signal handler, can end."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Bell:
    """
    `wait` sleeps until somebody rings or the time is over.

    A pipe and not a `threading.Event`: ringing is one `write`, takes no lock
    and is therefore safe inside a signal handler.  `fd` may also be given to
    `signal.set_wakeup_fd`, and the bytes it writes come out of `wait`.
    """

    def __init__(self) -> None:
        self.waiting_fd, self.fd = os.pipe()  # the first becomes readable, the second is written to ring
        os.set_blocking(self.waiting_fd, False)
        os.set_blocking(self.fd, False)
        self._poll = select.poll()
        self._poll.register(self.waiting_fd, select.POLLIN)

    def ring(self, message: int = 0) -> None:
        with suppress(BlockingIOError, OSError):  # a full pipe wakes the sleeper just as well
            os.write(self.fd, bytes((message,)))

    def wait(self, seconds: float) -> bytes:
        """Sleep at most that long; the messages that rang, b"" when the time was over."""
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return b""
        try:
            return os.read(self.waiting_fd, 512)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in (self.waiting_fd, self.fd):
            with suppress(OSError):
                os.close(fd)
