"""Putting questions to the server: over a live connection, whole or not at all, errors in our words."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from fleet.errors import BackendBusy, BackendUnavailable, NotSupported, QueueError, SchemaError
from fleet.queue.backends.postgres.facts import privileges
from fleet.queue.backends.postgres.session import Cut, Door, Session, translate
from fleet.queue.backends.postgres.statements import Statements

RETRIES = 6
_TRY_AGAIN = ("40P01", "40001")  # deadlock, serialization failure: nothing of the transaction has happened

T = TypeVar("T")


class Runner:
    """Runs work on connections of its own, opened through *door*, or on the caller's *connection*."""

    def __init__(
        self, door: Door | None, connection: psycopg.Connection[Any] | None, commits: bool, prefix: str
    ) -> None:
        self.borrowed = connection is not None
        self.where = door.where if door else "the caller's PostgreSQL connection"
        self.is_private = door is None or door.is_private
        self._door = door
        self._commits = commits
        self._prefix = prefix
        self._closed = False
        self._session: Session | None = None
        if connection is not None:
            # The caller may change any setting at any time, so the worst is assumed.
            self._session = Session(connection, pooled=True, relaxed=True)
        elif door is not None:
            self._session = door.open()

    @property
    def pooled(self) -> bool:
        """Whether the connection may lead to another server process the next time."""
        return self._session is not None and self._session.pooled

    def ask(
        self, session: Session, statement: bytes, values: dict[str, Any] | None = None
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """One statement on the session's only cursor.  Raises psycopg.Error."""
        # On the caller's connection his own prepare_threshold decides.
        return session.cursor.execute(statement, values, prepare=None if self.borrowed else True)

    def joins(self) -> bool:
        """Whether the next statement lands in a transaction that is the caller's to commit."""
        if not self.borrowed or self._session is None:
            return False
        db = self._session.db
        return not _is_idle(db) or not (db.autocommit or self._commits)

    def run(self, work: Callable[[Session], T], *, reads: bool = False) -> T:
        """
        Run *work*: one statement or one transaction, and the whole of it again after a deadlock.

        Raises:
            Cut: the connection broke on the way, and *work* may have happened.
            BackendUnavailable: no connection could be had; *work* was not begun.
            QueueError: the server refused; nothing has happened.
        """
        session = self._alive()
        if self.borrowed:
            return self._run_on_loan(session, work, reads)
        for attempt in range(1, RETRIES + 1):
            try:
                return work(session)
            except psycopg.Error as error:
                if session.db.closed:
                    raise _cut(self.where, error) from error
                if error.sqlstate not in _TRY_AGAIN:
                    raise self._translate(error) from error
            except QueueError:
                raise
            except BaseException:
                # Ctrl-C, a time limit by signal: the rest of an answer may still be under way.
                session.db.close()
                raise
            time.sleep(random.uniform(0.0, 0.01) * attempt)  # noqa: S311 - so that the two do not meet again
        raise BackendBusy(f"{self.where}: could not get past other transactions")

    def twice(self, work: Callable[[Session], T], *, reads: bool = False) -> T:
        """The same for *work* that may be repeated without harm."""
        try:
            return self.run(work, reads=reads)
        except Cut:
            pass
        try:
            return self.run(work, reads=reads)
        except Cut as cut:
            raise BackendUnavailable(str(cut)) from cut

    def read(self, statement: bytes, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement that changes nothing."""
        return self.twice(lambda session: self.ask(session, statement, values).fetchall(), reads=True)

    @contextmanager
    def atomic(self, session: Session, sql: Statements, *, looks: bool) -> Iterator[None]:
        """
        All that is stored inside, durably or not at all; in the caller's transaction a savepoint.

        With *looks* each statement sees what was committed before it.  An inner
        psycopg.Rollback takes everything back and ends the block.

        Raises:
            NotSupported: *looks* in a caller's transaction whose statements all see the same.
        """
        if self.joins():
            # This also begins his transaction where he has not: ours would commit what is his to commit.
            level = self.ask(session, sql.isolation).fetchall()[0][0]
            if looks and level not in ("read committed", "read uncommitted"):
                raise NotSupported(
                    f"{self.where}: a uid made by fleet can be put again only in a READ COMMITTED "
                    f"transaction, this one is {level.upper()}"
                )
            looks = False
        with session.db.transaction():
            if looks:
                session.db.execute(sql.alert)
            if session.relaxed:
                session.cursor.execute(sql.durable)
            yield

    def close(self) -> None:
        self._closed = True
        if not self.borrowed and self._session is not None:
            self._session.db.close()

    def _alive(self) -> Session:
        session = self._session
        if self.borrowed and session is not None:
            return session
        if self._closed or self._door is None:
            raise BackendUnavailable(f"{self.where}: this queue was closed")
        if session is not None and session.hung_up():
            session.db.close()
            session = self._session = None
        if session is None:
            session = self._session = self._door.open(self._door.patience)
        return session

    def _run_on_loan(self, session: Session, work: Callable[[Session], T], reads: bool) -> T:
        db = session.db
        joins = self.joins()
        # Where the driver opens a transaction by itself, it is ended here unless it is the caller's business.
        # A look at his idle connection is ended too: it must not stay in a transaction because of that.
        ends = not db.autocommit and _is_idle(db) and (reads or not joins)
        try:
            result = work(session)
            if ends:
                db.commit()
        except BaseException as error:
            if ends and not db.closed:
                db.rollback()
            if not isinstance(error, psycopg.Error):
                raise
            if not db.closed:
                raise self._translate(error) from error
            if joins:
                raise BackendUnavailable(f"{self.where}: {error}") from error
            raise _cut(self.where, error) from error
        return result

    def _translate(self, error: psycopg.Error) -> QueueError:
        translated = translate(error, self.where)
        if error.sqlstate == "42501" and self._session is not None:
            user = self._session.db.info.user
            return SchemaError(f"{translated}. {privileges(self._prefix, user)}")
        return translated


def _is_idle(db: psycopg.Connection[Any]) -> bool:
    return db.info.transaction_status == TransactionStatus.IDLE


def _cut(where: str, error: psycopg.Error) -> Cut:
    return Cut(f"{where}: the connection broke ({str(error).strip()})")
