"""One file a server; `open_backend` picks it by the DSN or by the caller's connection."""

from __future__ import annotations

from typing import Any

from fleet.errors import DsnError
from fleet.queue.backend import Backend
from fleet.queue.dsn import Dsn, parse
from fleet.queue.names import check_prefix

_OPTIONS = {
    "sqlite": ("synchronous", "force", "prefix"),
    "postgresql": ("prefix", "sslmode", "sslrootcert", "connect_timeout", "wakeup", "application_name"),
    "mysql": ("prefix", "ssl_ca", "connect_timeout", "unix_socket"),
    "beanstalkd": ("connect_timeout", "unix_socket"),
}
_CHOICES = {
    "synchronous": ("full", "normal", "extra"),
    "wakeup": ("push", "poll"),
    "force": ("0", "1"),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
}


def open_backend(
    dsn: str | None = None,
    *,
    connection: Any = None,
    commits: bool = False,
    prefix: str | None = None,
    create: bool = True,
) -> Backend:
    """
    Open the back end that *dsn* names, or one over the caller's *connection*.

    *connection* is a sqlite3, psycopg or PyMySQL connection or a greenstalk
    client; *commits* makes each verb outside of an open transaction commit.
    Without *create* tables that are missing stay so.

    Raises:
        DsnError: unknown scheme, option or kind of connection.
        QueueError: the server or the file cannot be used.
    """
    if connection is not None:
        return _over(connection, commits, check_prefix(prefix or "fleet"))
    if dsn is None:
        raise DsnError("no queue given. Pass a DSN such as sqlite:///jobs.db, or set FLEET_DSN.")
    parsed = check_dsn(dsn)
    table = check_prefix(prefix or parsed.option("prefix") or "fleet")
    return _OPENERS[parsed.scheme](parsed, table, create)


def check_dsn(dsn: str) -> Dsn:
    """
    *dsn* taken apart; nothing is opened, and nobody is asked.

    Raises:
        DsnError: whatever can be known to be wrong with it without its server.
    """
    parsed = parse(dsn)
    for name, value in parsed.options:
        if name not in _OPTIONS[parsed.scheme]:
            known = ", ".join(_OPTIONS[parsed.scheme])
            raise DsnError(f"DSN: {parsed.scheme} has no option {name[:40]!r}; it has {known}")
        choices = _CHOICES.get(name)
        if choices and value not in choices:
            raise DsnError(f"DSN: {name}={value[:20]!r}: expected one of {', '.join(choices)}")
    _seconds(parsed, "connect_timeout", 5.0)
    try:
        check_prefix(parsed.option("prefix", "fleet") or "")
    except ValueError as error:
        raise DsnError(f"DSN: {error}") from None
    return parsed


def _sqlite(dsn: Dsn, prefix: str, create: bool) -> Backend:
    from fleet.queue.backends.sqlite import SqliteBackend

    return SqliteBackend(
        dsn.database,
        prefix=prefix,
        synchronous=dsn.option("synchronous") or "full",
        force=dsn.option("force") == "1",
        create=create,
    )


def _postgresql(dsn: Dsn, prefix: str, create: bool) -> Backend:
    from fleet.queue.backends.postgres import Door, PostgresBackend

    return PostgresBackend(Door(dsn), prefix=prefix, push=dsn.option("wakeup") != "poll", create=create)


def _mysql(dsn: Dsn, prefix: str, create: bool) -> Backend:
    from fleet.queue.backends.mysql import MysqlBackend

    return MysqlBackend(dsn, prefix=prefix, create=create)


def _beanstalkd(dsn: Dsn, _prefix: str, _create: bool) -> Backend:
    from fleet.queue.backends.beanstalkd import BeanstalkdBackend

    address = (dsn.host or "127.0.0.1", dsn.port or 11300)
    return BeanstalkdBackend(
        dsn.option("unix_socket") or address, connect_timeout=_seconds(dsn, "connect_timeout", 5.0)
    )


def _seconds(dsn: Dsn, name: str, default: float) -> float:
    text = dsn.option(name)
    try:
        seconds = default if text is None else float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 3600:
        raise DsnError(f"DSN: {name}={str(text)[:20]!r}: expected seconds between 0 and 3600")
    return seconds


_OPENERS = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql, "beanstalkd": _beanstalkd}


def _over(connection: Any, commits: bool, prefix: str) -> Backend:
    library = type(connection).__module__.partition(".")[0]
    if library == "sqlite3":
        from fleet.queue.backends.sqlite import SqliteBackend

        return SqliteBackend(connection=connection, commits=commits, prefix=prefix)
    if library == "psycopg":
        if "Async" in type(connection).__name__:
            raise DsnError("a psycopg connection for asyncio cannot be used here: pass a psycopg.Connection")
        from fleet.queue.backends.postgres import PostgresBackend

        return PostgresBackend(connection=connection, commits=commits, prefix=prefix)
    if library == "pymysql":
        from fleet.queue.backends.mysql import MysqlBackend

        return MysqlBackend(connection=connection, commits=commits, prefix=prefix)
    if library == "greenstalk":
        from fleet.queue.backends.beanstalkd import BeanstalkdBackend

        return BeanstalkdBackend(connection=connection)
    raise DsnError(
        f"a connection of {library} is not known here: pass a sqlite3, psycopg or PyMySQL connection, "
        "or a greenstalk client"
    )
