"""
The live screen: one thread asks, this one draws and reads keys.

On every way out (q, Ctrl-C, SIGTERM, SIGHUP, an exception) the terminal is as
it was, and Ctrl-Z gives it back until `fg`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, Protocol

from fleet.dashboard import keys, view
from fleet.dashboard.facts import Snapshot
from fleet.dashboard.lines import Line, Span
from fleet.dashboard.look import Look, Overlay, Wish
from fleet.dashboard.paint import Screen

SLOWEST = 60.0  # seconds between two looks, at most, however slow the sources are

# Asks the sources; gets the snapshot before, or None at first, and the seconds that rates look back.
Ask = Callable[[Snapshot | None, float], Snapshot]

_ENDING = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class Hands(Protocol):
    """What keys can do beyond the screen.  Each may take its time: it runs in a thread of its own."""

    def read(self, verb: str, name: str) -> tuple[str, list[str]]:
        """The title and the lines of "why" or "logs" for a pipeline or process."""
        ...

    def act(self, verb: str, words: tuple[str, ...]) -> tuple[str, list[str]]:
        """Pause, resume or run a command; one line that says what came of it, and more if it failed."""
        ...


def run(
    ask: Ask,
    *,
    look: Look | None = None,
    hands: Hands | None = None,
    colour: bool = True,
    farewell: Callable[[Snapshot | None], str] | None = None,
) -> str:
    """
    Show what *ask* says until the reader leaves.

    Returns why it ended: "quit", "interrupted", "terminated" or "hung up".
    *farewell* gets the last snapshot and returns the text that is printed once
    the terminal is back.  An exception of *ask* ends the screen and is raised.
    """
    screen = _Screen(ask, look or Look(), hands, colour)
    reason = screen.run()
    if farewell is not None and reason == "quit":
        text = farewell(screen.shown)
        if text:
            print(text)
    return reason


class _Poller(threading.Thread):
    """Asks again and again, and keeps the latest answer; never draws."""

    def __init__(self, ask: Ask, look: Look, tell: Callable[[], None]) -> None:
        super().__init__(name="fleet-refresh", daemon=True)
        self._ask = ask
        self._tell = tell  # wakes the drawing thread
        self._wake = threading.Event()
        self._ended = False
        self.interval = look.interval  # as the reader wants it
        self._window = look.window
        self.slow = False  # the sources take longer than that
        self.latest: Snapshot | None = None
        self.answered_at = time.monotonic()
        self.error: BaseException | None = None

    def run(self) -> None:
        pace = self.interval
        while not self._ended:
            started = time.monotonic()
            try:
                self.latest = self._ask(self.latest, self._window)
            except BaseException as error:  # raised again by the thread that owns the terminal
                self.error = error
                self._tell()
                return
            self.answered_at = time.monotonic()
            took = self.answered_at - started
            if took > pace:
                pace = min(pace * 2, SLOWEST)
            elif took < self.interval / 2:
                pace = self.interval
            pace = max(pace, self.interval)
            self.slow = pace > self.interval
            self._tell()
            self._wake.wait(max(pace - took, 0.05))
            self._wake.clear()

    def hurry(self) -> None:
        """Something was changed: look again now."""
        self._wake.set()

    def follow(self, look: Look) -> None:
        """Ask as often, and over as long a time, as the reader wants it now."""
        if (look.interval, look.window) != (self.interval, self._window):
            self.interval, self._window = look.interval, look.window
            self._wake.set()

    def end(self) -> bool:
        """Whether it is gone; it may wait for a server, and is a daemon that dies with us."""
        self._ended = True
        self._wake.set()
        if self.ident is not None:
            self.join(1.0)
        return not self.is_alive()


class _Screen:
    def __init__(self, ask: Ask, look: Look, hands: Hands | None, colour: bool) -> None:
        self.look = look
        self.shown: Snapshot | None = None
        self._hands = hands
        self._results: deque[Overlay | str] = deque()  # of the threads that carry out wishes
        self._screen = Screen(sys.stdout.fileno(), colour=colour, encoding=sys.stdout.encoding or "utf-8")
        self._reason = ""
        self._suspend = False
        self._stdin = _terminal_fd()
        # One byte in this pipe ends the select below: a signal or a new snapshot.
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._mouth, False)
        self._poller = _Poller(ask, self.look, self._tell)

    def run(self) -> str:
        try:
            with self._signals():
                self._poller.start()
                while not self._reason:
                    with self._terminal():
                        self._until_something_ends_it()
                    if self._suspend and not self._reason:
                        self._stop_until_fg()
        finally:
            if self._poller.end():  # else it may still write to the pipe
                os.close(self._ear)
                os.close(self._mouth)
        return self._reason

    def _until_something_ends_it(self) -> None:
        while not self._reason and not self._suspend:
            self._draw()
            self._wait()
            if self._poller.error is not None:
                raise self._poller.error

    # -- one turn

    def _draw(self) -> None:
        poller = self._poller
        latest = poller.latest
        if latest is not None and (self.shown is None or not self.look.frozen):
            self.shown = latest
        while self._results:
            result = self._results.popleft()
            if isinstance(result, Overlay):
                self.look = replace(self.look, overlay=result, note="")
            else:
                self.look = replace(self.look, note=result)
        width, height = self._screen.size()
        late = time.monotonic() - poller.answered_at - 3 * max(self.look.interval, 1.0)
        look = replace(self.look, slow=poller.slow, late=max(late, 0.0))
        if self.shown is None:
            lines: list[Line] = [(Span(" asking supervisord and the queue …"),)]
        else:
            lines = view.frame(self.shown, look, width, height)
        try:
            self._screen.draw(lines, (width, height))
        except OSError:  # the terminal went away
            self._reason = self._reason or "hung up"

    def _wait(self) -> None:
        """Until a key, a snapshot or a signal; or until it is time to say that none comes."""
        listen = [self._ear] + ([self._stdin] if self._stdin is not None else [])
        ready, _, _ = select.select(listen, [], [], max(1.0, 1.5 * self.look.interval))
        if self._ear in ready:
            with suppress(BlockingIOError):
                os.read(self._ear, 4096)
        if self._stdin is not None and self._stdin in ready:
            try:
                data = os.read(self._stdin, 1024)
            except OSError:
                data = b""
            if not data:  # the terminal went away
                self._reason = self._reason or "hung up"
            for key in keys.decode(data):
                if self.shown is None:
                    if key == "q":
                        self._reason = "quit"
                    continue
                look = keys.press(self.look, key, self.shown)
                if look is None:
                    self._reason = self._reason or "quit"
                    return
                self.look = look
                if look.wish is not None:
                    self.look = replace(look, wish=None, note=look.note or "asking …")
                    self._carry_out(look.wish)
            self._poller.follow(self.look)

    def _carry_out(self, wish: Wish) -> None:
        """In a thread, so that keys and numbers go on meanwhile."""
        hands = self._hands
        if hands is None:
            self.look = replace(self.look, note="not here")
            return

        def work() -> None:
            try:
                if wish.verb in ("why", "logs"):
                    title, lines = hands.read(wish.verb, wish.words[0])
                    self._results.append(Overlay(title=title, lines=tuple(lines), wraps=wish.verb == "why"))
                else:
                    note, lines = hands.act(wish.verb, wish.words)
                    if lines:
                        self._results.append(Overlay(title=note, lines=tuple(lines), wraps=True))
                    self._results.append(note)
                    self._poller.hurry()
            except Exception as error:  # told on the screen: it must not end because of one key
                self._results.append(f"{type(error).__name__}: {error}")
            self._tell()

        threading.Thread(target=work, name="fleet-key", daemon=True).start()

    def _tell(self) -> None:
        with suppress(OSError):  # full: it will wake anyway; closed: nobody is left to wake
            os.write(self._mouth, b".")

    # -- the terminal

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """The alternate screen and single keys, and back to how it was."""
        saved: list[Any] | None = None
        if self._stdin is not None:
            saved = termios.tcgetattr(self._stdin)
            tty.setcbreak(self._stdin)
        try:
            sys.stdout.flush()
            self._screen.enter()
            yield
        finally:
            with suppress(OSError):  # the terminal may be gone
                self._screen.leave()
            if saved is not None and self._stdin is not None:
                with suppress(termios.error):
                    termios.tcsetattr(self._stdin, termios.TCSADRAIN, saved)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def end(number: int, _: FrameType | None) -> None:
            self._reason = self._reason or _ENDING[signal.Signals(number)]
            self._tell()

        def suspend(*_: Any) -> None:
            self._suspend = True
            self._tell()

        def redraw(*_: Any) -> None:
            self._tell()

        wanted = dict.fromkeys(_ENDING, end)
        handlers: dict[signal.Signals, Any] = {**wanted, signal.SIGTSTP: suspend, signal.SIGWINCH: redraw}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._on_suspend = suspend
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_until_fg(self) -> None:
        """Stop like any other program on Ctrl-Z; returns after `fg`."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_suspend)
        self._suspend = False


def _terminal_fd() -> int | None:
    """The keyboard, if there is one."""
    try:
        number = sys.stdin.fileno()
        return number if os.isatty(number) else None
    except (AttributeError, OSError, ValueError):  # closed or replaced
        return None
