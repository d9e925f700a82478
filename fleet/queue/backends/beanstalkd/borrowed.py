"""The caller's own greenstalk client as a connection of ours."""

from __future__ import annotations

import contextlib
import socket
import struct
from types import TracebackType
from typing import Any

from fleet.queue.backends.beanstalkd.protocol import Link, Lost, parse_list
from fleet.queue.backends.beanstalkd.sockets import let_the_kernel_time


class BorrowedLink(Link):
    """
    The caller's own greenstalk client, for one conversation at a time.

    What it uses and watches is asked for at the start and put back at the end,
    so that the caller's next `client.put` still goes where he thinks.  It is
    never closed, unless it fell out of step: then it is shut down, and the
    client says so by itself.
    """

    def __init__(self, client: Any) -> None:
        # greenstalk reads exactly one answer a command, so its reader holds nothing between two.
        super().__init__(client._sock)
        self._depth = 0
        self._time_out: float | None = None
        self._found: tuple[str, tuple[str, ...]] = ("", ())

    def __enter__(self) -> Link:
        super().__enter__()
        self._depth += 1
        if self._depth > 1:
            return self
        try:
            self._time_out = self._sock.gettimeout()
            let_the_kernel_time(self._sock)
            self.send(b"list-tube-used\r\nlist-tubes-watched\r\n")
            self.used = self.line().removeprefix(b"USING ").decode()
            self.watched = tuple(parse_list(self.data() or b""))
            self._found = (self.used, self.watched)
            self._said = False
        except BaseException as error:
            self.__exit__(type(error), error, None)
            if isinstance(error, Lost | OSError):
                raise Lost(str(error), sent=False) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        try:
            if kind is None and self._depth == 0:
                used, watched = self._found
                self.use(used)
                self.watch(watched)
                self.send(b"")
                self._read_owed()
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
                self._sock.settimeout(self._time_out)
        except BaseException:
            self.close()
            raise
        finally:
            super().__exit__(kind, error, trace)

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
