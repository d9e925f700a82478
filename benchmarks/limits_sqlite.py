"""What SQLite itself can do with durable jobs: the bare statements, no checks, no objects, no fence."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contender import BATCH, Contender, Done, Seen

# `lane` is 0 for ready and reserved, so that a claim changes no column of the index.
_TABLES = (
    """CREATE TABLE jobs (id INTEGER PRIMARY KEY, lane INT NOT NULL DEFAULT 0, pri INT NOT NULL DEFAULT 1024,
        until REAL NOT NULL DEFAULT 0, ttr INT NOT NULL DEFAULT 60, attempts INT NOT NULL DEFAULT 0,
        payload BLOB NOT NULL)""",
    "CREATE INDEX jobs_pick ON jobs (lane, pri)",
)
_INSERT = "INSERT INTO jobs (payload) VALUES (?)"
_CLAIM = """
    UPDATE jobs SET until = ?1 + ttr, attempts = attempts + 1 WHERE id IN (
        SELECT id FROM jobs WHERE lane = 0 AND until <= ?1 ORDER BY pri, id LIMIT ?2)
    RETURNING id, payload"""
_DELETE = "DELETE FROM jobs WHERE id = ?"
_CHUNK = 5_000


class Limit(Contender):
    def __init__(self, dsn: str) -> None:
        self._path = dsn.removeprefix("sqlite:///")
        self._db = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        for pragma in (
            "journal_mode = wal",
            "synchronous = full",
            "cache_size = -65536",
            "temp_store = memory",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        self._bell: socket.socket | None = None

    def create(self) -> None:
        for statement in _TABLES:
            self._db.execute(statement)

    def put(self, payloads: Sequence[bytes]) -> None:
        execute = self._db.execute
        for each in payloads:
            execute(_INSERT, (each,))
        self._ring()

    def put_many(self, payloads: Sequence[bytes]) -> None:
        for start in range(0, len(payloads), _CHUNK):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_INSERT, [(each,) for each in payloads[start : start + _CHUNK]])
            self._db.execute("COMMIT")

    def _claim(self, limit: int) -> list[Any]:
        return self._db.execute(_CLAIM, (time.time(), limit)).fetchall()

    def one(self, done: Done) -> None:
        while True:
            rows = self._claim(1)
            if not rows:
                time.sleep(0.002)
                continue
            self._db.execute(_DELETE, (rows[0][0],))
            done(1)

    def drain(self, done: Done) -> None:
        held: list[tuple[int]] = []
        while True:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_DELETE, held)
            rows = self._claim(BATCH)
            self._db.execute("COMMIT")
            done(len(held))
            held = [(row[0],) for row in rows]
            if not rows:
                time.sleep(0.002)

    # Waking up: each waiter has a datagram socket in a folder, and a put rings them all.

    def _ring(self) -> None:
        folder = Path(f"{self._path}.wake")
        if not folder.is_dir():
            return
        self._bell = self._bell or socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for name in folder.iterdir():
            self._bell.sendto(b"x", str(name))

    def serve(self, seen: Seen) -> None:
        folder = Path(f"{self._path}.wake")
        folder.mkdir(exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.bind(f"{folder}/{os.getpid()}")
            while True:
                for id_, payload in self._claim(10):
                    seen(payload)
                    self._db.execute(_DELETE, (id_,))
                bell.recv(64)
