"""
Leases are renewed from outside while the interpreter stands still.

A body that holds the interpreter's lock in C code stops every thread of its
process, the keeper among them.  A POSIX timer does not need the interpreter:
unless the keeper puts it off in time, the C library runs one command.  That is
`fleet.queue.rescue`, which reads from shared memory what this process holds,
renews it over a connection of its own, and leaves once the keeper is back or
the process is gone.  Until then all this costs a few pages of memory, and a
system call now and then.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from collections.abc import Collection

from fleet.queue.hand import NEVER
from fleet.queue.job import Job

_SLACK = 1.0  # seconds before it goes off that the keeper puts the alarm off: not at each beat
_ROWS = 1024  # jobs beyond that are not renewed from outside
_HEAD = struct.Struct("=dqq")  # when the alarm goes off, renewals from outside, rows
_DSN = 4096  # where it begins: its length in 8 bytes, and UTF-8
_COLUMNS = 8192  # ids, tokens, ttrs and ends of leases that were renewed from outside


class Board:
    """
    Memory shared by the process that holds the leases and the one that rescues them.

    A file that has no name and no disk, read and written by offset: the two
    modules that would map it cost more than the calls.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, dsn: str) -> Board:
        """A new one.  The DSN may hold a password: only this user can open it."""
        board = cls(os.memfd_create("fleet-leases"))
        raw = dsn.encode()
        board._write(_DSN, struct.pack("=q", len(raw)) + raw)
        board._write(0, _HEAD.pack(NEVER, 0, 0))
        return board

    @property
    def dsn(self) -> str:
        (length,) = struct.unpack("=q", os.pread(self.fd, 8, _DSN))
        return os.pread(self.fd, length, _DSN + 8).decode()

    @property
    def alarm_at(self) -> float:
        """By `time.monotonic()`, which is the same in both processes."""
        return float(self._head()[0])

    @alarm_at.setter
    def alarm_at(self, at: float) -> None:
        self._write(0, struct.pack("=d", at))

    @property
    def renewals(self) -> int:
        return int(self._head()[1])

    def write(self, jobs: Collection[Job], ttrs: list[float]) -> None:
        """What is held.  Columns, because a row for each of 128 jobs would take ten times as long."""
        rows = len(ttrs)
        if rows > _ROWS:
            jobs, ttrs, rows = list(jobs)[:_ROWS], ttrs[:_ROWS], _ROWS
        columns = struct.pack(
            f"={2 * rows}q{rows}d",
            *[job.id for job in jobs],
            *[job.token for job in jobs],
            *ttrs,
        )
        self._write(_COLUMNS, columns + bytes(8 * rows))
        self._write(16, struct.pack("=q", rows))

    def read(self) -> tuple[list[Job], list[float]]:
        """What is held, as far as a renewal needs to know it, and until when it was renewed from outside."""
        rows = self._head()[2]
        values = struct.unpack(f"={2 * rows}q{2 * rows}d", os.pread(self.fd, 32 * rows, _COLUMNS))
        ids, tokens, ttrs, untils = (values[rows * n : rows * (n + 1)] for n in range(4))
        jobs = [
            Job(id_, "", b"", ttr=ttr, token=token) for id_, token, ttr in zip(ids, tokens, ttrs, strict=True)
        ]
        return jobs, list(untils)

    def renewed(self, untils: list[float]) -> None:
        """Renewed from outside; 0 for a row that was refused."""
        rows = len(untils)
        self._write(_COLUMNS + 24 * rows, struct.pack(f"={rows}d", *untils))
        self._write(8, struct.pack("=q", self.renewals + 1))

    def _head(self) -> tuple[float, int, int]:
        return _HEAD.unpack(os.pread(self.fd, _HEAD.size, 0))

    def _write(self, at: int, data: bytes) -> None:
        os.pwrite(self.fd, data, at)


class Lifeline:
    """
    The alarm of one consumer.  Not locked: the consumer holds its lock around each call.

    The alarm goes off when a third of the shortest lease is left.
    """

    def __init__(self, dsn: str) -> None:
        """Raises OSError or AttributeError where the system has no such memory or timers."""
        self._board = Board.create(dsn)
        python = "'" + sys.executable.replace("'", "'\\''") + "'"  # what shlex.quote does
        # -P: the working directory is the user's, and may hold any module.
        self._alarm = _Alarm(f"{python} -P -m fleet.queue.rescue {os.getpid()} {self._board.fd} &")
        self._at = NEVER
        self._beat_at = time.monotonic()
        self._renewals = 0

    def hold(self, jobs: Collection[Job], now: float) -> None:
        """Jobs came in; *jobs* is everything that is held now."""
        ttrs = [job.ttr for job in jobs]
        self._board.write(jobs, ttrs)
        at = now + min(ttrs) * (2 / 3)
        if at < self._at:
            self._set(at)

    def beat(self, jobs: Collection[Job], now: float, until: float) -> str:
        """The keeper is awake, and will be again at *until*; the line to say when it was missed."""
        if self._at <= until + _SLACK:
            at = min((job.expires_at - job.ttr / 3 for job in jobs), default=NEVER)
            # A lease that cannot be renewed, because the server is away, is no reason to go off.
            self._set(max(at, until + min((job.ttr / 3 for job in jobs), default=0.0)))
        missed, self._beat_at = now - self._beat_at, now
        renewals, self._renewals = self._renewals, self._board.renewals
        if renewals == self._renewals:
            return ""
        return f"interpreter-stood-still seconds={missed:.1f}: leases were renewed from outside"

    def kept_until(self, job: Job) -> float:
        """The end of its lease, if that was renewed from outside; else 0."""
        for held, until in zip(*self._board.read(), strict=True):
            if (held.id, held.token) == (job.id, job.token):
                return until
        return 0.0

    def close(self) -> None:
        self._alarm.close()
        os.close(self._board.fd)

    def _set(self, at: float) -> None:
        self._at = self._board.alarm_at = at
        self._alarm.set(at)


def lifeline_for(dsn: str) -> Lifeline | None:
    """None where leases cannot be renewed from outside: beanstalkd's belong to a connection."""
    if dsn.partition(":")[0] == "beanstalkd" or not hasattr(os, "memfd_create"):
        return None
    try:
        return Lifeline(dsn)
    except (OSError, AttributeError):
        return None


class _Event(ctypes.Structure):
    """struct sigevent of Linux, 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("rest", ctypes.c_byte * 40),
    )


class _Spec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))


class _Alarm:
    """A timer that runs a shell command, in a thread of the C library that knows no interpreter."""

    _MONOTONIC, _SIGEV_THREAD, _ABSOLUTE = 1, 2, 1

    def __init__(self, command: str) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._command = ctypes.create_string_buffer(command.encode())  # as long as the timer may need it
        event = _Event(
            value=ctypes.addressof(self._command),
            notify=self._SIGEV_THREAD,
            # The timer calls a function with one word, and system(3) is a function of one pointer.
            function=ctypes.cast(self._library.system, ctypes.c_void_p).value,
        )
        self._timer = ctypes.c_void_p()
        if self._library.timer_create(self._MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create")

    def set(self, at: float) -> None:
        """Go off once, at that `time.monotonic()`."""
        spec = _Spec()  # all zero: never
        if at != NEVER:
            spec.at_s, spec.at_ns = int(at), int(at % 1 * 1e9)
        self._library.timer_settime(self._timer, self._ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        self._library.timer_delete(self._timer)
