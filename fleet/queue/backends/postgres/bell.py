"""The producer's end of the wake-up: telling listeners that a pipeline got something."""

from __future__ import annotations

import time
from collections.abc import Iterable

from fleet.errors import QueueError
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Cut
from fleet.queue.backends.postgres.statements import Statements


class Bell:
    def __init__(self, runner: Runner, sql: Statements, channel: str, *, push: bool, within: float) -> None:
        """Listeners look by themselves every *within* seconds: what is due later needs no bell."""
        self.channel = channel
        self._runner = runner
        self._sql = sql
        self._push = push
        self._within = within * 1e6
        self._rung_at: dict[str, float] = {}

    def rings(self, delay: int) -> bool:
        """Whether to tell of a job that is ready in *delay* µs."""
        return self._push and delay < self._within

    def rung_at(self, pipeline: str) -> float:
        """By `time.monotonic()`."""
        return self._rung_at.get(pipeline, 0.0)

    def has_rung(self, pipeline: str, at: float) -> None:
        if len(self._rung_at) > 10_000:
            self._rung_at.clear()
        self._rung_at[pipeline] = at

    def ring(self, pipelines: Iterable[str], delay: int = 0) -> None:
        """Tell of something that has happened; it has, whether this works or not."""
        if not self.rings(delay):
            return
        names = list(pipelines)
        now = time.monotonic()
        values = {"channel": self.channel, "pipelines": names}
        try:
            self._runner.run(lambda session: self._runner.ask(session, self._sql.notify, values))
        except (Cut, QueueError):
            if self._runner.joins():
                raise  # the caller's transaction cannot go on
            return  # found by the next look
        for name in names:
            self.has_rung(name, now)
