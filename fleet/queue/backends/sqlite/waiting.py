"""Waiting for jobs: until a put is seen, or something is due by itself."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import partial

from fleet.queue.backends.sqlite.clock import Clock
from fleet.queue.backends.sqlite.connection import Link
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.backends.sqlite.wake import Watch
from fleet.queue.watches import Watches


class Waiting:
    """Watches the file over connections of its own.  `wait` may run beside any other method, and itself."""

    def __init__(self, path: str, link: Link, sql: Statements, clock: Clock) -> None:
        self._path = path
        self._link = link
        self._sql = sql
        self._clock = clock
        self._watches = Watches(lambda: Watch(path, link.reader()))

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        """As `Backend.wait`."""
        if self._link.borrowed or self._path == ":memory:":
            time.sleep(min(timeout, 0.01))  # there is no second connection to watch with
            return
        with self._watches.one() as watch:
            if watch is not None:
                watch.wait(partial(self._next_due, pipelines), timeout)

    def interrupt(self) -> None:
        self._watches.interrupt()

    def close(self) -> None:
        self._watches.close()

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
