"""
What the store holds, read with the server's own driver and not through fleet.

SQL tables are read; beanstalkd's tube is emptied, because it has no other way
to show every job, so `take` is for the very end.  `left` only counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.ledger import Record
from tests.chaos.work import PIPELINE, digest, uid_of

_STATES = ("ready", "delayed", "reserved", "buried")
_JOBS = "SELECT state, attempts, crashes, reason, payload FROM fleet_jobs WHERE pipeline = 'chaos'"
_LEFT = "SELECT count(*) FROM fleet_jobs WHERE pipeline = 'chaos' AND state <> 3"


def take(dsn: str) -> list[Record]:
    """Every stored job: {uid, sha, state, reason, …}; the reason is None on beanstalkd."""
    if dsn.startswith("beanstalkd:"):
        return list(_drained(dsn))
    rows = _query(dsn, _JOBS)
    return [
        {
            "uid": uid_of(bytes(payload)),
            "sha": digest(bytes(payload)),
            "state": _STATES[state],
            "attempts": attempts,
            "crashes": crashes,
            "reason": reason,
        }
        for state, attempts, crashes, reason, payload in rows
    ]


def left(dsn: str) -> int:
    """How many jobs are stored and not buried."""
    if dsn.startswith("beanstalkd:"):
        import greenstalk

        with closing(_greenstalk(dsn)) as client:
            try:
                stats = client.stats_tube(PIPELINE)
            except greenstalk.NotFoundError:
                return 0
            return sum(int(stats[f"current-jobs-{state}"]) for state in ("ready", "reserved", "delayed"))
    return int(_query(dsn, _LEFT)[0][0])


def _query(dsn: str, query: str) -> list[Any]:
    address = urlsplit(dsn)
    if address.scheme == "sqlite":
        with closing(sqlite3.connect(address.path[1:], timeout=30)) as db:
            return db.execute(query).fetchall()
    if address.scheme == "postgresql":
        import psycopg

        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as db:
            return db.execute(query).fetchall()
    import pymysql

    with (
        closing(
            pymysql.connect(
                host=address.hostname,
                port=address.port or 3306,
                user=address.username,
                database=address.path[1:],
                connect_timeout=5,
            )
        ) as db,
        db.cursor() as cursor,
    ):
        cursor.execute(query)
        return list(cursor.fetchall())


def _drained(dsn: str) -> Iterator[Record]:
    import greenstalk

    with closing(_greenstalk(dsn)) as client:
        while True:
            try:
                job = client.reserve(timeout=0)
            except greenstalk.TimedOutError:
                break
            yield _beanstalkd_record(job.body, "ready")
            client.delete(job)
        for state, peek in (("buried", client.peek_buried), ("delayed", client.peek_delayed)):
            while True:
                try:
                    job = peek()
                except greenstalk.NotFoundError:
                    break
                yield _beanstalkd_record(job.body, state)
                client.delete(job)


def _beanstalkd_record(body: bytes, state: str) -> Record:
    return {"uid": uid_of(body), "sha": digest(body), "state": state, "reason": None}


def _greenstalk(dsn: str) -> Any:
    import greenstalk

    address = urlsplit(dsn)
    return greenstalk.Client((address.hostname, address.port), encoding=None, use=PIPELINE, watch=PIPELINE)
