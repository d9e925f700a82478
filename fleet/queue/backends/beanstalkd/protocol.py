"""
One connection to beanstalkd: commands out, answers in, in step or closed.

Several commands go out in one send and their answers come back in the same
order.  Whatever goes wrong between the two, a signal's exception included,
leaves answers that nobody will read, so the connection is closed: the next
command must never get the answer of the last.

The rules are those of doc/protocol.txt in beanstalkd's repository.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from fleet.queue.backends.beanstalkd.sockets import ANSWER_WITHIN, let_the_kernel_time

if TYPE_CHECKING:
    from fleet.queue.backends.beanstalkd.lease import ReservedJob

T = TypeVar("T")

# Bytes taken from the socket at once.  Beyond 128 KiB malloc asks the kernel for each buffer, 20 µs a read.
_READ = 64 * 1024
_MAX_LINE = 300  # bytes: no answer's first line is longer
_MAX_BODY = 1 << 30  # bytes: what beanstalkd's -z allows at most
_AT_ONCE = socket.MSG_DONTWAIT
_NO_JOB = (b"TIMED_OUT", b"DEADLINE_SOON")


class Lost(Exception):
    """The connection is gone.  `sent` is False when not one byte of the request had left."""

    def __init__(self, why: str, *, sent: bool = True) -> None:
        super().__init__(why)
        self.sent = sent


class Link:
    """
    One connection, what it uses and watches, and the leases it holds.

    ``with link:`` is one conversation: it has the connection to itself, and an
    exception that leaves the block closes it.  A lease belongs to the connection
    that reserved it, so `leases` is the fence: a handle that is not in here, or
    whose link is closed, holds nothing.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.used = "default"
        self.watched: tuple[str, ...] = ("default",)
        self.leases: dict[int, ReservedJob] = {}
        self.closed = False
        self.spoke_at = time.monotonic()
        self._sock = sock
        self._within: float = ANSWER_WITHIN  # seconds for an answer
        self._lock = threading.RLock()
        self._buffer = b""
        self._at = 0  # everything before it has been read
        self._ahead = b""  # use, watch and ignore, which go before the next command
        self._owed: list[bytes] = []  # the first words of their answers
        self._said = False  # whether a byte of this conversation has left
        self._pid = os.getpid()

    def __enter__(self) -> Link:
        self._lock.acquire()
        if self.closed:
            self._lock.release()
            raise Lost("the connection is closed", sent=False)
        self._said = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.spoke_at = time.monotonic()
            self._lock.release()
            return
        self.close()
        self._lock.release()
        if isinstance(error, ValueError):  # of int(), or of an unpacking
            raise Lost(f"its answer cannot be read: {error}") from error

    def close(self) -> None:
        """Close it; the server makes its reserved jobs ready again.  Harmless when it is closed."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes up a thread that waits for an answer
        self._sock.close()

    def is_alive(self) -> bool:
        """Whether the server has not hung up; costs a system call, not a round trip."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | _AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.close()  # the end of the stream, or bytes that nobody asked for
        return False

    def answers_within(self, seconds: float) -> None:
        """From here on, an answer that takes longer than *seconds* is taken for lost."""
        self._within = seconds
        let_the_kernel_time(self._sock, seconds)

    def is_ours(self) -> bool:
        """Whether this process opened it: after a fork two processes would read each other's answers."""
        return self._pid == os.getpid()

    def is_local(self) -> bool:
        """Whether the server runs on this host, as far as addresses tell."""
        if self._sock.family == socket.AF_UNIX:
            return True
        return bool(self._sock.getsockname()[0] == self._sock.getpeername()[0])

    # -- commands ----------------------------------------------------------

    def use(self, tube: str) -> None:
        """Have *tube* be the one that is put to and peeked at, from the next send on."""
        if tube != self.used:
            self.used = tube
            self._ahead += b"use %b\r\n" % tube.encode("ascii")
            self._owed.append(b"USING")

    def watch(self, tubes: tuple[str, ...]) -> None:
        """Have exactly *tubes* watched, from the next send on."""
        if tubes == self.watched:
            return
        # First watch, then ignore: the last one cannot be ignored.
        verbs = [b"watch %b\r\n" % tube.encode("ascii") for tube in tubes if tube not in self.watched]
        verbs += [b"ignore %b\r\n" % tube.encode("ascii") for tube in self.watched if tube not in tubes]
        self.watched = tubes
        self._ahead += b"".join(verbs)
        self._owed += [b"WATCHING"] * len(verbs)

    def send(self, commands: bytes) -> None:
        """Send it all.  Takes answers in where it must: a server whose answers nobody reads stops reading."""
        if self._ahead:
            commands, self._ahead = self._ahead + commands, b""
        try:
            sent = self._sock.send(commands, _AT_ONCE)
            self._said = True
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Lost(_words(error), sent=self._said) from error
        if sent < len(commands):
            self._send_rest(memoryview(commands)[sent:])

    def _send_rest(self, left: memoryview) -> None:
        try:
            while left:
                self._wait_to_send()
                with contextlib.suppress(BlockingIOError):
                    sent = self._sock.send(left, _AT_ONCE)
                    self._said = True
                    left = left[sent:]
        except OSError as error:
            raise Lost(_words(error), sent=self._said) from error

    def _wait_to_send(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLOUT)
        ready = poll.poll(ANSWER_WITHIN * 1000)
        if not ready:
            raise TimeoutError(f"it read nothing for {ANSWER_WITHIN} s")
        if ready[0][1] & select.POLLIN:
            self._buffer += self._receive()

    def half_close(self) -> None:
        """Say that no command follows: a waiting reserve is then answered at once (protocol.txt)."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Lost(_words(error)) from error

    # -- answers -----------------------------------------------------------

    def has_answer(self, seconds: float, bell: int) -> bool:
        """Whether an answer begins to arrive within that time; ends early when *bell* can be read."""
        self._read_owed()
        if self._at < len(self._buffer):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(bell, select.POLLIN)
        return self._sock.fileno() in [fd for fd, _ in poll.poll(seconds * 1000)]

    def line(self) -> bytes:
        """One line, without its end."""
        if self._owed:
            self._read_owed()
        buffer, at = self._buffer, self._at
        if at == len(buffer):  # nearly always: nothing is left of the last answer
            buffer, at = self._receive(), 0
        while (end := buffer.find(b"\r\n", at)) < 0:
            buffer, at = self._more(buffer, at), 0
        self._buffer, self._at = buffer, end + 2
        return buffer[at:end]

    def lines(self, count: int) -> list[bytes]:
        """As many lines, without their ends: the answers to commands that have no body."""
        if self._owed:
            self._read_owed()
        if count == 1:
            return [self.line()]
        parts = [self._buffer[self._at :]]
        self._buffer, self._at = b"", 0
        missing, size = count - parts[0].count(b"\n"), 0
        while missing > 0:
            data = self._receive()
            parts.append(data)
            missing -= data.count(b"\n")
            size += len(data)
            if size > _READ + count * _MAX_LINE:
                raise Lost(f"it sent {data[:40]!r}…, which is no answer")
        lines = b"".join(parts).split(b"\r\n", count)
        if len(lines) != count + 1:
            raise Lost("it sent a line without an end")
        self._buffer = lines.pop()
        return lines

    def body(self, size: int) -> bytes:
        """*size* bytes and the line end behind them."""
        if not 0 <= size <= _MAX_BODY:
            raise Lost(f"it announced a body of {size} bytes")
        missing = size + 2 - (len(self._buffer) - self._at)
        if missing > 0:
            parts = [self._buffer[self._at :]]
            while missing > 0:
                data = self._receive()
                parts.append(data)
                missing -= len(data)
            self._buffer, self._at = b"".join(parts), 0
        end = self._at + size
        body = self._buffer[self._at : end]
        if self._buffer[end : end + 2] != b"\r\n":
            raise Lost("it sent a body without an end")
        self._at = end + 2
        return body

    def reserved(self, count: int) -> list[tuple[int, bytes]]:
        """The jobs among the answers to *count* reserves: id and body."""
        # The inner loop of every drain: locals instead of line() and body().
        if self._owed:
            self._read_owed()
        found = []
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            buffer, at = self._receive(), 0
        for _ in range(count):
            while (end := buffer.find(b"\r\n", at)) < 0:
                buffer, at = self._more(buffer, at), 0
            line = buffer[at:end]
            if line.startswith(b"RESERVED "):
                _, id_, size = line.split(b" ")
                start, stop = end + 2, end + 2 + int(size)
                if len(buffer) < stop + 2:
                    self._buffer, self._at = buffer, start
                    body = self.body(int(size))
                    buffer, at = self._buffer, self._at
                else:
                    body, at = buffer[start:stop], stop + 2
                    if buffer[stop:at] != b"\r\n":
                        raise Lost("it sent a body without an end")
                found.append((int(id_), body))
            elif line in _NO_JOB:
                at = end + 2
            else:
                raise unexpected(line)
        self._buffer, self._at = buffer, at
        return found

    def found(self) -> tuple[int, bytes] | None:
        """The answer to a peek: id and body."""
        line = self.line()
        if line == b"NOT_FOUND":
            return None
        word, id_, size = (*line.split(b" "), b"", b"")[:3]
        if word != b"FOUND":
            raise unexpected(line)
        return int(id_), self.body(int(size))

    def data(self) -> bytes | None:
        """The answer to a stats or list command, or None for NOT_FOUND."""
        line = self.line()
        if line == b"NOT_FOUND":
            return None
        if not line.startswith(b"OK "):
            raise unexpected(line)
        size, buffer, start = int(line[3:]), self._buffer, self._at
        stop = start + size
        if size < 0 or buffer[stop : stop + 2] != b"\r\n":  # not all of it is there yet
            return self.body(size)
        self._at = stop + 2
        return buffer[start:stop]

    def table(self) -> dict[str, str] | None:
        """The answer to a stats command as names and values, or None for NOT_FOUND."""
        data = self.data()
        return None if data is None else parse_table(data)

    def expect(self, word: bytes) -> None:
        """Read a line that can only be this one."""
        line = self.line()
        if line != word:
            raise unexpected(line)

    def _read_owed(self) -> None:
        owed, self._owed = self._owed, []
        for word in owed:
            line = self.line()
            if not line.startswith(word):
                raise unexpected(line)

    def _more(self, buffer: bytes, at: int) -> bytes:
        """What is unread, an incomplete line, and what comes behind it."""
        if len(buffer) - at > _MAX_LINE:
            raise Lost(f"it sent {buffer[at : at + 40]!r}…, which is no answer")
        return buffer[at:] + self._receive()

    def _receive(self) -> bytes:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError as error:  # how SO_RCVTIMEO says that time is up
            raise Lost(f"it gave no answer for {self._within:g} s") from error
        except OSError as error:
            raise Lost(_words(error)) from error
        if not data:
            raise Lost("it closed the connection")
        return data


def unexpected(line: bytes) -> Lost:
    """An answer that the command cannot have: the connection is out of step, or the server is broken."""
    return Lost(f"it answered {line[:60].decode('ascii', 'replace')!r}, so the connection was closed")


def must(answer: T | None) -> T:
    """An answer that cannot be NOT_FOUND."""
    if answer is None:
        raise unexpected(b"NOT_FOUND")
    return answer


def parse_table(data: bytes) -> dict[str, str]:
    """The names and values of a stats answer."""
    pairs = (line.partition(": ") for line in data.decode("utf-8", "replace").splitlines())
    return {name: value.strip('"') for name, found, value in pairs if found}


def parse_list(data: bytes) -> list[str]:
    """The names of a list answer."""
    return [line[2:] for line in data.decode("ascii", "replace").splitlines() if line.startswith("- ")]


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
