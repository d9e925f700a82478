"""
A TCP proxy that breaks connections on purpose, for tests of what a client does then.

    with Proxy(server.port) as proxy:
        queue = fleet.connect(f"postgresql://fleet@127.0.0.1:{proxy.port}/postgres")
        proxy.cut_after(replies=0)  # the server acts, and its answer is lost
        ...
        assert proxy.cuts == 1  # a fault that did not bite proves nothing
"""

from __future__ import annotations

import contextlib
import fcntl
import selectors
import socket
import struct
import termios
import threading
import time
from collections import deque
from types import TracebackType

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST instead of FIN
_PIECE = 65536


class Proxy:
    """
    Passes bytes between clients and 127.0.0.1:*target*, from a thread of its own.

    It listens at *address*, a free port of the loopback unless another is given.

    port      where clients connect
    accepted  connections so far
    cuts      connections that were broken on purpose so far
    delayed   bytes that a slow line has made wait so far
    """

    def __init__(self, target: int, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.target = target
        self.accepted = 0
        self.cuts = 0
        self.delayed = 0
        self._budget: dict[str, int | None] = {"requests": None, "replies": None}
        self._marker: tuple[bytes, bool] | None = (
            None  # what a request must hold to be cut, and whether it is passed on
        )
        self._stalled = False
        self._line = (0.0, 0.0)  # what `slow` was told
        self._waiting: dict[socket.socket, deque[tuple[float, bytes]]] = {}  # when to pass on what it sent
        self._refusing = False
        self._peers: dict[socket.socket, tuple[socket.socket, str]] = {}  # where its bytes go, and as what
        self._lock = threading.RLock()
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._closed = False

    @property
    def held(self) -> int:
        """Bytes that were sent and not passed on yet: the proof that a stall bit."""
        with self._lock:
            answers = [fcntl.ioctl(each, termios.FIONREAD, b"\0" * 4) for each in self._peers]
        return sum(struct.unpack("i", answer)[0] for answer in answers)

    def cut_after(self, *, requests: int | None = None, replies: int | None = None) -> None:
        """Break the connection on which more than that many further bytes go; 0 loses the very next."""
        with self._lock:
            self._budget = {"requests": requests, "replies": replies}

    def cut_at(self, marker: bytes, *, acted: bool) -> None:
        """
        Break the connection whose next request holds *marker*.

        With *acted* the server gets that request, and its answer is lost; without, it never sees it.
        """
        with self._lock:
            self._marker = (marker, acted)

    def refuse(self, refusing: bool = True) -> None:
        """Close every new connection at once, as a server that is down."""
        with self._lock:
            self._refusing = refusing

    def cut(self) -> None:
        """Break every connection now."""
        with self._lock:
            for client in [s for s, (_, kind) in self._peers.items() if kind == "requests"]:
                self._break(client)

    def stall(self, stalled: bool = True) -> None:
        """Pass nothing on, and refuse nothing: a half-open connection."""
        with self._lock:
            self._stalled = stalled
        self._wake_write.send(b".")

    def slow(self, delay: float, rate: float) -> None:
        """From now on each piece takes *delay* seconds, and a second more for each *rate* bytes."""
        with self._lock:
            self._line = (delay, rate)
        self._wake_write.send(b".")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake_write.send(b".")
        self._thread.join(5)
        with self._lock:
            for each in (*self._peers, self._listener, self._wake_read, self._wake_write):
                each.close()
        self._selector.close()

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the thread

    def _run(self) -> None:
        while not self._closed:
            busy = self._stalled or self._waiting
            for key, _ in self._selector.select(0.02 if busy else None):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._wake_read:
                        self._wake_read.recv(_PIECE)
                    elif key.fileobj in self._peers and not self._stalled:
                        self._pass(key.fileobj)  # type: ignore[arg-type]
            with self._lock:
                if not self._stalled:
                    self._pass_what_waits(time.monotonic())

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._refusing:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        self.accepted += 1
        for source, sink, kind in ((client, server, "requests"), (server, client, "replies")):
            source.settimeout(5)
            # An answer that comes in pieces would wait 40 ms for the acknowledgement of the first.
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[source] = (sink, kind)
            self._selector.register(source, selectors.EVENT_READ)

    def _pass(self, source: socket.socket) -> None:
        sink, kind = self._peers[source]
        try:
            data = source.recv(_PIECE)
            if self._marker and kind == "requests" and self._marker[0] in data:
                acted, self._marker = self._marker[1], None
                self._budget = {"requests": None, "replies": 0} if acted else {"requests": 0, "replies": None}
            budget = self._budget[kind]
            if data and budget is not None:
                sink.sendall(data[:budget])
                if len(data) > budget:
                    self._budget = {"requests": None, "replies": None}
                    self.cuts += 1
                    self._break(source)
                    return
                self._budget[kind] = budget - len(data)
            elif self._line != (0.0, 0.0) or source in self._waiting:
                self._let_wait(source, data)
                return
            elif data:
                sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(source)

    def _let_wait(self, source: socket.socket, data: bytes) -> None:
        delay, rate = self._line
        now = time.monotonic()
        queue = self._waiting.setdefault(source, deque())
        free_at = max(now, queue[-1][0] - delay) if queue else now
        queue.append((free_at + delay + (len(data) / rate if rate else 0.0), data))
        self.delayed += len(data)
        if not data:  # it hung up, which is heard as late as all else
            self._selector.unregister(source)

    def _pass_what_waits(self, now: float) -> None:
        for source in list(self._waiting):
            queue = self._waiting.get(source)
            while queue and queue[0][0] <= now:
                _, data = queue.popleft()
                try:
                    self._peers[source][0].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    self._drop(source)
                    break
            if not queue:
                self._waiting.pop(source, None)

    def _break(self, source: socket.socket) -> None:
        for each in (source, self._peers[source][0]):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop(source)

    def _drop(self, source: socket.socket) -> None:
        for each in (source, self._peers[source][0]):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            self._peers.pop(each, None)
            self._waiting.pop(each, None)
            each.close()
