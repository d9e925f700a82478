"""Faults of live servers: no connection to be had, sessions ended, deadlocks, a clock that jumps."""

from __future__ import annotations

import contextlib
import resource
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pymysql

from tests.chaos.arena import ROOT, Arena
from tests.chaos.bite import BITES_WITHIN, Bite, wait_until
from tests.chaos.migration import COMMAND
from tests.chaos.schedule import Planned

_MOST_CONNECTIONS = 500
_MIGRATIONS = 3


def connections(arena: Arena, fault: Planned) -> Bite:
    """Every connection that the server can have is somebody else's."""
    server, proxy = arena.server, arena.proxy
    assert server is not None and proxy is not None
    main, limit = psutil.Process(server.pid), None
    if arena.backend == "beanstalkd":  # which has no limit of its own
        limit = main.rlimit(resource.RLIMIT_NOFILE)
        main.rlimit(resource.RLIMIT_NOFILE, (main.num_fds() + 3, limit[1]))
    taken: list[Any] = []
    refusal = ""

    def take_all() -> str:
        for _ in range(_MOST_CONNECTIONS):
            try:
                taken.append(_plain_connection(arena))
            except (OSError, psycopg.Error, pymysql.Error) as error:
                return str(error).strip().splitlines()[-1]
        return ""

    try:
        take_all()
        proxy.cut()  # who was connected has to come again
        until = time.monotonic() + fault.hold
        while time.monotonic() < until:
            refusal = take_all() or refusal
            time.sleep(0.02)
    finally:
        for each in taken:
            with contextlib.suppress(Exception):
                each.close()
        if limit is not None:
            main.rlimit(resource.RLIMIT_NOFILE, limit)
    return Bite(f"{len(taken)} connections were ours, the next: {refusal[-100:]}" if refusal else "")


def _plain_connection(arena: Arena) -> Any:
    address = urlsplit(arena.dsn)
    if arena.backend == "postgresql":
        return psycopg.connect(arena.dsn, connect_timeout=5)
    if arena.backend == "mariadb":
        return _mariadb(arena)
    link = socket.create_connection((address.hostname or "", address.port or 0), timeout=0.3)
    try:
        link.sendall(b"list-tube-used\r\n")
        link.recv(100)
    except OSError:
        link.close()
        raise
    return link


def admin_kill(arena: Arena, fault: Planned) -> Bite:
    """An administrator ends every session but his own."""
    proxy = arena.proxy
    assert proxy is not None
    before = proxy.accepted
    with contextlib.closing(_Admin(arena)) as admin:
        ended = 0
        until = time.monotonic() + 5
        while not ended and time.monotonic() < until:
            ended = admin.end_sessions()
    again = arena.pooler is not None or wait_until(lambda: proxy.accepted > before)
    return Bite(
        f"{ended} sessions were ended, {proxy.accepted - before} came again" if ended and again else ""
    )


def deadlock(arena: Arena, fault: Planned) -> Bite:
    """Locks taken against the order in which fleet takes them, so that the server has to end one of us."""
    with contextlib.closing(_Admin(arena)) as admin:
        before = admin.deadlocks()
        until = time.monotonic() + 20
        swap = fault.reply
        while admin.deadlocks() == before and time.monotonic() < until:
            with contextlib.suppress(psycopg.Error, pymysql.Error):  # we may be the one
                admin.cross(swap)
            swap = not swap
        found = admin.deadlocks() - before
    return Bite(f"the server counted {found} deadlocks" if found else "")


def clock(arena: Arena, fault: Planned) -> Bite:
    """The server's time of day jumps by more than a lease, and back again."""
    assert arena.clock is not None
    jump = 2 * arena.ttr + fault.hold
    shift = jump if fault.reply else -jump
    ask = _server_clock(arena)
    real = ask() - time.time()
    arena.clock.write_text(f"{shift:+.3f}\n")
    try:
        wait_until(lambda: abs(ask() - time.time() - real - shift) < 1.5)
        seen = ask() - time.time() - real
        time.sleep(fault.hold)
    finally:
        arena.clock.write_text("+0\n")
    if arena.backend == "beanstalkd" and shift > 0:
        # Its walsync() waits until the time of day is that of the last sync again, also with -f 0.
        arena.unsynced = time.monotonic() + jump + 1
    moved = abs(seen - shift) < 1.5
    back = wait_until(lambda: abs(ask() - time.time() - real) < 1.5)
    # A lease or a delay that began meanwhile is that much longer, or the next ones are.
    return Bite(f"its clock went {seen:+.1f} s, and back" if moved and back else "", lasts=jump)


def _server_clock(arena: Arena) -> Callable[[], float]:
    """Seconds since 1970 as the server counts them; since its start on beanstalkd."""
    if arena.backend == "beanstalkd":
        import greenstalk

        address = urlsplit(arena.dsn)

        def uptime() -> float:
            with greenstalk.Client((address.hostname or "", address.port or 0)) as client:
                return float(client.stats()["uptime"])

        return uptime

    def asked() -> float:
        with contextlib.closing(_Admin(arena)) as admin:
            return admin.now()

    return asked


def pooler(arena: Arena, fault: Planned) -> Bite:
    """kill -9 of PgBouncer, and a new one."""
    bouncer = arena.pooler
    assert bouncer is not None
    old = bouncer.pid
    bouncer.kill()
    time.sleep(fault.hold / 3)
    bouncer.start()
    return Bite(f"PgBouncer {old} became {bouncer.pid}")


def migrate(arena: Arena, fault: Planned) -> Bite:
    """Three migrations to the next version of the tables at once, which add a column to the table of jobs."""
    column = f"chaos_{fault.slot}_{fault.count}"
    started = [
        subprocess.Popen(
            [*COMMAND, arena.dsn, column],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for _ in range(_MIGRATIONS)
    ]
    said = [each.communicate(timeout=60)[0].strip() for each in started]
    # The workers that start from now on know one version only.
    write = "UPDATE fleet_meta SET value = '1' WHERE name = 'schema'"
    if arena.backend == "sqlite":
        with contextlib.closing(sqlite3.connect(arena.dsn.removeprefix("sqlite:///"), timeout=20)) as db, db:
            db.execute(write)
    else:
        with contextlib.closing(_Admin(arena)) as admin:
            admin.ask(write)
    if any(each.returncode for each in started):
        return Bite(broken=f"a migration failed: {' | '.join(said)[-300:]}")
    return Bite(f"column {column}; found version {', '.join(sorted(said))}" if said.count("1") == 1 else "")


def _mariadb(arena: Arena) -> Any:
    address = urlsplit(arena.dsn)
    return pymysql.connect(
        host=address.hostname,
        port=address.port or 3306,
        user=address.username,
        database=address.path[1:],
        connect_timeout=5,
        autocommit=True,
    )


class _Admin:
    """A connection of our own to an SQL server, past the proxy; waits for one that recovers from a fault."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._is_postgres = arena.backend == "postgresql"
        self._db: Any = None
        until = time.monotonic() + BITES_WITHIN
        while self._db is None:
            try:
                self._db = _plain_connection(arena)
            except (psycopg.Error, pymysql.Error):
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        if self._is_postgres:
            self._db.autocommit = True

    def close(self) -> None:
        self._db.close()

    def ask(self, query: str, *values: object) -> list[Any]:
        with self._db.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def now(self) -> float:
        if self._is_postgres:
            return float(self.ask("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        return float(self.ask("SELECT UNIX_TIMESTAMP(SYSDATE(6))")[0][0])

    def end_sessions(self) -> int:
        if self._is_postgres:
            rows = self.ask(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
            )
            return sum(row[0] for row in rows)
        ended = 0
        for (number,) in self.ask(
            "SELECT id FROM information_schema.processlist WHERE user = 'fleet' AND id <> connection_id()"
        ):
            with contextlib.suppress(pymysql.Error):  # it has gone by itself
                self.ask(f"KILL {number}")
                ended += 1
        return ended

    def deadlocks(self) -> int:
        """How many the server has seen."""
        if self._is_postgres:
            assert self._arena.server is not None
            return self._arena.server.log.count("deadlock detected")
        return int(self.ask("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])

    def cross(self, swap: bool) -> None:
        """Take one lock, wait until somebody waits for it, and ask for what he holds."""
        with self._transaction():
            if self._is_postgres:
                tables = ["fleet_jobs", "fleet_pipelines"] if swap else ["fleet_pipelines", "fleet_jobs"]
                self.ask("SET LOCAL deadlock_timeout = '10s'")  # so that it is found by the other, who loses
                self.ask(f"LOCK TABLE {tables[0]} IN ACCESS EXCLUSIVE MODE")
                wait_until(self._somebody_waits, within=1)
                self.ask(f"LOCK TABLE {tables[1]} IN ACCESS EXCLUSIVE MODE")
                return
            # A job that is given back and then the mark of its pipeline, says fleet.
            self.ask(
                """INSERT INTO fleet_pipelines (name) VALUES ('chaos')
                ON DUPLICATE KEY UPDATE returns = returns"""
            )
            wait_until(self._somebody_waits, within=1)
            self.ask("SELECT id FROM fleet_jobs WHERE pipeline = 'chaos' FOR UPDATE")

    def _somebody_waits(self) -> bool:
        if self._is_postgres:
            query = (
                "SELECT 1 FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)) LIMIT 1"
            )
        else:
            query = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' LIMIT 1"
        return bool(self.ask(query))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.ask("BEGIN")
        try:
            yield
        finally:
            self.ask("ROLLBACK")
