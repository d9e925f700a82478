"""The plan of a claim, at a large backlog and without statistics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from fleet.queue import Queue
from fleet.queue.backends.postgres import session
from fleet.queue.backends.postgres.statements import Statements
from tests.queue.postgres.tools import backend

pytestmark = pytest.mark.server


@pytest.mark.slow
def test_the_claim_reads_its_index_in_order_at_a_large_backlog(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """No sort and no scan of the table: over our connections, a pooler's, and the caller's."""
    admin.execute(
        f"INSERT INTO {prefix}_jobs (pipeline, state, priority, ttr, run_at, deadline, payload) "
        "SELECT 'p' || i % 2, i % 4, i % 7, 60000000, 0, 0, '' FROM generate_series(1, 250000) AS i"
    )
    values: dict[str, Any] = {"pipeline": "p1", "pipelines": ["p1", "p0"], "limit": 50, "token": 5}
    values |= {"gated": True, "priority": 3, "priorities": [3, -1], "floor": 0}
    values |= {"ids": "{1,2,3}", "tokens": "{0,0,0}", "held": 7, "wanted": 3, "chunk": 100, "back": "[]"}
    sql = Statements(prefix)
    # Ours also before the server has any statistics: a plan may be made while the table is still empty.
    for settings, analyzed in ((session._SETTINGS, False), (session._SETTINGS, True), ({}, True)):
        if analyzed:
            admin.execute(f"ANALYZE {prefix}_jobs")
        for name, value in settings.items():
            admin.execute(f"SET {name} = '{value}'".encode())
        for (_, many, _), statement in sql.exchange.items():
            _check_plan(admin, statement, values | {"above": [1000, 0] if many else 1000})
        _check_plan(admin, sql.make_ready, values)
        admin.execute("RESET ALL")
    job = queue.reserve("p1")
    assert job is not None
    assert job.priority == 0
    assert queue.stats("p1").cap == 1_000
    assert queue.pipelines() == ["p0", "p1"]


def test_the_claim_looks_its_jobs_up_by_id_before_there_are_statistics(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """Not by reading all that is ready: the backlog may have come in the last second."""
    queue.put_many("p1", range(5_000))
    for name, value in session._SETTINGS.items():
        admin.execute(f"SET {name} = '{value}'".encode())
    values = {"pipeline": "p1", "limit": 50, "token": 5, "gated": True}
    statement = Statements(prefix).exchange["", False, False]
    plan = psycopg.ClientCursor(admin).execute(b"EXPLAIN " + statement, values).fetchall()
    assert any(f"Index Scan using {prefix}_jobs_pkey on {prefix}_jobs job " in line for (line,) in plan), plan


@pytest.mark.parametrize("many", [False, True])
def test_a_marked_claim_does_not_walk_over_what_is_done(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str, many: bool
):
    """Below its mark it reads what came back late from its own index, also where most jobs are late."""
    queue.put_many("p1", range(5_000))
    queue.put_many("p1", range(5_000), delay=1_000)
    admin.execute(f"ANALYZE {prefix}_jobs")
    for name, value in session._SETTINGS.items():
        admin.execute(f"SET {name} = '{value}'".encode())
    values: dict[str, Any] = {"limit": 50, "token": 5, "gated": True, "floor": 0, "pipeline": "p1"}
    values |= {"priority": 1024, "above": 4_000}
    if many:
        values |= {"pipelines": ["p1"], "priorities": [1024], "above": [4_000]}
    statement = Statements(prefix).exchange["", many, True]
    plan = psycopg.ClientCursor(admin).execute(b"EXPLAIN (COSTS OFF) " + statement, values).fetchall()
    assert any(f"using {prefix}_jobs_late on" in line for (line,) in plan), plan


def _check_plan(db: psycopg.Connection[Any], statement: bytes, values: dict[str, Any]) -> None:
    rows = psycopg.ClientCursor(db).execute(b"EXPLAIN (COSTS OFF) " + statement, values).fetchall()
    plan = "\n".join(row[0] for row in rows)
    for bad in ("Sort", "Seq Scan on t", "Bitmap", "hashed SubPlan"):
        assert bad not in plan, plan


def test_no_job_is_handed_out_twice_where_skip_locked_does_nothing(open_queue: Callable[[], Queue]):
    """The UPDATE asks for the state again: servers exist that take no lock there and do not say so."""
    open_queue().put_many("emails", range(300), ttr=120)
    taken: list[int] = []

    def work(mine: Queue) -> None:
        while jobs := mine.reserve_many("emails", 7):
            taken.extend(job.data for job in jobs)
            mine.settle(deleted=jobs)

    workers = [open_queue() for _ in range(4)]
    for mine in workers:
        sql = backend(mine)._sql
        for store in (sql.exchange, sql.look):
            for key, statement in store.items():  # type: ignore[attr-defined]
                assert b"FOR UPDATE SKIP LOCKED" in statement
                store[key] = statement.replace(b"FOR UPDATE SKIP LOCKED", b"")  # type: ignore[index]
    threads = [threading.Thread(target=work, args=(mine,)) for mine in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(300))
