"""The watches of threads that wait side by side: one for each, kept for the next wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Watch(Protocol):
    def interrupt(self) -> None:
        """End its wait, from another thread."""

    def close(self) -> None: ...


W = TypeVar("W", bound=Watch)


class Watches(Generic[W]):
    """Made by *make* when all others are in use.  Every method is safe in every thread."""

    def __init__(self, make: Callable[[], W]) -> None:
        self._make = make
        self._idle: list[W] = []
        self._busy: set[W] = set()
        self._interrupted = False
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[W | None]:
        """A watch for this thread; None when there is nothing to wait for: interrupted before, or closed."""
        watch: W | None = None
        try:
            if not self._closed:
                watch = self._take()
            if self._interrupted:
                self._interrupted = False
                yield None
            else:
                yield watch
        finally:
            if watch is not None:
                self._busy.discard(watch)
                self._idle.append(watch)
            if self._closed:
                self._close_idle()

    def _take(self) -> W:
        try:
            watch = self._idle.pop()
        except IndexError:
            watch = self._make()
        self._busy.add(watch)
        return watch

    def interrupt(self) -> None:
        """End all waits, or the next one."""
        self._interrupted = True
        for watch in tuple(self._busy):
            watch.interrupt()

    def close(self) -> None:
        """Those in use end now, and are closed by their threads."""
        self._closed = True
        self.interrupt()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                watch = self._idle.pop()
            except IndexError:  # another thread had it
                return
            watch.close()
