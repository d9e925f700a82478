"""
Private servers at default durability, and a fresh store in them for every single run.

An arena is one server.  `fresh` gives the DSN of an empty store and throws it
away afterwards, so no run sees what another left behind.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pymysql

from benchmarks.peers import environment
from benchmarks.peers.environment import Peer
from tests import servers


class Arena(Protocol):
    name: str
    limit: str  # "module:class" of the raw limit
    producer: str  # the same, where putting with a wake-up is another class
    peers: tuple[Peer, ...]
    about: str  # version and durability, for the report's header
    job_by_job: bool  # the server syncs each job, so that nobody can batch

    def fresh(self) -> contextlib.AbstractContextManager[str]:
        """The DSN of an empty store; the store goes with the block."""
        ...

    def calm(self, dsn: str) -> None:
        """Finish what filling the store left to do: statistics, checkpoints."""
        ...

    def questions(self) -> float | None:
        """How many statements or transactions the server has served; None if it does not count."""
        ...

    def old_transaction(self, dsn: str) -> contextlib.AbstractContextManager[None] | None:
        """A transaction that was opened before and stays open; None where there is no such thing."""
        ...


class Sqlite:
    name = "sqlite"
    limit = producer = "benchmarks.limits_sqlite:Limit"
    peers = environment.SQLITE
    job_by_job = False
    about = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL: each commit is synced"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        try:
            yield f"sqlite:///{folder}/jobs.db"
        finally:
            shutil.rmtree(folder)

    def calm(self, dsn: str) -> None:
        path = Path(dsn.removeprefix("sqlite:///"))
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA wal_checkpoint(truncate)")

    def questions(self) -> float | None:
        return None

    def old_transaction(self, dsn: str) -> None:
        return None


class Postgresql:
    name = "postgresql"
    limit = producer = "benchmarks.limits_postgresql:Limit"
    peers = environment.POSTGRESQL
    job_by_job = False

    def __init__(self, server: servers.Server) -> None:
        self._db = psycopg.connect(server.dsn, autocommit=True)
        self._base = server.dsn.rpartition("/")[0]
        self._count = 0
        version = self._db.info.parameter_status("server_version")
        settings = ", ".join(
            f"{name}={self._show(name)}" for name in ("fsync", "synchronous_commit", "full_page_writes")
        )
        self.about = f"PostgreSQL {version}, {settings}: each commit is synced"

    def _show(self, name: str) -> str:
        row = self._db.execute(f"SHOW {name}").fetchone()
        assert row
        return str(row[0])

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        self._count += 1
        name = f"bench{self._count}"
        self._db.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{self._base}/{name}"
        finally:
            self._db.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def calm(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute("VACUUM ANALYZE")
            db.execute("CHECKPOINT")

    def questions(self) -> float | None:
        row = self._db.execute(
            "SELECT coalesce(sum(xact_commit + xact_rollback), 0) FROM pg_stat_database "
            "WHERE datname LIKE 'bench%'"
        ).fetchone()
        return float(row[0]) if row else None

    @contextlib.contextmanager
    def old_transaction(self, dsn: str) -> Iterator[None]:
        with psycopg.connect(dsn) as db:
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            db.execute("SELECT count(*) FROM pg_class")  # takes the snapshot, and an id
            db.execute("SELECT txid_current()")
            yield
            db.rollback()


class Mariadb:
    name = "mariadb"
    limit = "benchmarks.limits_mariadb:Limit"
    producer = "benchmarks.limits_mariadb:Producer"
    peers: tuple[Peer, ...] = ()
    job_by_job = False

    def __init__(self, server: servers.Server) -> None:
        self._port = server.port
        self._db = self._connect()
        self._base = server.dsn.rpartition("/")[0]
        self._count = 0
        flush = self._ask("SELECT @@innodb_flush_log_at_trx_commit")
        version = self._ask("SELECT version()")
        self.about = f"MariaDB {version}, innodb_flush_log_at_trx_commit={flush}: each commit is synced"

    def _connect(self, database: str | None = None) -> pymysql.Connection:
        return pymysql.connect(
            host="127.0.0.1", port=self._port, user="fleet", database=database, autocommit=True
        )

    def _ask(self, query: str) -> object:
        with self._db.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        return row[-1] if row else None

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        self._count += 1
        name = f"bench{self._count}"
        self._ask(f"CREATE DATABASE {name}")
        try:
            yield f"{self._base}/{name}"
        finally:
            self._ask(f"DROP DATABASE {name}")

    def calm(self, dsn: str) -> None:
        database = dsn.rpartition("/")[2]
        with self._db.cursor() as cursor:
            cursor.execute(f"SHOW TABLES IN {database}")
            tables = [f"{database}.{name}" for (name,) in cursor.fetchall()]
            if tables:
                cursor.execute(f"ANALYZE TABLE {','.join(tables)}")

    def questions(self) -> float | None:
        return float(str(self._ask("SHOW GLOBAL STATUS LIKE 'Questions'"))) - 1  # this one counts itself

    @contextlib.contextmanager
    def old_transaction(self, dsn: str) -> Iterator[None]:
        db = self._connect(dsn.rpartition("/")[2])
        try:
            with db.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
                yield
        finally:
            db.close()


class Beanstalkd:
    """A new server for each run: it has no other way to be empty."""

    limit = producer = "benchmarks.limits_beanstalkd:Limit"
    peers = environment.BEANSTALKD

    def __init__(
        self, name: str, start: Callable[[], contextlib.AbstractContextManager[servers.Server]]
    ) -> None:
        self.name = name
        self.job_by_job = name == "beanstalkd"
        self._start = start
        self.about = {
            "beanstalkd": "beanstalkd -b DIR -f 0: each command is synced",
            "beanstalkd-default": "beanstalkd -b DIR: synced each 50 ms, a power cut can take accepted jobs",
        }[name]

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        with self._start() as server:
            yield server.dsn

    def calm(self, dsn: str) -> None:
        pass

    def questions(self) -> float | None:
        return None

    def old_transaction(self, dsn: str) -> None:
        return None


# The servers of the tests are small; these give the settings that bear on speed their own defaults back.
_PG_DEFAULTS = ("shared_buffers=128MB",)
_MY_DEFAULTS = ("--innodb-buffer-pool-size=128M",)


@contextlib.contextmanager
def sqlite() -> Iterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        yield Sqlite(Path(folder))


@contextlib.contextmanager
def postgresql() -> Iterator[Arena]:
    with servers.postgres(*_PG_DEFAULTS, durable=True) as server:
        yield Postgresql(server)


@contextlib.contextmanager
def mariadb() -> Iterator[Arena]:
    with servers.mariadb(*_MY_DEFAULTS, durable=True) as server:
        yield Mariadb(server)


@contextlib.contextmanager
def beanstalkd() -> Iterator[Arena]:
    yield Beanstalkd("beanstalkd", lambda: servers.beanstalkd(durable=True))


@contextlib.contextmanager
def beanstalkd_default() -> Iterator[Arena]:
    @contextlib.contextmanager
    def start() -> Iterator[servers.Server]:
        with (
            tempfile.TemporaryDirectory(prefix="fleet-bench-") as log,
            servers.beanstalkd("-b", log) as server,
        ):
            yield server

    yield Beanstalkd("beanstalkd-default", start)


ARENAS: dict[str, Callable[[], contextlib.AbstractContextManager[Arena]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mariadb": mariadb,
    "beanstalkd": beanstalkd,
    "beanstalkd-default": beanstalkd_default,
}
