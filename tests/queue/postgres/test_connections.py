"""PgBouncer, and connections of the application's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import fleet
from fleet.errors import (
    DsnError,
)
from fleet.queue import Queue
from tests import servers
from tests.contract import test_model
from tests.queue.postgres.tools import backend

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def pooled_dsn() -> Iterator[str]:
    try:
        with servers.postgres("max_connections=20") as server, servers.pgbouncer(server) as bouncer:
            yield bouncer.dsn
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))


def test_pgbouncer_in_transaction_mode_is_noticed_and_served(pooled_dsn: str):
    """F37: no prepared statements, no session settings, no LISTEN; told in `info`."""
    with fleet.connect(pooled_dsn) as queue, fleet.connect(pooled_dsn) as rival:
        for n in range(20):
            queue.put("emails", n)
        queue.put_many("emails", range(20, 200))
        taken: list[int] = []
        jobs: list[Any] = []
        while jobs := rival.reserve_many("emails", 15, settle=jobs):
            taken += [job.data for job in jobs]
        assert taken == list(range(200))
        timer = threading.Timer(0.3, queue.put, args=("emails", "poll"))
        timer.start()
        job = rival.reserve("emails", timeout=5)
        assert job is not None
        job.bury("why")
        assert queue.kick("emails", reason="wh_") == 1
        assert any("pooler" in note for note in queue.info().notes)
        assert backend(rival)._waiting.listener is None
        timer.join()
    with psycopg.connect(pooled_dsn, autocommit=True, prepare_threshold=None) as db:
        assert db.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert db.execute("SHOW enable_seqscan").fetchone() == ("on",)  # nothing was left in the session


@pytest.mark.timeout(400)
def test_the_contract_holds_behind_pgbouncer(pooled_dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_MODEL_EXAMPLES", "10")
    monkeypatch.setattr(test_model, "can_advance", lambda dsn: False)
    test_model.test_random_stories_end_as_in_the_model(pooled_dsn)


def test_wakeup_poll_opens_no_second_connection(dsn: str):
    with fleet.connect(dsn + "&wakeup=poll") as queue:
        timer = threading.Timer(0.2, queue.put, args=("emails", 1))
        timer.start()
        assert queue.reserve("emails", timeout=5) is not None
        assert backend(queue)._waiting.listener is None
        timer.join()


def test_the_callers_autocommit_connection_may_reserve(queue: Queue, postgres_dsn: str, prefix: str):
    """Outside of a transaction each verb has committed when it returns, whatever rows his cursors make."""
    with psycopg.connect(postgres_dsn, autocommit=True, row_factory=dict_row) as db:
        mine = fleet.connect(connection=db, prefix=prefix)
        mine.put_many("emails", range(100))
        assert queue.stats("emails").ready == 100
        job = mine.reserve("emails")
        assert job is not None
        job.delete()
        with db.transaction(), pytest.raises(ValueError, match="before COMMIT"):
            mine.reserve("emails")
        with db.transaction(force_rollback=True):
            mine.put("emails", "never")
            mine.put_many("emails", range(100))
        assert queue.stats("emails").ready == 99
        assert mine.reserve("emails", timeout=0.1) is not None


def test_a_look_leaves_no_transaction_open_on_the_callers_connection(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """An idle transaction would hold back the server's vacuum."""
    with psycopg.connect(postgres_dsn) as db:
        mine = fleet.connect(connection=db, prefix=prefix)
        mine.stats("emails")
        assert mine.peek_ready("emails") is None
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        db.execute("SELECT 1")
        mine.stats("emails")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_an_asyncio_connection_is_refused_in_words(postgres_dsn: str):
    async def story() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as db:
            with pytest.raises(DsnError, match="asyncio"):
                fleet.connect(connection=db)

    asyncio.run(story())
