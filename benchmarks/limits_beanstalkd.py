"""What beanstalkd itself can do: many commands in one send over a bare socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from benchmarks.contender import BATCH, PIPELINE, Contender, Done, Seen

_CHUNK = 1_000


class Limit(Contender):
    def __init__(self, dsn: str) -> None:
        url = urlsplit(dsn)
        self._socket = socket.create_connection((url.hostname or "", url.port or 11300))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        tube = PIPELINE.encode()
        self._socket.sendall(b"use %s\r\nwatch %s\r\nignore default\r\n" % (tube, tube))
        self._lines(3)

    def _lines(self, count: int) -> None:
        """Read that many answers of one line each."""
        while self._buffer.count(b"\r\n") < count:
            self._receive()
        self._buffer = self._buffer.split(b"\r\n", count)[count]

    def _receive(self) -> None:
        data = self._socket.recv(262144)
        if not data:
            raise EOFError
        self._buffer += data

    def _job(self) -> tuple[bytes, bytes] | None:
        """Read one answer to a reserve: (id, payload), or None after its timeout."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        words = self._buffer[:end].split()
        if words[0] != b"RESERVED":
            self._buffer = self._buffer[end + 2 :]
            return None
        body, after = end + 2, end + 2 + int(words[2]) + 2
        while len(self._buffer) < after:
            self._receive()
        payload = self._buffer[body : after - 2]
        self._buffer = self._buffer[after:]
        return words[1], payload

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            self._put((each,))

    def put_many(self, payloads: Sequence[bytes]) -> None:
        for start in range(0, len(payloads), _CHUNK):
            self._put(payloads[start : start + _CHUNK])

    def _put(self, payloads: Sequence[bytes]) -> None:
        self._socket.sendall(b"".join(b"put 1024 0 60 %d\r\n%s\r\n" % (len(each), each) for each in payloads))
        self._lines(len(payloads))

    def _delete(self, ids: Sequence[bytes]) -> None:
        self._socket.sendall(b"".join(b"delete %s\r\n" % each for each in ids))
        self._lines(len(ids))

    def one(self, done: Done) -> None:
        while True:
            self._socket.sendall(b"reserve\r\n")
            job = self._job()
            assert job is not None
            self._delete([job[0]])
            done(1)

    def drain(self, done: Done) -> None:
        held: list[bytes] = []
        ask = b"reserve\r\n" + b"reserve-with-timeout 0\r\n" * (BATCH - 1)
        while True:
            self._socket.sendall(b"".join(b"delete %s\r\n" % each for each in held) + ask)
            self._lines(len(held))
            done(len(held))
            jobs = [self._job() for _ in range(BATCH)]
            held = [job[0] for job in jobs if job is not None]

    def serve(self, seen: Seen) -> None:
        while True:
            self._socket.sendall(b"reserve\r\n")
            job = self._job()
            assert job is not None
            seen(job[1])
            self._delete([job[0]])

    def stats(self) -> None:
        self._socket.sendall(b"stats-tube %s\r\n" % PIPELINE.encode())
        while b"\r\n" not in self._buffer:
            self._receive()
        head, _, _ = self._buffer.partition(b"\r\n")
        size = len(head) + 2 + int(head.split()[1]) + 2
        while len(self._buffer) < size:
            self._receive()
        self._buffer = self._buffer[size:]
