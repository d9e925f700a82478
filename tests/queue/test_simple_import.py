"""The live table of the PHP library comes over whole, once, and is left as it was."""

from __future__ import annotations

import sqlite3
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fleet
from fleet.errors import DsnError, QueueError, UidConflict
from fleet.queue import dsn as dsns
from fleet.queue.simple_import import Skipped, convert, copy, uncompressed
from tests import drivers

NOW = datetime.now(UTC).replace(microsecond=0)

# The DDL of the library itself, per server.
_COLUMNS = """ pipeline TEXT NOT NULL, payload TEXT NOT NULL, added_dt TEXT NOT NULL,
    send_dt TEXT NOT NULL, priority INTEGER NOT NULL, is_reserved INTEGER NOT NULL, reserved_dt TEXT NULL,
    is_buried INTEGER NOT NULL, buried_dt TEXT NULL, time_to_retry_dt TEXT NOT NULL,
    attempts INTEGER NOT NULL)"""
_TABLE = {
    "sqlite": "CREATE TABLE job_queue_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL," + _COLUMNS,
    "postgresql": "CREATE TABLE job_queue_jobs (id SERIAL PRIMARY KEY NOT NULL," + _COLUMNS,
    "mysql": """CREATE TABLE job_queue_jobs (id int(11) NOT NULL AUTO_INCREMENT,
        pipeline varchar(500) NOT NULL, payload longblob NOT NULL, added_dt datetime NOT NULL,
        send_dt datetime NOT NULL, priority int(11) NOT NULL, is_reserved tinyint(1) NOT NULL,
        reserved_dt datetime NULL, is_buried tinyint(1) NOT NULL, buried_dt datetime NULL,
        attempts tinyint(4) NOT NULL, time_to_retry_dt datetime NULL, PRIMARY KEY (id))""",
}
_INSERT = """
    INSERT INTO job_queue_jobs (id, pipeline, payload, added_dt, send_dt, priority, is_reserved, reserved_dt,
        is_buried, time_to_retry_dt, attempts)
    VALUES ({marks})"""


def _text(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else None


def php_row(
    id_: int,
    payload: object = '{"n":1}',
    *,
    pipeline: str = "emails",
    send: timedelta = timedelta(),
    priority: int = 1024,
    reserved: timedelta | None = None,
    buried: bool = False,
    ttr: int = 90,
    attempts: int = 0,
) -> tuple[Any, ...]:
    now = datetime.now(UTC)
    added = now - timedelta(hours=1)
    held = now - reserved if reserved is not None else None
    return (
        id_,
        pipeline,
        payload,
        _text(added),
        _text(now + send),
        priority,
        int(held is not None),
        _text(held),
        int(buried),
        _text(added + timedelta(seconds=ttr)),
        attempts,
    )


def compress(payload: bytes) -> bytes:
    """MySQL's COMPRESS()."""
    return len(payload).to_bytes(4, "little") + zlib.compress(payload)


def write_table(dsn: str, rows: list[tuple[Any, ...]], *, create: bool = True) -> None:
    scheme = dsns.parse(dsn).scheme
    marks = ", ".join(["?" if scheme == "sqlite" else "%s"] * 11)
    db = drivers.connect(dsn)
    cursor = db.cursor()
    if create:
        cursor.execute("DROP TABLE IF EXISTS job_queue_jobs")
        cursor.execute(_TABLE[scheme])
    for row in rows:
        cursor.execute(_INSERT.format(marks=marks), row)
    db.commit()
    db.close()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres_dsn", marks=pytest.mark.server),
        pytest.param("mariadb_dsn", marks=pytest.mark.server),
    ]
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/php.db"
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def queue(tmp_path: Path) -> fleet.Queue:
    return fleet.connect(f"sqlite:///{tmp_path}/fleet.db")


def test_ids_states_attempts_and_delays_survive(source: str, queue: fleet.Queue):
    compressed = compress(b'{"big":true}') if source.startswith("mysql") else '{"big":true}'
    write_table(
        source,
        [
            php_row(7, priority=5, attempts=2),
            php_row(8, compressed, send=timedelta(hours=2)),
            php_row(9, buried=True, attempts=3),
            php_row(12, reserved=timedelta(minutes=6), attempts=1),
        ],
    )
    report = copy(source, queue)
    assert (report.ready, report.delayed, report.buried, report.skipped) == (2, 1, 1, ())
    jobs = queue.reserve_many("emails", 10)
    assert [(job.id, job.priority, job.attempt, job.ttr) for job in jobs] == [
        (7, 5, 3, 90),
        (12, 1024, 2, 90),
    ]
    delayed = queue.peek_delayed("emails")
    assert delayed is not None
    assert (delayed.id, delayed.data) == (8, {"big": True})
    assert 7000 < delayed.delay <= 7200
    buried = queue.peek_buried("emails")
    assert buried is not None
    assert (buried.id, buried.attempt, buried.reason) == (9, 3, "buried in simple-job-queue")
    assert queue.put("emails", "next") > 12


def test_a_second_run_copies_nothing_twice(source: str, queue: fleet.Queue):
    """Not even what has been finished in the meantime."""
    write_table(source, [php_row(1), php_row(2, reserved=timedelta(seconds=5)), php_row(3)])
    first = copy(source, queue)
    assert (first.copied, [row.id for row in first.skipped]) == (2, [2])
    queue.settle(deleted=queue.reserve_many("emails", 10))
    again = copy(source, queue)
    assert (again.copied, again.before) == (0, 2)

    db = drivers.connect(source)
    cursor = db.cursor()
    cursor.execute("UPDATE job_queue_jobs SET is_reserved = 0 WHERE id = 2")
    db.commit()
    db.close()
    write_table(source, [php_row(10)], create=False)
    assert copy(source, queue).copied == 2
    assert [job.id for job in queue.reserve_many("emails", 10)] == [2, 10]


def test_a_dry_run_copies_nothing(source: str, queue: fleet.Queue):
    write_table(source, [php_row(1), php_row(2, buried=True)])
    assert copy(source, queue, dry_run=True).copied == 2
    assert queue.pipelines() == []
    assert copy(source, queue).copied == 2


def test_more_rows_than_one_chunk_come_in_order(tmp_path: Path, queue: fleet.Queue):
    source = f"sqlite:///{tmp_path}/php.db"
    write_table(source, [php_row(n) for n in range(1, 2502)])
    assert copy(source, queue).copied == 2501
    assert queue.reserve_many("emails", 3000)[-1].id == 2501


def test_ids_that_are_taken_are_said_and_nothing_is_overwritten(tmp_path: Path, queue: fleet.Queue):
    own = queue.put("emails", "mine")
    source = f"sqlite:///{tmp_path}/php.db"
    write_table(source, [php_row(own)])
    with pytest.raises(UidConflict, match="taken"):
        copy(source, queue)
    found = queue.find(own)
    assert found is not None
    assert found.data == "mine"


def test_a_missing_table_is_an_error_in_words(tmp_path: Path, queue: fleet.Queue):
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(QueueError, match="job_queue_jobs"):
        copy(f"sqlite:///{tmp_path}/empty.db", queue)
    with pytest.raises(QueueError):
        copy(f"sqlite:///{tmp_path}/missing.db", queue)
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(ValueError, match="prefix"):
        copy(f"sqlite:///{tmp_path}/empty.db", queue, table="jobs; DROP TABLE x")
    with pytest.raises(DsnError, match="share beanstalkd"):
        copy("beanstalkd://localhost", queue)


def test_a_pipeline_name_that_has_no_place_here_is_skipped_with_the_reason():
    from fleet.queue.simple_import import Row

    row = Row(
        id=1, pipeline="two words", payload=b"x", added_at=NOW, send_at=NOW, priority=1,
        reserved_at=None, buried=False, retry_at=None, attempts=0,
    )  # fmt: skip
    found = convert(row, source="s", now=NOW)
    assert isinstance(found, Skipped)
    assert "pipeline name" in found.why


@pytest.mark.parametrize(
    ("stored", "payload"),
    [
        (compress(b"hello" * 100), b"hello" * 100),
        (compress(b"ends with a blank ") + b".", b"ends with a blank "),
        (b'{"plain":1}', b'{"plain":1}'),
        (b"", b""),
        (b"\x05\x00\x00\x00\x78plain text that only looks compressed", None),
        (compress(b"cut")[:-2], None),
        ((99).to_bytes(4, "little") + zlib.compress(b"another length"), None),
    ],
)
def test_compressed_and_plain_payloads_live_in_one_table(stored: bytes, payload: bytes | None):
    """Only a whole stream of the length that its head says counts as compressed."""
    assert uncompressed(stored) == (stored if payload is None else payload)
