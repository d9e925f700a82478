"""A back end that is away: since when, when to try again, and when to say so."""

from __future__ import annotations

import os
import time

from fleet.queue.pace import pause_after

_SAY_EVERY = 30.0  # seconds between two lines about the same outage


class Outage:
    """
    `since` is 0 while the back end answers.

    Not locked: a race between two threads costs one repeated line at worst.
    """

    __slots__ = ("_failures", "_reason", "_said_at", "since")

    def __init__(self) -> None:
        self.since = 0.0  # by time.time(), because people read it
        self._reason = ""
        self._failures = 0
        self._said_at = 0.0

    def begin(self, error: Exception) -> None:
        if not self.since:
            self.since = time.time()
            self._reason = str(error)
            self._said_at = 0.0

    def pause(self) -> float:
        """Seconds until the next attempt, growing to 5, with jitter."""
        self._failures += 1
        return pause_after(self._failures, os.urandom(1)[0] / 255)

    def end(self) -> str:
        """The line to say when it is over, "" when there was no outage."""
        if not self.since:
            return ""
        line = f"back-end-back away_for={time.time() - self.since:.0f}s"
        self.since, self._failures = 0.0, 0
        return line

    def line(self, now: float) -> str:
        """The line to say now, "" when it was said less than 30 seconds ago."""
        if not self.since or (self._said_at and now - self._said_at < _SAY_EVERY):
            return ""
        self._said_at = now
        return f"waiting {self}: {self._reason}"

    def __str__(self) -> str:
        return (
            f"back end away since {time.strftime('%H:%M:%S', time.localtime(self.since))}"
            if self.since
            else ""
        )
