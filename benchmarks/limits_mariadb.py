"""What MariaDB itself can do with durable jobs: the bare statements over PyMySQL, no objects, no fence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pymysql
from pymysql.constants import CLIENT

from benchmarks.contender import BATCH, Contender, Done, Seen

# `lane` is 0 for ready and reserved, so that a claim changes no column of the index.
_TABLES = """
    CREATE TABLE jobs (id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, tube int NOT NULL,
        lane tinyint NOT NULL DEFAULT 0, pri int unsigned NOT NULL DEFAULT 1024,
        until bigint NOT NULL DEFAULT 0, ttr int NOT NULL DEFAULT 60, attempts int NOT NULL DEFAULT 0,
        payload blob NOT NULL, KEY pick (tube, lane, pri, id)) ENGINE=InnoDB"""
_INSERT = "INSERT INTO jobs (tube, pri, payload) VALUES (%s, %s, %s)"  # placeholders only, else one by one
# The scan starts after the last key this worker took: it never walks over entries not yet purged.
_SELECT = """
    SELECT id, payload FROM jobs FORCE INDEX (pick)
    WHERE tube = 1 AND lane = 0 AND pri = 1024 AND id > {after} AND until <= unix_timestamp()
    ORDER BY pri, id LIMIT {limit} FOR UPDATE SKIP LOCKED"""
_UPDATE = "UPDATE jobs SET until = unix_timestamp() + ttr, attempts = attempts + 1 WHERE id IN ({ids})"
_DELETE = "DELETE FROM jobs WHERE id IN ({ids})"
_IDLE = "bench-idle"
_CHUNK = 5_000
_DEADLOCK, _INTERRUPTED = 1213, 1317


class Limit(Contender):
    def __init__(self, dsn: str) -> None:
        url = urlsplit(dsn)
        self._db = pymysql.connect(
            host=url.hostname or "",
            port=url.port or 3306,
            user=url.username,
            database=url.path.strip("/"),
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )
        self._cursor = self._db.cursor()
        self._cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self._after = 0

    def create(self) -> None:
        self._cursor.execute(_TABLES)

    def _ask(self, *statements: str, want: int = 0) -> Any:
        """Several statements in one round trip; the rows of the one numbered *want*."""
        self._cursor.execute(";".join(statements))
        rows: Any = ()
        for number in range(len(statements)):
            if number == want:
                rows = self._cursor.fetchall()
            if not self._cursor.nextset():
                break
        return rows

    def put(self, payloads: Sequence[bytes]) -> None:
        execute = self._cursor.execute
        for each in payloads:
            execute(_INSERT, (1, 1024, each))

    def put_many(self, payloads: Sequence[bytes]) -> None:
        for start in range(0, len(payloads), _CHUNK):
            rows = [(1, 1024, each) for each in payloads[start : start + _CHUNK]]
            self._cursor.executemany(_INSERT, rows)

    def _exchange(self, held: list[int], limit: int) -> Any:
        """Two round trips and one commit; the same again after a deadlock, which rolls back all of it."""
        while True:
            first = ["BEGIN", *([_DELETE.format(ids=_list(held))] if held else [])]
            select = _SELECT.format(after=self._after, limit=limit)
            try:
                rows = self._ask(*first, select, want=len(first))
                if rows:
                    self._ask(_UPDATE.format(ids=_list(row[0] for row in rows)), "COMMIT")
                else:
                    self._ask("COMMIT")
            except pymysql.err.OperationalError as error:
                if error.args[0] != _DEADLOCK:
                    raise
                self._ask("ROLLBACK")
                continue
            self._after = rows[-1][0] if rows else 0
            return rows

    def one(self, done: Done) -> None:
        while True:
            rows = self._exchange([], 1)
            if not rows:
                time.sleep(0.002)
                continue
            self._ask(_DELETE.format(ids=rows[0][0]))
            done(1)

    def drain(self, done: Done) -> None:
        held: list[int] = []
        while True:
            rows = self._exchange(held, BATCH)
            done(len(held))
            held = [row[0] for row in rows]
            if not rows:
                time.sleep(0.002)

    def serve(self, seen: Seen) -> None:
        """Sleep in the server while holding a lock that tells producers whom to wake."""
        self._ask(f"SELECT get_lock('{_IDLE}', 10)")
        while True:
            rows = self._exchange([], 10)
            for id_, payload in rows:
                seen(payload)
                self._ask(_DELETE.format(ids=id_))
            if not rows:
                try:
                    self._ask("SELECT sleep(5)")
                except pymysql.err.MySQLError as error:
                    if error.args[0] != _INTERRUPTED:
                        raise


class Producer(Limit):
    """Puts, and ends the sleep of an idle `serve`."""

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            insert = self._cursor.mogrify(_INSERT, (1, 1024, each))
            ((sleeper,),) = self._ask(insert, f"SELECT is_used_lock('{_IDLE}')", want=1)
            if sleeper:
                self._ask(f"KILL QUERY {sleeper}")


def _list(ids: Any) -> str:
    return ",".join(map(str, ids))
