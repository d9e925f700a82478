"""Waiting for jobs: until a put of this host is seen, or something is due by itself; and telling of puts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fleet.queue.backends.mysql import server
from fleet.queue.backends.mysql.connection import Link
from fleet.queue.backends.mysql.literal import bind
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.backends.mysql.wake import Watch, nudge, path_of
from fleet.queue.watches import Watches

_POLL_SECONDS = 0.75  # behind the bell


class Waiting:
    """`wait` may run beside any other method, and itself."""

    def __init__(self, link: Link, sql: Statements, prefix: str) -> None:
        self._link = link
        self._sql = sql
        self._prefix = prefix
        self._path: str | None = None  # of the file that a nudge touches
        self._watches = Watches(lambda: Watch(self._nudged_path()))
        self._misses = 0  # waits in a row that ended although the claim then got nothing
        self._in_vain = False  # the last wait ended with its time, and nothing else

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        """As `Backend.wait`."""
        with self._watches.one() as watch:
            if watch is not None:
                self._wait(watch, pipelines, timeout)

    def _wait(self, watch: Watch, pipelines: Sequence[str], timeout: float) -> None:
        watch.listen()
        self._in_vain = False
        if self._link.borrowed:  # it is the caller's, also while we wait
            watch.sleep(min(timeout, _POLL_SECONDS))
            return
        give_up = time.monotonic() + timeout
        # It was ready, and the claim got nothing: somebody else is at it.  Ask less and less often.
        if self._misses and watch.sleep(min(timeout, 0.001 * 2 ** min(self._misses, 6))):
            return
        while (due := self._next_due(pipelines)) > 0:
            self._misses = 0
            left = give_up - time.monotonic()
            if left <= 0 or watch.sleep(min(due, left, _POLL_SECONDS)):
                return
            if left <= min(due, _POLL_SECONDS):
                self._in_vain = True
                return
        self._misses += 1

    def is_in_vain(self, pipelines: Sequence[str]) -> bool:
        """Whether there is still nothing after a wait in vain: one question where a claim would be six."""
        if self._in_vain and self._next_due(pipelines) > 0:
            return True
        self._in_vain = False
        return False

    def _next_due(self, pipelines: Sequence[str]) -> float:
        """Seconds until something is claimable: 0 is now, infinity is "not by waiting alone"."""
        each = [bind(self._sql.next_due, name, name, name, name) for name in pipelines]
        soonest = float("inf")
        for now, paused_until, ready, *dues in self._link.read(" UNION ALL ".join(each))[0].rows:
            if paused_until and paused_until > now:
                soonest = min(soonest, (paused_until - now) / 1e6)
                continue
            if ready:
                return 0.0
            soonest = min(soonest, *[(due - now) / 1e6 for due in dues if due is not None], soonest)
        return max(0.0, soonest)

    def nudge(self) -> None:
        """Tell those who wait on this host that something may be ready."""
        if not self._link.in_callers_transaction:
            nudge(self._nudged_path())

    def _nudged_path(self) -> str:
        if self._path is None:
            self._path = path_of(server.identity(self._link), self._prefix)
        return self._path

    def interrupt(self) -> None:
        self._watches.interrupt()

    def close(self) -> None:
        self._watches.close()
