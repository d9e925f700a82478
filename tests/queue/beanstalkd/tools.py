"""What several of these tests use."""

from __future__ import annotations

import socket

from fleet.queue import Queue
from fleet.queue.backends.beanstalkd.protocol import Link
from tests.proxy import Proxy


class Liar(Proxy):
    """A proxy that puts words into the server's mouth."""

    garbage = b""

    def _pass(self, source: socket.socket) -> None:
        sink, kind = self._peers[source]
        if kind == "replies" and self.garbage:
            source.recv(65536)
            words, self.garbage = self.garbage, b""
            sink.sendall(words)
        else:
            super()._pass(source)


def counter(queue: Queue, name: str) -> int:
    def ask(link: Link) -> int:
        link.send(b"stats\r\n")
        return int((link.table() or {})[name])

    return queue.backend._links.again(ask)  # type: ignore[attr-defined,no-any-return]
