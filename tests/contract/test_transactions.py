"""P7: on the caller's own connection, put and settle happen exactly if his transaction does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fleet
from fleet.errors import LeaseLost, SchemaError, UidConflict
from fleet.queue import Queue
from tests import drivers
from tests.waiting import eventually


@pytest.fixture
def connect(dsn: str, queue: Queue) -> Iterator[Callable[[], Any]]:
    """Opens connections as an application has them: of the driver, and not in autocommit mode."""
    if not queue.capabilities.transactions:
        pytest.skip("jobs cannot join a transaction here: a forced difference, told by the capability flag")
    opened = []

    def another() -> Any:
        opened.append(drivers.connect(dsn))
        return opened[-1]

    yield another
    for each in opened:
        each.close()


@pytest.fixture
def db(connect: Callable[[], Any]) -> Any:
    """The application's connection."""
    return connect()


@pytest.fixture
def mine(db: Any) -> Queue:
    """The queue over the application's connection."""
    return fleet.connect(connection=db)


@pytest.fixture
def orders(db: Any, pipeline: str) -> str:
    """A table of the application itself."""
    name = "orders_" + pipeline.replace("-", "_")
    _run(db, f"CREATE TABLE {name} (n INTEGER)")
    db.commit()
    return name


def _run(db: Any, statement: str) -> list[Any]:
    cursor = db.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_put_appears_with_the_callers_own_rows_or_not_at_all(
    db: Any, mine: Queue, queue: Queue, orders: str, pipeline: str, ending: str
):
    """The order and the mail about it: both or none."""
    _run(db, f"INSERT INTO {orders} VALUES (7)")
    mine.put(pipeline, {"order": 7})
    mine.put_many(pipeline, range(3))
    mine.put_many(pipeline, range(100))
    assert queue.stats(pipeline).ready == 0  # the library commits nothing
    getattr(db, ending)()
    expected = 104 if ending == "commit" else 0
    assert queue.stats(pipeline).ready == expected
    assert len(_run(db, f"SELECT n FROM {orders}")) == (1 if ending == "commit" else 0)
    db.rollback()


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_delete_takes_effect_with_the_callers_own_rows_or_not_at_all(
    db: Any, mine: Queue, queue: Queue, orders: str, pipeline: str, ending: str
):
    """The work's result and the end of the job in one commit: exactly once, as far as the database goes."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    _run(db, f"INSERT INTO {orders} VALUES (1)")
    mine.delete(job)
    assert queue.stats(pipeline).reserved == 1
    getattr(db, ending)()
    assert queue.stats(pipeline).reserved == (0 if ending == "commit" else 1)
    if ending == "rollback":
        job.delete()  # still ours
    else:
        with pytest.raises(LeaseLost):
            job.delete()


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_every_settlement_joins(db: Any, mine: Queue, queue: Queue, pipeline: str, ending: str):
    queue.put_many(pipeline, range(4))
    jobs = queue.reserve_many(pipeline, 4)
    assert mine.settle(deleted=jobs[:1], released=[jobs[1], (jobs[2], 60)], buried=[(jobs[3], "why")]) == []
    getattr(db, ending)()
    stats = queue.stats(pipeline)
    counts = (stats.ready, stats.delayed, stats.reserved, stats.buried)
    assert counts == ((1, 1, 0, 1) if ending == "commit" else (0, 0, 4, 0))


@pytest.mark.parametrize("many", [3, 60])
def test_a_put_many_that_begins_the_transaction_is_taken_back_with_it(
    db: Any, mine: Queue, queue: Queue, pipeline: str, many: int
):
    """Whoever begins it, the driver or the library: the commit is the caller's."""
    mine.put_many(pipeline, range(many))
    db.rollback()
    assert queue.stats(pipeline).ready == 0
    mine.put_many(pipeline, range(many))
    db.commit()
    assert queue.stats(pipeline).ready == many


def test_a_lost_lease_leaves_the_transaction_usable(db: Any, mine: Queue, queue: Queue, pipeline: str):
    """LeaseLost is an answer, not an error of the database."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    job.delete()
    mine.put(pipeline, "before")
    with pytest.raises(LeaseLost):
        mine.delete(job)
    mine.put(pipeline, "after")
    db.commit()
    assert [j.data for j in queue.reserve_many(pipeline, 5)] == ["before", "after"]


def test_a_uid_or_key_that_is_taken_leaves_the_transaction_usable(
    db: Any, mine: Queue, queue: Queue, pipeline: str
):
    """A repeated put finds its job also here, and a conflict is raised without ending anything."""
    uid = uuid.uuid4()
    first = queue.put(pipeline, 1, uid=uid)
    keyed = queue.put(pipeline, 2, unique="k")
    assert mine.put(pipeline, 1, uid=uid) == first
    assert mine.put(pipeline, 3, unique="k") == keyed
    many = mine.put_many(pipeline, [1, *range(60)], uids=[uid, *(uuid.uuid4() for _ in range(60))])
    assert many[0] == first
    with pytest.raises(UidConflict):
        mine.put(pipeline, "another", uid=uid)
    mine.put(pipeline, "after")
    db.commit()
    assert queue.stats(pipeline).ready == 63


def test_reserve_is_refused_inside_the_callers_transaction(db: Any, mine: Queue, queue: Queue, pipeline: str):
    """A job must never be handed out before COMMIT: a rollback would let a second worker have it too."""
    queue.put(pipeline, 1)
    mine.put(pipeline, 2)
    with pytest.raises(ValueError, match="before COMMIT"):
        mine.reserve(pipeline)
    db.rollback()
    assert queue.stats(pipeline).ready == 1


def test_the_callers_connection_is_never_closed(db: Any, mine: Queue, pipeline: str):
    mine.put(pipeline, 1)
    mine.close()
    assert _run(db, "SELECT 1")[0][0] == 1
    db.rollback()


def test_no_table_is_made_on_the_callers_connection(db: Any):
    """No DDL there: on some servers it would commit the caller's work."""
    with pytest.raises(SchemaError, match="fleet queue migrate"):
        fleet.connect(connection=db, prefix="nobody_made_these")
    db.rollback()
    with pytest.raises(SchemaError):
        fleet.connect(connection=db).migrate()


def test_a_worker_wakes_up_for_what_a_transaction_committed(
    db: Any, mine: Queue, queue: Queue, rival: Queue, pipeline: str
):
    """The put is told at COMMIT, not before; and what waits long finds nothing half done."""
    import threading

    found: list[Any] = []
    worker = threading.Thread(target=lambda: found.append(rival.reserve(pipeline, timeout=10)))
    worker.start()
    mine.put(pipeline, "theirs")
    worker.join(0.3)
    assert worker.is_alive()
    db.commit()
    eventually(lambda: found, within=5)
    assert found[0].data == "theirs"
    worker.join()
