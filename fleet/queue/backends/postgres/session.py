"""Connections to PostgreSQL: how they are made, what is known about them, and what their errors mean."""

from __future__ import annotations

import random
import re
import select
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryDumper

from fleet.errors import BackendBusy, BackendUnavailable, DsnError, NotSupported, QueueError, SchemaError
from fleet.queue.dsn import Dsn

CONNECT_SECONDS = 5.0
LOCK_SECONDS = 5
_OLDEST_SERVER = 120000  # WITH … AS MATERIALIZED

# A peer that vanished without a word is noticed within 15 s, in the middle of a question and between two.
_KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# Every statement here is served by an index in its order.  Plans are made once, perhaps while the table
# is still empty, so the ways that only look good on an empty table are closed.
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
}
_HINTS = {
    "53100": "The server's disk is full and nothing was stored: free some space.",
    "53300": "Raise max_connections, or put a pooler such as PgBouncer in front of it.",
    "25006": "It is a standby in recovery, or was set to read only: name the primary server.",
    "57014": "A statement_timeout is shorter than this took.",
}
# Password, role, pg_hba.conf, database: waiting will not help.
_REFUSED = ("28000", "28P01", "3D000")
# A connection that did not come about has no code, only libpq's and the server's words; PgBouncer has its
# own.  In another language than English they are not known, and waited for.  LDAP, RADIUS and PAM are left
# out: they say the same of a wrong password and of a directory that is away.
_REFUSAL = re.compile(
    r"(password|SASL|Peer|Ident|certificate) authentication failed"
    r"|no password supplied"
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r'|(role|database) ".*" does not exist'
    r"|is not permitted to log in"
    r"|permission denied for database"
    r"|no such (database|user)"
    # Who answers is not who sslrootcert vouches for.
    r"|does not match host name|certificate verify failed|root certificate file|server does not support SSL"
)


class Cut(Exception):
    """The connection broke while a question was under way: what it asked for may or may not have happened."""


@dataclass(slots=True)
class Session:
    """One connection, and what was found out about it when it was opened."""

    db: psycopg.Connection[Any]
    pooled: bool = False  # a pooler stands between: the next transaction may meet another server process
    relaxed: bool = False  # the server would answer a commit before it is on the disk
    cursor: psycopg.Cursor[tuple[Any, ...]] = field(init=False)
    _socket: select.poll = field(init=False)

    def __post_init__(self) -> None:
        # Not db.cursor(): the caller's own connection may make cursors of another kind.
        self.cursor = psycopg.Cursor(self.db, row_factory=tuple_row)
        self.cursor.format = pq.Format.BINARY
        self.cursor.adapters.register_dumper(int, Int8BinaryDumper)  # one type, so one prepared statement
        self._socket = select.poll()
        self._socket.register(self.db.fileno(), select.POLLIN)

    def hung_up(self) -> bool:
        """Whether the server ended the connection while it was idle; seen before anything is sent."""
        try:
            while not self.db.closed and self._socket.poll(0):
                self.db.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return self.db.closed


class Door:
    """Opens connections to one database."""

    is_private: bool  # nobody else can read or forge what goes through it

    def __init__(self, dsn: Dsn) -> None:
        """Raises DsnError for an option that cannot be used."""
        self.where = str(dsn)
        timeout = dsn.option("connect_timeout") or f"{CONNECT_SECONDS:.0f}"
        if not timeout.isdecimal() or not 0 < int(timeout) <= 600:
            raise DsnError(f"DSN: connect_timeout={timeout[:20]!r}: expected whole seconds from 1 to 600")
        self.patience = float(timeout)
        authority = dsn.option("sslrootcert")
        # By itself libpq would not look at the certificate, and do without TLS where the server has none.
        mode = dsn.option("sslmode") or ("verify-full" if authority else None)
        self.is_private = _is_on_this_host(dsn.host) or mode in ("verify-ca", "verify-full")
        self._arguments: dict[str, Any] = {
            "host": dsn.host,
            "port": dsn.port,
            "user": dsn.user,
            "password": dsn.password,
            "dbname": dsn.database or None,
            "sslmode": mode,
            "sslrootcert": authority,
            "application_name": dsn.option("application_name") or "fleet",
            "connect_timeout": int(timeout),
            "client_encoding": "utf8",
            "target_session_attrs": "read-write",
            **_KEEPALIVE,
        }

    def connect(self, *, listens: bool = False) -> psycopg.Connection[Any]:
        """One attempt, in autocommit mode; raises psycopg.Error."""
        arguments = self._arguments
        if listens:
            arguments = {**arguments, "application_name": f"{arguments['application_name']} listen"}
        return psycopg.connect(**arguments, autocommit=True)

    def open(self, patience: float = 0.0) -> Session:
        """
        A session, tried again with growing pauses for *patience* seconds.

        Raises:
            BackendUnavailable: no connection could be had.
            DsnError: refused for a reason that waiting does not mend.
            NotSupported: the server is older than PostgreSQL 12.
        """
        give_up = time.monotonic() + patience
        pause = 0.05
        while True:
            try:
                return self._open()
            except psycopg.Error as error:
                if refusal := _refusal(error):
                    raise DsnError(f"{self.where}: {refusal}") from error
                left = give_up - time.monotonic()
                if left <= 0:
                    words = _first_line(error)
                    # Said by libpq itself, which asks each server whether it can be written to.
                    code = "25006" if words.endswith("session is read-only") else error.sqlstate or ""
                    text = f"{self.where}: no connection: {words}. {_HINTS.get(code, '')}"
                    raise BackendUnavailable(text.rstrip()) from error
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - spreads a crowd, hides nothing
            pause = min(1.0, pause * 2)

    def _open(self) -> Session:
        db = self.connect()
        try:
            version = db.info.server_version
            if version < _OLDEST_SERVER:
                raise NotSupported(
                    f"{self.where}: PostgreSQL 12 or newer is needed, this is {version // 10000}"
                )
            asked = db.execute("SELECT pg_backend_pid(), current_setting('synchronous_commit') = 'off'")
            process, relaxed = asked.fetchall()[0]
            # A pooler greets with a process number of its own making.
            session = Session(db, pooled=process != db.info.backend_pid, relaxed=relaxed)
            if session.pooled:
                # PgBouncer before 1.21 does not know which server process has which prepared statement.
                db.prepare_threshold = None
            else:
                calls = ", ".join(
                    f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()
                )
                db.execute(f"SELECT {calls}".encode())
        except BaseException:
            db.close()
            raise
        return session


def translate(error: psycopg.Error, where: str) -> QueueError:
    """A driver's error in our words."""
    code = error.sqlstate or ""
    text = f"{where}: {_first_line(error)}"
    if _refusal(error):  # by the server behind a pooler, which had let us in
        return DsnError(text)
    if code in ("55P03", "57014", "40001", "40P01"):
        return BackendBusy(f"{text}. {_HINTS.get(code, 'Somebody else holds a lock on it: try again.')}")
    if code in ("42P01", "42703"):
        return SchemaError(f"{text}. Create fleet's tables, or see what is missing: fleet queue migrate")
    if code == "42501":
        return SchemaError(text)
    if code == "42P07":
        return SchemaError(f"{text}, and is not fleet's: choose another ?prefix=")
    hint = _HINTS.get(code, "")
    # Class 08 connection, 53 resources, 57 operator intervention, 58 system: the statement did not happen.
    if code[:2] in ("08", "53", "57", "58") or code == "25006" or (not code and _is_link(error)):
        return BackendUnavailable(f"{text}. {hint}".rstrip())
    return QueueError(f"{text}. {hint}".rstrip())


def _is_on_this_host(host: str | None) -> bool:
    return host is None or host.startswith("/") or host in ("127.0.0.1", "::1", "localhost")


def _is_link(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _refusal(error: psycopg.Error) -> str:
    """The line that says why no waiting will help; "" where it may."""
    if error.sqlstate in _REFUSED:
        return _first_line(error)
    if error.sqlstate not in (None, "08P01"):  # 08P01: PgBouncer's code for whatever it has to say
        return ""
    # libpq tries with TLS and without, psycopg each address of a name: a server that is starting up or
    # full may yet let us in, while one that does not listen only leaves the word to another.
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    refused = [line for line in lines if _REFUSAL.search(line)]
    others = [line for line in lines if "FATAL:" in line and line not in refused]
    return refused[0] if refused and not others else ""


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
