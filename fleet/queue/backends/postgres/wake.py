"""
Waking up when another process puts a job, without polling.

A thread of its own reads the notifications, also while this process is busy:
a listener that does not read ends up holding back the server's vacuum.  Its
connection proves that it is alive: every half minute it sends itself a
notification that must come back.  While there is no such connection nothing
is pushed, and the waiter looks by itself.

A producer does not notify for each put, but at most once in DEBOUNCE seconds
for a pipeline; whoever heard one therefore looks again that long after it.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

DEBOUNCE = 0.01
_BEAT_SECONDS = 30.0
_LAST_PAUSE = 5.0


class Listener:
    """Hears which pipelines got a job.  Starts with the first `wait`; `close` ends it."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: str) -> None:
        self.alive = False  # notifications arrive
        self._connect = connect
        self._channel = channel
        self._beat_channel = f"{channel}_{os.urandom(6).hex()}"
        self._news = threading.Condition()
        self._counts: dict[str, int] = {}
        self._heard_at: dict[str, float] = {}
        self._epoch = 0  # grows whenever something may have been missed
        self._beat_is_out = False
        self._closed = False
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="fleet-listen", daemon=True)
        self._thread.start()

    def mark(self, pipelines: Sequence[str]) -> int:
        """A number that grows when something is heard about one of *pipelines*."""
        return self._epoch + sum(self._counts.get(name, 0) for name in pipelines)

    def heard_at(self, pipelines: Sequence[str]) -> float:
        """When something was heard last, by `time.monotonic()`."""
        return max(self._heard_at.get(name, 0.0) for name in pipelines) if pipelines else 0.0

    def wait(self, pipelines: Sequence[str], mark: int, timeout: float) -> bool:
        """Wait until `mark` has moved on from *mark*; False after *timeout* seconds."""
        with self._news:
            return self._news.wait_for(lambda: self._closed or self.mark(pipelines) != mark, timeout)

    def interrupt(self) -> None:
        """End a `wait` now, from another thread or a signal handler; the lock is re-entrant."""
        with self._news:
            self._epoch += 1
            self._news.notify_all()

    def close(self) -> None:
        self._closed = True
        os.write(self._stop_write, b".")
        self._thread.join(_LAST_PAUSE)
        if not self._thread.is_alive():
            os.close(self._stop_read)
            os.close(self._stop_write)

    # -- the thread

    def _run(self) -> None:
        pause = 0.1
        while not self._closed:
            try:
                with self._connect() as db:
                    self._listen(db)
            except (psycopg.Error, OSError):
                pass  # the claims' own connection reports what is wrong; here it is enough to try again
            if self.alive:
                pause = 0.1
            self._set_alive(False)
            select.select([self._stop_read], [], [], pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(_LAST_PAUSE, pause * 2)
        self._set_alive(False)

    def _listen(self, db: psycopg.Connection[Any]) -> None:
        db.add_notify_handler(lambda notify: self._hear(notify.channel, notify.payload))
        db.execute(f'LISTEN "{self._channel}"'.encode())
        db.execute(f'LISTEN "{self._beat_channel}"'.encode())
        self._set_alive(True)
        self._beat_is_out = False
        beat_at = time.monotonic()
        while not self._closed:
            now = time.monotonic()
            if now >= beat_at:
                if self._beat_is_out:
                    return  # the last one never came back: what else did not?
                self._beat_is_out = True
                beat_at = now + _BEAT_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311
                db.execute("SELECT pg_notify(%s, '')", [self._beat_channel])
            ready, _, _ = select.select([db.fileno(), self._stop_read], [], [], max(0.0, beat_at - now))
            if db.fileno() in ready:
                db.pgconn.consume_input()
                while (notify := db.pgconn.notifies()) is not None:
                    self._hear(notify.relname.decode(), notify.extra.decode())

    def _hear(self, channel: str, pipeline: str) -> None:
        if channel == self._beat_channel:
            self._beat_is_out = False
            return
        with self._news:
            self._counts[pipeline] = self._counts.get(pipeline, 0) + 1
            self._heard_at[pipeline] = time.monotonic()
            self._news.notify_all()

    def _set_alive(self, alive: bool) -> None:
        with self._news:
            self._epoch += alive != self.alive  # something may have been missed: everybody looks
            self.alive = alive
            self._news.notify_all()
