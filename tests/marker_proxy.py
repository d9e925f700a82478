"""
A TCP proxy that cuts a connection at a chosen moment.

    with Proxy(server.port) as proxy:
        queue = fleet.connect(f"…@127.0.0.1:{proxy.port}/…")
        proxy.cut(b"COMMIT", reply=True)   # the server acts, and its answer is lost
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Forwards bytes between its `port` and *target*, both on loopback, until it is told to cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cuts = 0  # how often it has cut
        self._marker: bytes | None = None
        self._skip = 0
        self._reply = False
        self._refuse = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, marker: bytes = b"", *, reply: bool = False, skip: int = 0) -> None:
        """
        Cut the connection at the next request that holds *marker*, after *skip* such.

        The server never sees that request; with *reply* it does, and what it
        answers is lost.
        """
        self._skip, self._reply, self._marker = skip, reply, marker

    def refuse(self, on: bool) -> None:
        """Close every new connection at once, as a server that is down."""
        self._refuse = on

    def sever(self) -> None:
        """Cut every connection now."""
        for pair in self._pairs:
            _close(pair)

    def close(self) -> None:
        self._listener.close()
        self.sever()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self._refuse:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for source, data in _read(client, server):
                if source is server:
                    client.sendall(data)
                elif not self._is_due(data):
                    server.sendall(data)
                else:
                    if self._reply:
                        server.sendall(data)
                        server.recv(1)  # it has acted
                    self.cuts += 1
                    break
        _close((client, server))

    def _is_due(self, data: bytes) -> bool:
        if self._marker is None or self._marker not in data:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self._marker = None
        return True


def _read(*sockets: socket.socket) -> Iterator[tuple[socket.socket, bytes]]:
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = source.recv(1 << 16)
                if not data:
                    return
                yield source, data


def _close(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
