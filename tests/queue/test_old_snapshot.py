"""Somebody's transaction stays open, and the server may remove nothing of what is done meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fleet
from fleet.queue import Queue
from fleet.queue import dsn as dsns
from fleet.queue.backends.postgres import facts
from tests.drivers import connect as driver

SERVERS = {"postgresql": "postgres_dsn", "mariadb": "mariadb_dsn"}
BEGIN = {
    "sqlite": "BEGIN",
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT",
}
DONE = 60_000  # jobs that come and go under the snapshot
_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.server) for name in SERVERS)])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.db"
    return f"{request.getfixturevalue(SERVERS[request.param])}?prefix=old{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def old(dsn: str, queue: Queue) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """A transaction that has looked once and stays open; asks on a connection beside it."""
    at, plain = dsns.parse(dsn), dsn.partition("?")[0]
    with contextlib.closing(driver(plain)) as db, contextlib.closing(driver(plain)) as beside:

        def asked(query: str) -> list[tuple[Any, ...]]:
            with contextlib.closing(beside.cursor()) as cursor:
                cursor.execute(query)
                return list(cursor.fetchall()) if cursor.description else []

        if at.scheme == "sqlite":
            db.isolation_level = None
        if at.scheme == "postgresql":
            beside.autocommit = True
        cursor = db.cursor()
        cursor.execute(BEGIN[at.scheme])
        cursor.execute(f"SELECT count(*) FROM {at.option('prefix') or 'fleet'}_meta")
        assert cursor.fetchall()
        yield asked


def kept(dsn: str, ask: Callable[[str], list[tuple[Any, ...]]]) -> int:
    """What the snapshot has kept from being removed: rows, transactions, or pages of the write-ahead log."""
    at = dsns.parse(dsn)
    if at.scheme == "sqlite":
        return Path(f"{at.database}-wal").stat().st_size // 4096
    if at.scheme == "postgresql":
        table = f"{at.option('prefix')}_jobs"
        ask(f"VACUUM {table}")
        return int(ask(f"SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = '{table}'")[0][0])
    count = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"
    return int(ask(count)[0][0])


@contextlib.contextmanager
def fresh(dsn: str) -> Iterator[Queue]:
    """A queue on the same server and disk, without a past."""
    beside = dsn.replace("queue.db", "fresh.db").replace("prefix=old", "prefix=fresh")
    with fleet.connect(beside) as queue:
        yield queue


def seconds_each(queue: Queue) -> float:
    """What one of twenty jobs takes that are done one by one."""
    queue.put_many("old", range(20))
    began = time.monotonic()
    for _ in range(20):
        job = queue.reserve("old")
        assert job is not None
        job.delete()
    return (time.monotonic() - began) / 20


@pytest.mark.slow
def test_an_old_snapshot_keeps_no_worker_from_its_pace(
    dsn: str, queue: Queue, old: Callable[[str], list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F39: 60,000 jobs later 200 a second, one by one, take less than half of it; PostgreSQL tells why."""
    queue.put_many("old", range(DONE))
    jobs = queue.reserve_many("old", 500)
    while jobs:
        jobs = queue.reserve_many("old", 500, settle=jobs)
    assert kept(dsn, old) > 100
    with fresh(dsn) as beside:
        took = [(seconds_each(queue), seconds_each(beside)) for _ in range(20)]
    here, there = zip(*took, strict=True)
    # Where others keep processor and disk busy, the same takes as long without a past.
    assert statistics.mean(here) < 1 / 400 or statistics.median(here) < 3 * statistics.median(there)

    monkeypatch.setattr(facts, "_OLD_TRANSACTION", 0)
    told = any("A transaction has been open" in note for note in queue.info().notes)
    assert told == dsn.startswith("postgresql")
