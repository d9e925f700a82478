"""
One connection to the server: packets of statements, transactions, and getting it back when it broke.

The driver's exceptions end here.  `Link` tells apart what a caller must tell
apart: nothing happened and may be tried again, or nobody can know.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import pymysql
from pymysql.constants import SERVER_STATUS
from pymysql.cursors import Cursor

from fleet.errors import BackendBusy, BackendUnavailable, DsnError, PayloadTooLarge, QueueError
from fleet.queue.backends.mysql.dial import LOOPBACK, dial, refusal
from fleet.queue.backends.mysql.mishaps import Clash, Duplicate, Lost, translated, words
from fleet.queue.dsn import Dsn

READ_SECONDS = 15.0  # a server that says nothing for so long is taken for lost; every statement here is short
_LOCK_SECONDS = 5  # wait for a row that somebody else changes; then 1205, and the transaction is run again
_BUSY_SECONDS = 10.0  # run again for so long, then BackendBusy
_IDLE_SECONDS = 30.0  # after such a rest, ask whether the connection lives before a put goes over it
_CONNECT_SECONDS = 5.0


T = TypeVar("T")


class Result(NamedTuple):
    """What one statement gave."""

    rows: Any  # of tuples; () for a statement that gives none
    changed: int  # rows
    id: int  # the first AUTO_INCREMENT value it made


class Link:
    """
    A connection of our own, or the caller's.

    Own connections open by themselves, take several statements in one packet
    and may be used from two threads.  On the caller's, statements go one by
    one, nothing is set, and no open transaction is ended.
    """

    def __init__(self, dsn: Dsn | None = None, *, connection: Any = None, commits: bool = False) -> None:
        self._dsn = dsn
        self._commits = commits
        self._lock = threading.RLock()
        self._db: Any = connection
        self._cursor: Any = connection.cursor(Cursor) if connection is not None else None
        self._borrowed = connection is not None
        self._used_at = 0.0
        self._away = False  # the last attempt to connect failed
        self._closed = False
        self.generation = 0  # grows with each connection: what was learnt on the last one may be untrue
        self.max_packet = 0  # bytes; 0 while not known

    @property
    def where(self) -> str:
        """How the place is named in messages."""
        return str(self._dsn) if self._dsn else "the caller's MySQL connection"

    @property
    def borrowed(self) -> bool:
        return self._borrowed

    @property
    def may_change_tables(self) -> bool:
        """Whether DDL, which commits by itself, would end nothing that is the caller's."""
        return not self._borrowed or (self._commits and not self._is_in_transaction())

    @property
    def in_callers_transaction(self) -> bool:
        """Whether the verb at hand, or the last one, belongs to a transaction that the caller ends."""
        return self._joined

    @property
    def is_private(self) -> bool:
        """Whether nobody else can read or forge what goes over it."""
        dsn = self._dsn
        return (
            dsn is None
            or dsn.host in (None, *LOOPBACK)
            or bool(dsn.option("unix_socket") or dsn.option("ssl_ca"))
        )

    # -- statements ---------------------------------------------------------

    def run(self, *statements: str, begin: bool = False, commit: bool = False) -> list[Result]:
        """
        Send *statements* in one packet, between BEGIN and COMMIT if so asked.

        Without either they are committed one by one, or belong to the
        transaction that is open.  In the caller's transaction both are left
        out.  Only inside of `transact`.

        Raises:
            Lost, Clash, Duplicate, QueueError: statements after the failing one were not run.
        """
        before: tuple[str, ...] = ()
        after: tuple[str, ...] = ()
        if not self._joined and not (begin and commit and len(statements) == 1 and not self._borrowed):
            if begin:
                # Outside of a transaction this concerns the next one only.
                isolation = ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED",) if self._borrowed else ()
                before = (*isolation, "BEGIN")
            if commit:
                after = ("COMMIT",)
        packet = (*before, *statements, *after)
        if not packet:
            return []
        self._open_transaction = (self._open_transaction or begin) and not commit
        try:
            results = self._each(packet) if self._borrowed else self._together(packet)
        except (pymysql.Error, OSError, AssertionError) as error:
            # PyMySQL asserts that it is in step with the server.
            raise translated(error, self.where, maybe=commit or not self._open_transaction) from error
        return results[len(before) : len(results) - len(after)]

    def ask(self, *statements: str) -> list[Result]:
        """`run` for statements that only read, outside of a transaction of ours."""
        # Without autocommit, as the caller's connection may be, they would leave one open.
        return self.run(*statements, begin=self._borrowed, commit=self._borrowed)

    def _together(self, packet: tuple[str, ...]) -> list[Result]:
        text = ";".join(packet)
        if len(text) >= self.max_packet:
            raise PayloadTooLarge(
                f"{self.where}: a statement has {len(text):,} bytes, the server takes {self.max_packet:,}. "
                "Raise its max_allowed_packet, or store the data elsewhere and put a reference to it."
            )
        cursor = self._cursor
        cursor.execute(text)
        results = [Result(cursor.fetchall(), cursor.rowcount, cursor.lastrowid)]
        while cursor.nextset():
            results.append(Result(cursor.fetchall(), cursor.rowcount, cursor.lastrowid))
        return results

    def _each(self, packet: tuple[str, ...]) -> list[Result]:
        results = []
        for statement in packet:
            self._cursor.execute(statement)
            results.append(Result(self._cursor.fetchall(), self._cursor.rowcount, self._cursor.lastrowid))
        return results

    # -- transactions -------------------------------------------------------

    _joined = False  # the transaction that is open is the caller's
    _open_transaction = False

    def transact(self, work: Callable[[], T], *, again: bool = False, joins: bool = True) -> T:
        """
        Do *work*, a transaction made of `run` calls, and do it again after a clash.

        After a lost connection it is done once more, on a new one, if nothing
        can have happened, or if doing it twice does no harm (*again*).

        Raises:
            Lost: it may have happened.
            BackendUnavailable, BackendBusy: it has not.
            ValueError: not *joins*, and the caller's transaction is open.
        """
        give_up = time.monotonic() + _BUSY_SECONDS
        pause = 0.002
        lost_before = False
        with self._lock:
            while True:
                self._ready(joins)
                try:
                    result = work()
                    self._used_at = time.monotonic()
                    return result
                except Clash as clash:
                    if self._joined:
                        raise BackendBusy(
                            f"{self.where}: {clash}. The server may have rolled your transaction back."
                        ) from clash
                    self._roll_back()
                    if time.monotonic() > give_up:
                        raise BackendBusy(f"{self.where}: {clash}") from clash
                    time.sleep(pause * random.random())  # noqa: S311 - spreads the rivals, guards nothing
                    pause = min(0.2, pause * 2)
                except Lost as lost:
                    self._drop()
                    unknown = lost.maybe and not lost.unsent and not self._joined
                    if unknown and not (again and not self._borrowed and not lost_before):
                        raise
                    if self._borrowed or lost_before:
                        raise BackendUnavailable(f"{self.where}: {lost}") from lost
                    lost_before = True
                except (QueueError, Duplicate):
                    self._roll_back()
                    raise
                except BaseException:
                    # Ctrl-C, a time-out by signal: the rest of an answer may still be under way.
                    self._drop()
                    raise
                finally:
                    self._open_transaction = False

    def read(self, *statements: str) -> list[Result]:
        """Run statements that change nothing; once more on a new connection if the first broke."""
        try:
            return self.transact(lambda: self.ask(*statements), again=True)
        except Lost as lost:
            raise BackendUnavailable(f"{self.where}: {lost}") from lost

    def roll_back(self) -> None:
        """End the open transaction without a trace, inside of `transact`."""
        if not self._joined:
            self.run("ROLLBACK")
            self._open_transaction = False

    def _roll_back(self) -> None:
        if self._joined or self._db is None:
            return
        try:
            self._cursor.execute("ROLLBACK")
        except (pymysql.Error, OSError):
            self._drop()

    def _ready(self, joins: bool) -> None:
        if self._borrowed:
            self._joined = self._is_in_transaction()
            if self._joined and not joins:
                raise ValueError(
                    "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                    "fleet.connect(dsn), or a connection with autocommit on that is not in a transaction."
                )
            return
        if self._db is not None and time.monotonic() - self._used_at > _IDLE_SECONDS:
            try:
                self._db.ping(reconnect=False)
            except (pymysql.Error, OSError):
                self._drop()
        if self._db is None:
            self._connect()

    def _is_in_transaction(self) -> bool:
        try:
            # The answer carries the server's own word on it; results of a SELECT do not, in PyMySQL.
            self._db.ping(reconnect=False)
        except (pymysql.Error, OSError) as error:
            raise BackendUnavailable(f"{self.where}: {error}") from error
        is_open = bool(self._db.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)
        return is_open or (not self._db.get_autocommit() and not self._commits)

    # -- the connection -----------------------------------------------------

    def _connect(self) -> None:
        """
        Open the connection, trying for `connect_timeout` seconds in all; once when it failed last time.

        Raises:
            DsnError: refused for a reason that waiting does not mend.
            BackendUnavailable: no answer in time.
        """
        if self._closed or self._dsn is None:
            raise BackendUnavailable(f"{self.where}: the queue is closed")
        try:
            seconds = float(self._dsn.option("connect_timeout") or _CONNECT_SECONDS)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 3600:
            raise DsnError("DSN: connect_timeout: expected seconds between 0 and 3600")
        give_up = time.monotonic() + seconds
        # A server that is known to be away is the caller's to wait for: an attempt costs 30 ms of TLS set-up.
        give_up_trying = 0.0 if self._away else give_up
        pause = 0.05
        while True:
            try:
                self._db = dial(self._dsn, max(0.1, give_up - time.monotonic()))
                self._db._read_timeout = READ_SECONDS
                self._cursor = self._db.cursor(Cursor)
                self._set_up()
                break
            except (pymysql.Error, OSError, RuntimeError) as error:
                self._drop()
                if reason := refusal(error):
                    raise DsnError(f"{self.where}: {reason}") from error
                if time.monotonic() + pause > give_up_trying:
                    self._away = True
                    raise BackendUnavailable(f"{self.where} does not answer: {words(error)}") from error
                time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads workers that come back at once
                pause = min(1.0, pause * 2)
        self._away = False
        self.generation += 1
        self._used_at = time.monotonic()

    def _set_up(self) -> None:
        settings = [
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            # Too long or out of range is an error, and so is an engine that is not there.
            "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
            f"SET SESSION innodb_lock_wait_timeout = {_LOCK_SECONDS}",
        ]
        if "MariaDB" in self._db.get_server_info():
            # A client that vanished in the middle must not keep its row locks until TCP notices.
            settings.append("SET SESSION idle_transaction_timeout = 60")
        self.max_packet = 1 << 20
        self.max_packet = int(self._together((*settings, "SELECT @@max_allowed_packet"))[-1].rows[0][0])

    def _drop(self) -> None:
        if not self._borrowed and self._db is not None:
            db, self._db, self._cursor = self._db, None, None
            with suppress(Exception):
                db._force_close()  # no farewell: the other end may be gone, and would be waited for

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if not self._borrowed and self._db is not None:
                with suppress(pymysql.Error, OSError):
                    self._db.close()
                self._db = None
