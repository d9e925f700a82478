"""One connection to a SQLite file: transactions that begin patiently, and errors in our words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

from fleet.errors import BackendBusy, BackendUnavailable, PutUnknown, QueueError, SchemaError
from fleet.queue.backends.sqlite.files import is_on_read_only_disk, limit_on_files, location, not_writable

_BUSY_SECONDS = 5.0
_IN_PASSING_SECONDS = 0.05
# SQLite's own wait sleeps longer each time, up to 0.1 s: beside busy writers, who leave the lock free for
# microseconds, it can miss every gap of five seconds.  Short waits, begun again and again, do not.
_BUSY_SLICE = 0.02
_HINTS = {
    sqlite3.SQLITE_FULL: "The disk is full and nothing was stored: free some space.",
    sqlite3.SQLITE_READONLY: "The file or its folder is read-only for this user.",
    sqlite3.SQLITE_CANTOPEN: "Its folder must exist and be writable for this user.",
    sqlite3.SQLITE_CORRUPT: "Stop all workers, then: sqlite3 FILE 'PRAGMA integrity_check'.",
    sqlite3.SQLITE_NOTADB: "It is not a SQLite file: name another one.",
}

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Link:
    """A connection of its own to the file at *path*, or the caller's *connection*."""

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection | None,
        *,
        commits: bool,
        synchronous: str,
        create: bool,
    ) -> None:
        """
        Without *create* the file stays as it is, somebody else's perhaps.

        *commits* says that outside of an open transaction each verb is one of
        its own, whatever the mode of the caller's connection.

        Raises:
            QueueError: the file cannot be opened.
        """
        self.path = path
        self.borrowed = connection is not None
        self.commits = commits
        self._synchronous = synchronous
        self._patience = _BUSY_SECONDS
        self._create = create
        self.db = connection or self._open(reader=False)

    def reader(self) -> sqlite3.Connection:
        """Another connection to the same file, which only reads."""
        return self._open(reader=True)

    def close(self) -> None:
        """The caller's connection stays open."""
        if not self.borrowed:
            self.db.close()

    def joins(self) -> bool:
        """Whether the next statement lands in a transaction that is the caller's to commit."""
        if not self.borrowed:
            return False
        opens_by_itself = self.db.isolation_level is not None and getattr(self.db, "autocommit", -1) == -1
        return self.db.in_transaction or (opens_by_itself and not self.commits)

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        puts: bool = False,
        hands_out: bool = False,
        alone: bool = False,
    ) -> T:
        """
        Run *work* in one transaction that is committed when this returns, or in the caller's.

        *alone* says that it is one statement, which is a transaction by itself.
        """
        db = self.db
        try:
            if self.borrowed and self.joins():
                if hands_out:
                    raise ValueError(
                        "reserve inside the caller's transaction would hand out a job before COMMIT. Use "
                        "fleet.connect(dsn), or a connection with isolation_level=None that is not in one."
                    )
                return work(db)
            if alone and db.isolation_level is None:
                return self._patiently(work, db)
            idle = not db.in_transaction  # or a signal handler interrupted a transaction that is not its own
            try:
                self._patiently(db.execute, "BEGIN IMMEDIATE")
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                if idle:
                    _roll_back(db)
                raise
            return result
        except sqlite3.Error as error:
            if puts and _primary_code(error) == sqlite3.SQLITE_IOERR:
                # The commit record may have reached the disk or not; only reading the file again could tell.
                raise PutUnknown(f"{location(self.path)}: {error} during a put; it may be stored") from error
            raise self._translate(error) from error

    def read(self, statement: str, values: Sequence[Any] | dict[str, Any]) -> list[Any]:
        try:
            return self._patiently(lambda: self.db.execute(statement, values).fetchall())
        except sqlite3.Error as error:
            raise self._translate(error) from error

    @contextmanager
    def in_passing(self) -> Iterator[None]:
        """
        For a write that nobody would miss: it waits neither for other writers nor for the disk.

        Claims wait behind it, for this connection is theirs.
        """
        db = self.db
        if self.borrowed:  # its settings are the caller's
            yield
            return
        self._patience = _IN_PASSING_SECONDS
        db.execute("PRAGMA synchronous = normal")
        try:
            yield
        finally:
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._patience = _BUSY_SECONDS

    def _translate(self, error: sqlite3.Error) -> QueueError:
        where = location(self.path)
        if _is_busy(error):
            return BackendBusy(f"{where}: another connection held the write lock for {_BUSY_SECONDS:.0f} s")
        code = _primary_code(error)
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) and is_on_read_only_disk(self.path):
            return BackendUnavailable(f"{where}: {error}. Its file system is mounted read-only.")
        if "no such table" in str(error):
            return SchemaError(
                f"{where}: {error}. Create fleet's tables, or see what is missing: fleet queue migrate"
            )
        hint = not_writable(self.path) if code == sqlite3.SQLITE_READONLY else ""
        if code == sqlite3.SQLITE_CANTOPEN and (limit := limit_on_files()):
            hint = f"The reason: {limit}."
        text = f"{where}: {error}. {hint or _HINTS.get(code, '')}".rstrip()
        return (
            BackendUnavailable(text)
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            else QueueError(text)
        )

    def _open(self, reader: bool) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(
                self.path,
                timeout=_BUSY_SECONDS if reader else _BUSY_SLICE,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._translate(error) from error
        try:
            # Another process may be making the tables, or switching the file to WAL, for the first time.
            self._patiently(self._configure, db, reader)
        except sqlite3.Error as error:
            db.close()
            raise self._translate(error) from error
        return db

    def _configure(self, db: sqlite3.Connection, reader: bool) -> None:
        # In a file, every multi-row UPDATE would open its statement journal as a temporary file.
        db.execute("PRAGMA temp_store = memory")
        db.execute("PRAGMA cache_size = -8192")
        if reader:
            db.execute("PRAGMA query_only = on")
        else:
            if self._create:
                db.execute("PRAGMA journal_mode = wal")
            db.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _patiently(self, attempt: Callable[[*Ts], T], *values: *Ts) -> T:
        """Try again for a while what could not begin because another connection holds the lock."""
        give_up = 0.0  # counted from the first refusal: most attempts meet none
        while True:
            try:
                return attempt(*values)
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                give_up = give_up or now + self._patience
                if self.borrowed or not _is_busy(error) or now >= give_up:
                    raise
                time.sleep(0.001)  # some locks are refused at once, without the busy time-out


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
