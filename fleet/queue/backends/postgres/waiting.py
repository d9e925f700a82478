"""Waiting for jobs: woken by a notification, and looking now and then behind that."""

from __future__ import annotations

import random
import threading
import time
from functools import partial

from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Door
from fleet.queue.backends.postgres.wake import DEBOUNCE, Listener
from fleet.queue.bell import Bell as Sleep

LOOK_SECONDS = 4.0  # between two looks behind the push
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0  # without a push: growing gaps


class _Look:
    """What the last claim that found nothing knows: when the next one is due."""

    __slots__ = ("at", "gap", "mark", "soon_at")

    def __init__(self, at: float, soon_at: float, mark: int, gap: float) -> None:
        self.at = at
        self.soon_at = soon_at  # when a delay, a lease or a pause ends
        self.mark = mark  # of the listener, taken before the claim
        self.gap = gap  # seconds until the next look when nothing is pushed


class Waiting:
    """When each set of pipelines is to be looked at next.  `wait` may run beside any other method."""

    def __init__(self, door: Door | None, runner: Runner, channel: str, *, push: bool) -> None:
        self.listener: Listener | None = None
        self._connect = partial(door.connect, listens=True) if door is not None and push else None
        self._runner = runner
        self._channel = channel
        self._looks: dict[tuple[str, ...], _Look] = {}
        self._sleep = Sleep()
        self._starting = threading.Lock()
        self._closed = False

    def mark(self, names: tuple[str, ...]) -> int:
        """Of the listener, to be taken before a claim and given to `found_nothing` after it."""
        return self.listener.mark(names) if self.listener else 0

    def is_looking(self, names: tuple[str, ...]) -> bool:
        """Whether nothing was there the last time."""
        return names in self._looks

    def found(self, names: tuple[str, ...]) -> None:
        self._looks.pop(names, None)

    def found_nothing(self, names: tuple[str, ...], soon: int | None, mark: int) -> None:
        """*soon* is the microseconds until something is due by itself."""
        now = time.monotonic()
        former = self._looks.get(names)
        gap = _FIRST_LOOK if former is None else min(_LAST_LOOK, former.gap * 1.5)
        soon_at = float("inf") if soon is None else now + soon / 1e6
        if len(self._looks) > 100:  # somebody asks for ever new sets of pipelines
            self._looks.clear()
        self._looks[names] = _Look(now, soon_at, mark, gap)

    def wait(self, names: tuple[str, ...], timeout: float) -> None:
        """As `Backend.wait`."""
        look = self._looks.get(names)
        if look is None:
            return
        now = time.monotonic()
        listener = self._listen()
        next_look = look.at + look.gap
        if listener and listener.alive:
            next_look = look.at + LOOK_SECONDS * random.uniform(0.85, 1.0)  # noqa: S311 - spreads a crowd
            heard_at = listener.heard_at(names)
            if look.at < heard_at + DEBOUNCE:
                next_look = heard_at + DEBOUNCE
        next_look = min(next_look, look.soon_at)
        left = max(0.0, min(timeout, next_look - now))
        if listener is None:
            self._sleep.wait(left)
        else:
            listener.wait(names, look.mark, left)

    def interrupt(self) -> None:
        listener = self.listener
        if listener is None:
            self._sleep.ring()
        else:
            listener.interrupt()

    def close(self) -> None:
        with self._starting:
            self._closed = True
            listener, self.listener = self.listener, None
        if listener is not None:
            listener.close()
        self._sleep.close()

    def _listen(self) -> Listener | None:
        """The listener, started by the first wait; None where nothing can be pushed."""
        if self._connect is None or self._runner.pooled:
            return None
        with self._starting:
            if self.listener is None and not self._closed:
                self.listener = Listener(self._connect, self._channel)
            return self.listener
