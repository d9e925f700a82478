"""Verbs inside a transaction of the application's own."""

from __future__ import annotations

import uuid
from typing import Any

import pymysql
import pytest

import fleet
from fleet.errors import (
    SchemaError,
)
from fleet.queue import Queue
from tests.queue.mysql.tools import driver

pytestmark = pytest.mark.server


@pytest.mark.parametrize("options", [{"autocommit": False}, {}, {"cursorclass": pymysql.cursors.DictCursor}])
def test_a_put_in_the_callers_transaction_lives_and_dies_with_it(
    mariadb_dsn: str, queue: Queue, pipeline: str, options: dict[str, Any]
):
    """P7: it appears exactly if that commits; a delete likewise."""
    connection = driver(mariadb_dsn, **options)
    mine = fleet.connect(connection=connection)

    connection.begin()
    mine.put(pipeline, "gone")
    mine.put_many(pipeline, [1, 2])
    connection.rollback()
    assert queue.stats(pipeline).ready == 0

    connection.begin()
    mine.put(pipeline, "kept")
    assert queue.stats(pipeline).ready == 0
    connection.commit()
    assert queue.stats(pipeline).ready == 1

    job = queue.reserve(pipeline)
    assert job is not None
    connection.begin()
    mine.delete(job)
    connection.rollback()
    assert queue.find(job.id) is not None
    connection.begin()
    mine.delete(job)
    connection.commit()
    assert queue.find(job.id) is None

    mine.close()
    connection.ping(reconnect=False)  # still the caller's
    connection.close()


def test_a_repeated_put_in_the_callers_transaction_finds_the_first(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    """Also when the first was committed after the caller's snapshot was taken."""
    connection = driver(mariadb_dsn, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM fleet_jobs")
    uid = uuid.uuid4()
    first = queue.put(pipeline, 1, uid=uid)
    unique = queue.put(pipeline, 2, unique="k")
    mine = fleet.connect(connection=connection)
    assert mine.put(pipeline, 1, uid=uid) == first
    assert mine.put(pipeline, 2, unique="k") == unique
    connection.rollback()
    connection.close()


def test_a_job_is_not_handed_out_inside_the_callers_transaction(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    """It would be in hand before COMMIT, and somebody else's after a rollback."""
    queue.put(pipeline, 1)
    connection = driver(mariadb_dsn)
    mine = fleet.connect(connection=connection)
    connection.begin()
    with pytest.raises(ValueError, match="before COMMIT"):
        mine.reserve(pipeline)
    connection.rollback()
    job = mine.reserve(pipeline)
    assert job is not None
    job.delete()
    connection.close()


def test_a_batch_with_a_lost_lease_does_not_end_the_callers_transaction(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    queue.put_many(pipeline, range(4))
    jobs = queue.reserve_many(pipeline, 4)
    jobs[1].delete()
    connection = driver(mariadb_dsn)
    mine = fleet.connect(connection=connection)
    connection.begin()
    kept = mine.put(pipeline, "kept")
    assert [job.data for job in mine.settle(deleted=jobs)] == [1]
    connection.commit()
    assert queue.find(kept) is not None
    assert queue.stats(pipeline).reserved == 0
    connection.close()


def test_no_table_is_made_on_the_callers_connection(mariadb_dsn: str):
    connection = driver(mariadb_dsn)
    with pytest.raises(SchemaError, match="migrate"):
        fleet.connect(connection=connection, prefix="never_made")
    connection.close()
