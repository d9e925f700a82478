"""Log lines that never stop a job: queued, written by a thread of their own, and counted when dropped."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from fleet.queue.bell import Bell
from fleet.queue.job import Job

# The job that the running thread or task works on: what it prints is about that job.
current_job: ContextVar[Job | None] = ContextVar("fleet_job", default=None)

_LIMIT = 2000  # lines that may wait for a reader that does not read
_MAX_LINE = 8192  # characters


class Log:
    """
    One line an event, "2026-11-24T14:02:31Z failed job=7 attempt=2 …" or one JSON object.

    Calling it never blocks and never raises.  The descriptor is a copy: a
    handler that closes stdout and opens a file does not get our lines in it.
    """

    def __init__(self, *, json_lines: bool = False, fd: int = 1, limit: int = _LIMIT) -> None:
        self._json = json_lines
        self._limit = limit
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closed = False
        self._forked = False
        try:
            self._fd = os.dup(fd)
        except OSError:
            self._fd = -1  # started without a stdout: every line is dropped, and nothing else happens
        self._bell = Bell()
        self._asleep = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def __call__(self, event: str, **fields: Any) -> None:
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        if self._json:
            self.line(json.dumps({"at": at, "event": event, **fields}, default=str, ensure_ascii=False))
        else:
            self.line(" ".join([at, event, *(f"{key}={_show(value)}" for key, value in fields.items())]))

    def trouble(self, event: str, detail: str, **fields: Any) -> None:
        """An event with a long text, such as a traceback: part of a JSON line, left out of a text line."""
        if self._json:
            fields["detail"] = detail
        self(event, **fields)

    def said(self, text: str) -> None:
        """A line of the handler's own: as it is, or as a JSON object that names the job."""
        if not self._json:
            self.line(text)
        elif (job := current_job.get()) is None:
            self("said", text=text)
        else:
            self("said", job=job.id, pipeline=job.pipeline, attempt=job.attempt, text=text)

    def line(self, text: str) -> None:
        """A line as it is."""
        if len(text) > _MAX_LINE:
            text = f"{text[: _MAX_LINE - 1]}…"
        if self._forked:
            self._write(text + "\n")
            return
        if len(self._lines) >= self._limit:
            self._dropped += 1
            return
        self._lines.append(text)
        if self._thread is None:
            self._start()
        elif self._asleep:
            self._bell.ring()

    def forked(self) -> None:
        """From here on each line is written at once: a forked child has no thread that would."""
        self._forked = True

    def close(self, patience: float = 1.0) -> None:
        """Write what is queued, for at most that many seconds."""
        self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._bell.ring()
            self._thread.join(patience)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._write_all, name="fleet-log", daemon=True)
                thread.start()
                self._thread = thread

    def _write_all(self) -> None:
        while True:
            while self._lines:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    if not self._write(f"log-dropped lines={dropped}\n"):
                        self._dropped += dropped
                if not self._write(self._lines.popleft() + "\n"):
                    self._dropped += 1
            if self._closed:
                return
            self._asleep = True
            if not self._lines:
                self._bell.wait(60.0)
            self._asleep = False

    def _write(self, text: str) -> bool:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:  # nobody reads any more, or the disk is full
            return False
        return True


class Stream(io.TextIOBase):
    """Stands in for sys.stdout and sys.stderr, so that a handler's print cannot block either."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, log: Log, fd: int) -> None:
        self._log = log
        self._fd = fd
        self._parts: dict[int, str] = {}  # thread -> its unfinished line
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        *lines, rest = (self._parts.pop(thread, "") + text).split("\n")
        for line in lines:
            self._log.said(line)
        if len(rest) > _MAX_LINE:  # dots, or a bar that is drawn over itself: it may never end
            self._log.said(rest)
        elif rest:
            self._parts[thread] = rest
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def reconfigure(self, **_: Any) -> None:
        """Scripts ask for lines at once, or for UTF-8, which they get anyway."""


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`, for those who print bytes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        with suppress(ValueError):
            self._stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def writable(self) -> bool:
        return True


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(value)
    if text and text.isprintable() and not any(c in ' "=' for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)
