"""The server and the tables: which version, which engine, how durable, and creating them."""

from __future__ import annotations

import hashlib
import re
import time

from fleet.errors import BackendBusy, QueueError, SchemaError
from fleet.queue.backend import clock_ahead
from fleet.queue.backends.mysql.connection import Link
from fleet.queue.backends.mysql.literal import bind
from fleet.queue.backends.mysql.mishaps import Lost
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.job import BackendInfo
from fleet.queue.schema import migrate

# The first ones with SKIP LOCKED, and with the default of a text column that the tables have.
_OLDEST = {"mysql": (8, 0, 13), "mariadb": (10, 6, 0)}
_MIGRATE_SECONDS = 10
_VARIABLES = (
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "log_bin",
    "innodb_doublewrite",
    "wsrep_on",
    "wsrep_provider",
    "max_allowed_packet",
)


def product(version: str) -> str:
    """ "mysql" or "mariadb"."""
    return "mariadb" if "mariadb" in version.lower() else "mysql"


def check_version(link: Link) -> None:
    """Raises QueueError when the server cannot do what is needed."""
    version = _version(link)
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    oldest = _OLDEST[product(version)]
    if found < oldest:
        needed = ".".join(str(number) for number in oldest)
        raise QueueError(f"{link.where} is {version}, and {product(version)} {needed} or newer is needed")


def _version(link: Link) -> str:
    version = link.read("SELECT VERSION()")[0].rows[0][0]
    return version if isinstance(version, str) else version.decode()


def identity(link: Link) -> str:
    """A text that is the same for all connections to one database of one server."""
    row = link.read("SELECT @@hostname, @@port, @@datadir, DATABASE()")[0].rows[0]
    return " ".join(str(part) for part in row)


def schema_version(link: Link, sql: Statements) -> int | None:
    """The version of the tables; None when there are none."""
    try:
        rows = link.read(bind(sql.get_meta, "schema"))[0].rows
    except SchemaError as error:
        if "(1146)" in str(error):
            return None
        raise
    return int(rows[0][0]) if rows else None


def check_tables(link: Link, sql: Statements) -> None:
    """Raises SchemaError when a table of ours is of an engine that has no transactions."""
    for name, engine in link.read(sql.engines)[0].rows:
        if engine != "InnoDB":
            raise SchemaError(
                f"{link.where}: table {name} is of engine {engine}, which loses jobs. "
                f"Change it with: ALTER TABLE {name} ENGINE = InnoDB"
            )


def migrate_tables(link: Link, sql: Statements, prefix: str) -> tuple[int, int]:
    """
    Create or change the tables, one process at a time; (found, now).

    Raises:
        SchemaError: too new, a right is missing, or a table of that name is somebody else's.
    """
    # Names of locks are short, and belong to the whole server.
    lock = "fleet " + hashlib.sha256(f"{identity(link)} {prefix}".encode()).hexdigest()[:32]

    def upgrade() -> tuple[int, int]:
        _take(link, lock)
        try:
            found = schema_version(link, sql) or 0
            if found > migrate.WANTED:
                migrate.check(found, link.where)
            for version in range(found + 1, migrate.WANTED + 1):
                for statement in migrate.statements("mysql", version, prefix):
                    link.run(statement)
                _check_columns(link, sql)
                link.run(bind(sql.set_meta, "schema", str(version), str(version)), begin=True, commit=True)
            migrate.check_complete(_missing_tables(link, prefix), link.where)
            return found, migrate.WANTED
        finally:
            link.run(bind("DO RELEASE_LOCK(%s)", lock), commit=True)

    try:
        return link.transact(upgrade, again=True)
    except Lost as lost:
        raise QueueError(f"{link.where}: {lost} while the tables were changed; run it again") from lost
    except SchemaError as error:
        if "denied" in str(error):
            raise SchemaError(f"{error}. Grant it with: {_grant(link)}") from error
        raise


def _take(link: Link, lock: str) -> None:
    try:
        taken = link.run(bind("SELECT GET_LOCK(%s, %s)", lock, _MIGRATE_SECONDS))[0].rows[0][0]
    except QueueError as error:
        if "(1235)" not in str(error):
            raise
        return  # Galera has none: each statement of the schema may be run by several at once
    if taken != 1:
        raise BackendBusy(f"{link.where}: another process has been changing the tables for too long")


def _missing_tables(link: Link, prefix: str) -> list[str]:
    """Asked one by one: lists of tables leave out those that this user has no right to."""
    missing = []
    for table in migrate.TABLES:
        try:
            link.read(f"SELECT 1 FROM `{prefix}_{table}` LIMIT 0")
        except SchemaError as error:
            if "(1146)" in str(error):
                missing.append(f"{prefix}_{table}")
    return missing


def _check_columns(link: Link, sql: Statements) -> None:
    try:
        link.run(*sql.fits, commit=True)
    except QueueError as error:
        raise SchemaError(
            f"{error}. A table of this name is there already and is not fleet's: choose another ?prefix="
        ) from error


def _grant(link: Link) -> str:
    user, database = link.read("SELECT CURRENT_USER(), DATABASE()")[0].rows[0]
    name, _, host = str(user).rpartition("@")
    return (
        f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON `{database}`.* TO '{name}'@'{host}'"
    )


_FLUSH = "SET GLOBAL innodb_flush_log_at_trx_commit = 1;   -- and under [mysqld], for the next start"


def describe(link: Link, sql: Statements, prefix: str) -> BackendInfo:
    """What an operator should know, the level of durability first."""
    version = _version(link)
    asked_at = time.time()
    server = link.read("SELECT UNIX_TIMESTAMP(NOW(6))")[0].rows[0][0]
    answered_at = time.time()
    names = ",".join(f"'{name}'" for name in _VARIABLES)
    rows = link.read(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")[0].rows
    values = {str(name).lower(): str(value) for name, value in rows}
    flush = values.get("innodb_flush_log_at_trx_commit", "1")
    durability = {"1": "power", "3": "power", "2": "server"}.get(flush, "process")
    notes = []
    if durability == "server":
        notes.append(
            "innodb_flush_log_at_trx_commit=2: a power cut can take about the last second of puts.\n" + _FLUSH
        )
    if durability == "process":
        notes.append(
            "innodb_flush_log_at_trx_commit=0: a crash of the server can take the last second of puts.\n"
            + _FLUSH
        )
    if values.get("innodb_doublewrite", "ON").upper() in ("OFF", "0"):
        notes.append(
            "innodb_doublewrite is off: a power cut can tear a page, and the table with it.\n"
            "innodb_doublewrite = ON   # under [mysqld], and a restart"
        )
    if values.get("log_bin", "OFF").upper() == "ON" and values.get("sync_binlog") != "1":
        notes.append(
            "sync_binlog is not 1: after a power cut a replica may lack, or have, other jobs.\n"
            "SET GLOBAL sync_binlog = 1;   -- and under [mysqld]"
        )
    if values.get("wsrep_on", "OFF").upper() == "ON" and values.get("wsrep_provider", "none") != "none":
        notes.append(
            "Galera: let all workers and producers use one node. With several writers a lease is not "
            "exclusive, and committed jobs have been lost in crashes of this cluster."
        )
    if not link.is_private:
        notes.append("The connection is not verified: add ?ssl_ca=FILE, so that nobody can listen or pose.")
    found = schema_version(link, sql)
    if found is not None:
        migrate.check_complete(_missing_tables(link, prefix), link.where)
        keys = link.read(f"SHOW INDEX FROM `{prefix}_jobs`")[0].rows
        notes += migrate.missing_indexes("mysql", prefix, (str(row[2]) for row in keys))
    return BackendInfo(
        backend=product(version),
        version=version,
        location=link.where,
        durability=durability,
        schema_found=found,
        schema_wanted=migrate.WANTED,
        notes=tuple(notes),
        clock_ahead=clock_ahead(float(str(server)), asked_at, answered_at),
    )
