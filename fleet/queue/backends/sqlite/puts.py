"""Storing jobs: one in a single statement, many in chunks, and never twice under one uid or unique key."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from fleet.errors import BackendUnavailable, PutUnknown, UidConflict
from fleet.queue.backends.sqlite.clock import Clock
from fleet.queue.backends.sqlite.connection import Link
from fleet.queue.backends.sqlite.rows import blob
from fleet.queue.backends.sqlite.statements import Statements

_CHUNK = 5_000  # jobs of one transaction

Head = tuple[str, int, int, int]  # pipeline, state, priority and ttr in microseconds: the same for all jobs


class Puts:
    def __init__(self, link: Link, sql: Statements, clock: Clock) -> None:
        self._link = link
        self._sql = sql
        self._clock = clock

    def put(
        self,
        head: Head,
        delay: int,
        payloads: Sequence[bytes],
        uids: Sequence[bytes],
        unique: str | None,
    ) -> list[int]:
        """As `Backend.put`; *delay* is microseconds."""
        if len(payloads) == 1 and not uids and unique is None:
            row = (*head, self._clock.wall() + delay, blob(payloads[0]))
            cursor = self._link.write(lambda db: db.execute(self._sql.insert, row), puts=True, alone=True)
            return [int(cursor.lastrowid or 0)]
        if uids or unique is not None:
            checked = partial(self._checked, head, delay, unique, payloads, uids or [None])
            return self._link.write(checked, puts=True)
        return self._many(head, delay, payloads)

    def _checked(
        self,
        head: Head,
        delay: int,
        unique: str | None,
        payloads: Sequence[bytes],
        uids: Sequence[bytes | None],
        db: sqlite3.Connection,
    ) -> list[int]:
        run_at = self._clock.wall() + delay
        ids = []
        for payload, uid in zip(payloads, uids, strict=True):
            stored = db.execute(self._sql.by_uid, (uid,)).fetchone() if uid is not None else None
            if stored and stored[1] != payload:
                raise UidConflict(f"job {stored[0]} has this uid and another payload")
            if not stored and unique is not None:
                stored = db.execute(self._sql.by_unique, (head[0], unique)).fetchone()
            if stored:
                ids.append(int(stored[0]))
            else:
                row = (*head, run_at, payload, unique, uid)
                ids.append(int(db.execute(self._sql.insert_named, row).lastrowid or 0))
        return ids

    def _many(self, head: Head, delay: int, payloads: Sequence[bytes]) -> list[int]:
        ids: list[int] = []
        try:
            for start in range(0, len(payloads), _CHUNK):
                chunk = partial(self._chunk, head, delay, payloads[start : start + _CHUNK])
                ids += self._link.write(chunk, puts=True)
        except BackendUnavailable as error:
            if not ids or self._link.joins():
                raise
            text = f"{error}; the first {len(ids):,} of {len(payloads):,} jobs are stored, the others are not"
            raise PutUnknown(text) from error
        return ids

    def _chunk(self, head: Head, delay: int, payloads: Sequence[bytes], db: sqlite3.Connection) -> list[int]:
        # The write lock is ours, so the numbers are ours to count up.
        first = int(db.execute(self._sql.next_id).fetchone()[0])
        ids = range(first, first + len(payloads))
        row = (*head, self._clock.wall() + delay)
        rows = [(id_, *row, blob(payload)) for id_, payload in zip(ids, payloads, strict=True)]
        db.executemany(self._sql.insert_as, rows)
        return list(ids)
