"""Waiting for jobs: until a put is seen, or something is due by itself."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from functools import partial

from fleet.queue.backends.sqlite.clock import Clock
from fleet.queue.backends.sqlite.connection import Link
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.backends.sqlite.wake import Watch


class Waiting:
    """Watches the file over a connection of its own.  `wait` may run beside any other method."""

    def __init__(self, path: str, link: Link, sql: Statements, clock: Clock) -> None:
        self._path = path
        self._link = link
        self._sql = sql
        self._clock = clock
        self._watch: Watch | None = None
        self._interrupted = False
        self._one_at_a_time = threading.Lock()

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        """As `Backend.wait`."""
        if self._link.borrowed or self._path == ":memory:":
            time.sleep(min(timeout, 0.01))  # there is no second connection to watch with
            return
        with self._one_at_a_time:
            if self._watch is None:
                self._watch = Watch(self._path, self._link.reader())
            if self._interrupted:  # before there was a watch, perhaps
                self._interrupted = False
                return
            self._watch.wait(partial(self._next_due, pipelines), timeout)

    def interrupt(self) -> None:
        self._interrupted = True
        if self._watch is not None:
            self._watch.interrupt()

    def close(self) -> None:
        with self._one_at_a_time:
            if self._watch is not None:
                self._watch.close()
                self._watch = None

    def _next_due(self, pipelines: Sequence[str], db: sqlite3.Connection) -> float:
        """Seconds until something is claimable: 0 is now, infinity is "not by waiting alone"."""
        now, boot = self._clock.wall(), self._clock.boot()
        paused = dict(db.execute(self._sql.paused, (now,)).fetchall())
        soonest = [float("inf")]
        for pipeline in pipelines:
            if pipeline in paused:
                soonest.append((paused[pipeline] - now) / 1e6)
                continue
            ready, run_at, deadline = db.execute(self._sql.next_due, {"pipeline": pipeline}).fetchone()
            if ready:
                return 0.0
            if run_at is not None:
                soonest.append((run_at - now) / 1e6)
            if deadline is not None:
                soonest.append((deadline - boot) / 1e6)
        return max(0.0, min(soonest))
