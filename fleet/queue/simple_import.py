"""
Copying the table of the PHP library simple-job-queue, which is only ever read.

Ids, states, attempts, priorities and delays survive.  What was copied is kept
beside the jobs, so that a second run copies only what came since.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.errors import DsnError, QueueError
from fleet.queue.dsn import Dsn, parse
from fleet.queue.job import MAX_PRIORITY, Job, JobState
from fleet.queue.names import check_pipeline, check_prefix
from fleet.queue.queue import Queue

# The PHP library hands a reserved row out again after this time, whatever its options say:
# a younger one is in the hands of a PHP worker.
STALE_SECONDS = 300
_CHUNK = 1000
_COLUMNS = (
    "id, pipeline, payload, added_dt, send_dt, priority, is_reserved, reserved_dt, is_buried, "
    "time_to_retry_dt, attempts"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the PHP table, times in UTC."""

    id: int
    pipeline: str
    payload: bytes
    added_at: datetime
    send_at: datetime
    priority: int
    reserved_at: datetime | None  # None: not reserved
    buried: bool
    retry_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A row that was not copied, and why."""

    id: int
    pipeline: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an import did, or would do."""

    ready: int
    delayed: int
    buried: int
    before: int  # rows that an earlier run had copied or that are gone since
    skipped: tuple[Skipped, ...]

    @property
    def copied(self) -> int:
        return self.ready + self.delayed + self.buried


def convert(row: Row, *, source: str, now: datetime) -> Job | Skipped:
    """
    A row as the job it becomes.  Pure.

    A row that a PHP worker holds, or whose pipeline has no name here, is
    skipped with the reason.
    """
    if row.reserved_at is not None and (now - row.reserved_at).total_seconds() < STALE_SECONDS:
        return Skipped(id=row.id, pipeline=row.pipeline, why="a PHP worker holds it")
    try:
        check_pipeline(row.pipeline)
    except ValueError as error:
        return Skipped(id=row.id, pipeline=row.pipeline, why=str(error))
    delay = (row.send_at - now).total_seconds()
    state = JobState.BURIED if row.buried else JobState.DELAYED if delay > 0 else JobState.READY
    # Their time to retry was counted from the put.
    ttr = (row.retry_at - row.added_at).total_seconds() if row.retry_at else 0
    return Job(
        row.id,
        row.pipeline,
        uncompressed(row.payload),
        min(max(row.priority, 0), MAX_PRIORITY),
        ttr if ttr >= 1 else 60.0,
        max(row.attempts, 0),
        state=state,
        delay=delay if state is JobState.DELAYED else 0.0,
        waited=0.0 if delay > 0 else -delay,
        reason="buried in simple-job-queue" if row.buried else "",
        uid=hashlib.blake2b(f"{source}#{row.id}".encode(), digest_size=16).digest(),
    )


def uncompressed(payload: bytes) -> bytes:
    """
    The payload behind MySQL's COMPRESS(): four little-endian bytes of length, then a zlib stream.

    One table can hold both kinds, so a payload counts as compressed only if
    the stream is whole and has the length that its head says.
    """
    if len(payload) < 6 or payload[4] & 0x0F != 8:
        return payload
    length = int.from_bytes(payload[:4], "little") & 0x3FFFFFFF
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(payload[4:], length + 1)
    except zlib.error:
        return payload
    # MySQL appends a "." where a payload would end with a blank.
    return plain if stream.eof and len(plain) == length and stream.unused_data in (b"", b".") else payload


def copy(source: str, queue: Queue, *, table: str = "job_queue_jobs", dry_run: bool = False) -> Report:
    """
    Copy the table at the DSN *source* into *queue*.

    Each thousand rows are one transaction, together with the note of what was
    copied: a run that is cut short goes on where it was.

    Raises:
        DsnError, QueueError: the source cannot be read.
        UidConflict: ids of the table are taken by other jobs of the queue.
    """
    check_prefix(table)
    at = parse(source)
    name = f"{at}/{table}"
    memo = "import:" + hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
    known = json.loads(queue.recall(memo) or '{"through": 0, "skipped": []}')
    through, waiting = int(known["through"]), set(known["skipped"])
    counts = dict.fromkeys((JobState.READY, JobState.DELAYED, JobState.BURIED), 0)
    skipped: list[Skipped] = []
    before = 0
    with _Source(at, table) as rows:
        for chunk in rows.chunks():
            jobs: list[Job] = []
            for row in chunk:
                if row.id <= through and row.id not in waiting:
                    before += 1
                    continue
                found = convert(row, source=name, now=datetime.now(UTC))
                if isinstance(found, Skipped):
                    skipped.append(found)
                    waiting.add(row.id)
                    continue
                waiting.discard(row.id)
                counts[found.state] += 1
                jobs.append(found)
            through = max(through, chunk[-1].id)
            if not dry_run:
                queue.restore(jobs, memo, json.dumps({"through": through, "skipped": sorted(waiting)}))
    return Report(
        ready=counts[JobState.READY],
        delayed=counts[JobState.DELAYED],
        buried=counts[JobState.BURIED],
        before=before,
        skipped=tuple(skipped),
    )


class _Source:
    """The PHP table over its driver, read in order of ids."""

    def __init__(self, at: Dsn, table: str) -> None:
        self._table = table
        self._mark, self._db = _CONNECT[at.scheme](at) if at.scheme in _CONNECT else _refuse(at)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def chunks(self) -> Iterator[list[Row]]:
        """Rows in order of ids, a thousand at a time."""
        last = 0
        # The table's name was checked; no other text is put into the statement.
        query = f"SELECT {_COLUMNS} FROM {self._table} WHERE id > {self._mark} ORDER BY id LIMIT {_CHUNK}"  # noqa: S608
        while True:
            cursor = self._db.cursor()
            try:
                cursor.execute(query, (last,))
                rows = [_row(values) for values in cursor.fetchall()]
            except Exception as error:  # three drivers, three families of errors, one meaning
                raise QueueError(f"table {self._table} cannot be read: {error}") from error
            if not rows:
                return
            yield rows
            last = rows[-1].id


def _row(values: Sequence[Any]) -> Row:
    id_, pipeline, payload, added, send, priority, is_reserved, reserved, is_buried, retry, attempts = values
    return Row(
        id=int(id_),
        pipeline=pipeline.decode() if isinstance(pipeline, bytes) else str(pipeline),
        payload=bytes(payload)
        if isinstance(payload, bytes | memoryview)
        else str(payload).encode("utf-8", "surrogateescape"),
        added_at=_instant(added),
        send_at=_instant(send),
        priority=int(priority),
        reserved_at=_instant(reserved) if is_reserved and reserved else None,
        buried=bool(is_buried),
        retry_at=_instant(retry) if retry else None,
        attempts=int(attempts),
    )


def _instant(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.replace(tzinfo=UTC)  # the PHP library writes UTC without saying so


def _sqlite(at: Dsn) -> tuple[str, Any]:
    import sqlite3
    from pathlib import Path

    try:
        db = sqlite3.connect(f"{Path(at.database).resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise QueueError(f"{at}: {error}") from error
    # PHP writes binary payloads into TEXT columns as they are.
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return "?", db


def _postgresql(at: Dsn) -> tuple[str, Any]:
    import psycopg

    try:
        db = psycopg.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database or None,
            autocommit=True, connect_timeout=5, options="-c default_transaction_read_only=on",
        )  # fmt: skip
    except psycopg.Error as error:
        raise QueueError(f"{at}: {error}") from error
    return "%s", db


def _mysql(at: Dsn) -> tuple[str, Any]:
    import pymysql

    try:
        db = pymysql.connect(
            host=at.host or "127.0.0.1", port=at.port or 3306, user=at.user, password=at.password or "",
            database=at.database, unix_socket=at.option("unix_socket"), connect_timeout=5, autocommit=True,
        )  # fmt: skip
    except pymysql.Error as error:
        raise QueueError(f"{at}: {error.args[-1]}") from error
    return "%s", db


def _refuse(at: Dsn) -> tuple[str, Any]:
    raise DsnError(
        f"{at}: there is no table to import. PHP producers and Python workers share beanstalkd's tubes "
        "as they are."
    )


_CONNECT = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql}
