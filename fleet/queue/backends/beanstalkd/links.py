"""The connections of one back end: the main one, those that wait, and how they are opened again."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from fleet.errors import BackendUnavailable, OutcomeUnknown
from fleet.queue.backends.beanstalkd.borrowed import BorrowedLink
from fleet.queue.backends.beanstalkd.lease import forget
from fleet.queue.backends.beanstalkd.protocol import Link, Lost
from fleet.queue.backends.beanstalkd.sockets import ANSWER_WITHIN, Address, dial

T = TypeVar("T")

_UNHEARD = 0.05  # seconds of silence after which a connection is looked at before it is used
_BACK_OFF = (0.05, 1.0)  # seconds between two attempts to connect: the first, the longest
_IDLE = 2  # connections kept for the next wait


class Links:
    """
    Opens, keeps and closes connections.

    Everything but waiting goes over `main`.  A connection whose leases are
    not settled yet stays open beside it; one that holds nothing is idle.  Over
    the caller's *connection*, a greenstalk client, there is no other.

    *greet* is called with each new main connection: the server may be another one.
    """

    def __init__(
        self, address: Address, timeout: float, connection: Any, greet: Callable[[Link], None]
    ) -> None:
        """
        Raises:
            BackendUnavailable: nobody answers there.
        """
        self.borrowed = connection is not None
        self._address = connection._address if self.borrowed else address
        self._timeout = timeout
        self._greet = greet
        self._closed = False
        self._all: set[Link] = set()
        self._idle: deque[Link] = deque()
        self._watcher: Link | None = None
        try:
            if self.borrowed:
                self.main: Link = BorrowedLink(connection)
                greet(self.main)
            else:
                self.main = self._open_main()
        except (OSError, Lost) as error:
            self.close()
            raise self.unavailable(error) from error

    @property
    def location(self) -> str:
        if isinstance(self._address, str):
            return f"beanstalkd://?unix_socket={self._address}"
        host, port = self._address[:2]
        return f"beanstalkd://[{host}]:{port}" if ":" in host else f"beanstalkd://{host}:{port}"

    def close(self) -> None:
        self._closed = True
        for link in tuple(self._all):
            link.close()

    # -- the main connection

    def ready(self) -> Link:
        """The main connection, opened again when it broke: with back-off, for connect_timeout seconds."""
        link = self.main
        if not link.closed and (time.monotonic() - link.spoke_at < _UNHEARD or link.is_alive()):
            return link
        if self._closed or self.borrowed:
            whose = "this queue" if self._closed else "the caller's greenstalk client"
            raise BackendUnavailable(f"{self.location}: {whose} is closed")
        give_up = time.monotonic() + self._timeout
        pause, longest = _BACK_OFF
        while True:
            try:
                self.main = self._open_main()
                return self.main
            except (OSError, Lost) as error:
                pause = min(longest, pause * 2) * (0.5 + os.urandom(1)[0] / 512)  # jitter
                if time.monotonic() + pause > give_up:
                    raise self.unavailable(error) from error
                time.sleep(pause)

    def adopt(self, link: Link) -> None:
        """Go on over the connection that brought a job: its settle and the next claim travel as one."""
        if self.main.closed or not self.main.leases:
            old, self.main = self.main, link
            self.retire(old)

    def again(self, read: Callable[[Link], T]) -> T:
        """Carry out a read, and once more on a new connection when this one broke."""
        with contextlib.suppress(Lost), self.ready() as link:
            return read(link)
        try:
            with self.ready() as link:
                return read(link)
        except Lost as lost:
            raise self.unavailable(lost) from lost

    def once(self, verb: Callable[[Link], T]) -> T:
        """Carry out a verb that must not be repeated, unless nothing of it had left."""
        while True:
            try:
                with self.ready() as link:
                    return verb(link)
            except Lost as lost:
                if lost.sent:
                    raise OutcomeUnknown(
                        f"{self.location}: {lost}; the call may have taken effect. Running it again is safe."
                    ) from lost

    def unavailable(self, error: Exception) -> BackendUnavailable:
        words = getattr(error, "strerror", None) or str(error)
        return BackendUnavailable(
            f"{self.location}: {words}. Check that beanstalkd runs and listens there, and try again."
        )

    # -- the others; these may be called beside any call above

    def idle(self) -> Link:
        """A connection that holds nothing.  Raises OSError when none can be opened."""
        for link in tuple(self._all):
            if link.leases:  # abandoned ones would pin a connection each
                forget(link)
                self.retire(link)
        while self._idle:
            link = self._idle.pop()
            if not link.closed and link.is_alive():
                return link
        return self._open()

    def retire(self, link: Link) -> None:
        """Keep a connection that holds nothing for the next wait, or close it."""
        if link.closed or link is self.main or link.leases or link in self._idle:
            return
        if len(self._idle) < _IDLE:
            self._idle.append(link)
        else:
            link.close()

    def remember(self, tube: str) -> None:
        """Watch *tube* from here on: the server forgets an empty one that nobody refers to, and its pause."""
        with contextlib.suppress(Lost, OSError):
            if self._watcher is None or self._watcher.closed:
                self._watcher = self._open()
            with self._watcher as link:
                link.watch((*link.watched, tube))
                link.send(b"list-tube-used\r\n")
                link.line()

    def _open_main(self) -> Link:
        link = self._open()
        link.answers_within(self._timeout)  # a server that accepts and says nothing is not there yet
        self._greet(link)
        link.answers_within(ANSWER_WITHIN)
        return link

    def _open(self) -> Link:
        if self._closed:
            raise OSError("this queue is closed")
        link = Link(dial(self._address, self._timeout))
        self._all = {each for each in self._all if not each.closed} | {link}
        return link
