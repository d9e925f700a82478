"""Deadlocks, locks that are kept, and many who are the first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import fleet
from fleet.errors import (
    BackendBusy,
)
from fleet.queue import Queue
from fleet.queue.backends.postgres import session
from fleet.queue.job import Settlement
from tests.queue.postgres.tools import process
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.mark.slow
def test_a_deadlock_is_repeated_as_a_whole(
    queue: Queue, admin: psycopg.Connection[Any], postgres_dsn: str, prefix: str
):
    """F27: 40P01 is not the caller's problem."""
    queue.put_many("emails", range(2))
    jobs = queue.reserve_many("emails", 2)
    lock = f"SELECT 1 FROM {prefix}_jobs WHERE id = %s FOR UPDATE"
    with psycopg.connect(postgres_dsn) as other:
        # Who has waited for a second looks once whether it is a deadlock, and gives way: that is to be ours.
        other.execute("SET deadlock_timeout = '60s'")
        other.execute(lock, [jobs[1].id])
        lost: list[Any] = []
        settling = threading.Thread(target=lambda: lost.append(queue.settle(deleted=jobs)))
        settling.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        eventually(lambda: admin.execute(waits, [process(queue)]).fetchone())
        other.execute(lock, [jobs[0].id])  # waits for us, as we wait for it
        other.rollback()
    settling.join(10)
    assert lost == [[]]
    assert queue.stats("emails").reserved == 0


def test_a_lock_that_is_not_let_go_is_busy_and_not_an_endless_wait(
    postgres_dsn: str, dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(session._SETTINGS, "lock_timeout", "100ms")
    with fleet.connect(dsn) as queue, psycopg.connect(postgres_dsn) as other:
        queue.put("emails", 1)
        job = queue.reserve("emails")
        assert job is not None
        other.execute(f"SELECT 1 FROM {prefix}_jobs FOR UPDATE")
        with pytest.raises(BackendBusy, match="lock"):
            job.delete()
        other.rollback()
        job.delete()


def test_workers_that_settle_each_others_former_jobs_do_not_block_one_another(
    open_queue: Callable[[], Queue],
):
    """Late settlements of rescued jobs beside claims of them: the shape in which exchanges could deadlock."""
    open_queue().put_many("emails", range(60), ttr=0.02)
    give_up = time.monotonic() + 3
    errors: list[BaseException] = []

    def work(mine: Queue) -> None:
        try:
            jobs: list[Any] = []
            while time.monotonic() < give_up:
                settle = [Settlement(job=job, verb="release" if job.id % 3 else "bury") for job in jobs]
                jobs = mine.reserve_many("emails", 20, settle=reversed(settle))
                mine.kick("emails", 5)
                time.sleep(0.025)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(open_queue(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_many_may_be_the_first_to_use_a_database(dsn: str):
    """The tables are made once, and nobody's put is lost."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(20)

    def first() -> None:
        try:
            barrier.wait(30)
            with fleet.connect(dsn) as mine:
                mine.put("emails", 1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=first) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with fleet.connect(dsn) as queue:
        assert queue.stats("emails").ready == 20
        assert queue.migrate() == (1, 1)
