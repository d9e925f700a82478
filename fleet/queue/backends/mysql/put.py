"""Storing jobs: one INSERT for many, and what to do when some are stored already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from fleet.errors import BackendUnavailable, OutcomeUnknown, PutUnknown, UidConflict
from fleet.queue.backends.mysql.connection import Link
from fleet.queue.backends.mysql.literal import bind, literal
from fleet.queue.backends.mysql.mishaps import Clash, Duplicate, Lost
from fleet.queue.backends.mysql.rows import DELAYED, NUMBER, READY
from fleet.queue.backends.mysql.statements import NOW, Statements
from fleet.queue.job import Job

_ROWS, _BYTES = 5_000, 500_000  # of one INSERT, before hexadecimal doubles the bytes
_TRIES = 5

Rows = Sequence[tuple[bytes, bytes]]  # uid and payload


class Put:
    """One call of `Backend.put`: its arguments, and the statements made of them."""

    def __init__(
        self,
        link: Link,
        sql: Statements,
        pipeline: str,
        *,
        priority: int,
        delay: float,
        ttr: float,
        unique: str | None,
    ) -> None:
        self._link = link
        self._sql = sql
        self._pipeline = pipeline
        self._unique = unique.encode() if unique is not None else None
        self._delay = round(delay * 1e6)
        state = DELAYED if delay else READY
        self._head = f"({literal(pipeline)},{state},{priority},{round(ttr * 1e6)},"

    def store(self, uids: Sequence[bytes], payloads: Sequence[bytes]) -> list[int]:
        """Ids in the order of the payloads; raises as `Backend.put`."""
        ids: list[int] = []
        try:
            for rows in _chunks(list(zip(uids, payloads, strict=True))):
                ids += self._link.transact(partial(self._chunk, rows))
        except Lost as lost:
            where = self._link.where
            raise PutUnknown(f"{where}: {lost} during a put; it may be stored", uids) from lost
        except BackendUnavailable as error:
            if not ids:
                raise
            text = f"{error}; {len(ids):,} of {len(payloads):,} jobs are stored"
            raise PutUnknown(text, uids) from error
        return ids

    def _chunk(self, rows: Rows) -> list[int]:
        try:
            return self._insert(rows, begin=True)
        except Duplicate:
            self._link.roll_back()
        for _ in range(_TRIES):
            try:
                return self._insert_missing(rows)
            except Duplicate:  # somebody stored one of them in between
                self._link.roll_back()
        raise Clash("others store and delete jobs with this uid or unique key at the same time")

    def _insert(self, rows: Rows, *, begin: bool) -> list[int]:
        """Store all, and commit."""
        sql = self._sql
        if len(rows) == 1:
            uid, payload = rows[0]
            unique = literal(self._unique)
            values = f"{self._head}{NOW}+{self._delay},{unique},X'{uid.hex()}',X'{payload.hex()}')"
            return [self._link.run(sql.insert + values, begin=begin, commit=True)[0].id]
        head = f"{self._head}@fleet_at,NULL,X'"
        values = ",".join([f"{head}{uid.hex()}',X'{payload.hex()}')" for uid, payload in rows])
        _, insert, setting = self._link.run(
            bind(sql.insert_at, self._delay), sql.insert + values, sql.step, begin=begin, commit=True
        )
        # InnoDB hands the ids of one INSERT … VALUES out in one piece, in every innodb_autoinc_lock_mode:
        # the server tells it how many rows there are before the first.  They are apart by the step.
        step = int(setting.rows[0][0])
        return list(range(insert.id, insert.id + len(rows) * step, step))

    def _insert_missing(self, rows: Rows) -> list[int]:
        """Some are stored already: find those, and store the others."""
        uids = ",".join([literal(uid) for uid, _ in rows])
        found = self._link.run(self._sql.by_uid % uids, begin=True)[0].rows
        stored = {bytes(uid): (int(id_), bytes(payload)) for id_, uid, payload in found}
        if not stored and self._unique is not None:
            same = self._link.run(bind(self._sql.by_unique, self._pipeline, self._unique))[0].rows
            if same:
                self._link.run(commit=True)
                return [int(same[0][0])]
        missing: dict[bytes, bytes] = {}
        for uid, payload in rows:
            id_, known = stored[uid] if uid in stored else (0, missing.setdefault(uid, payload))
            if known != payload:
                raise UidConflict(f"job {id_ or 'of the same call'} has this uid and another payload")
        if missing:
            new = self._insert(list(missing.items()), begin=False)
        else:
            new = []
            self._link.run(commit=True)
        ids = {uid: id_ for uid, (id_, _) in stored.items()} | dict(zip(missing, new, strict=True))
        return [ids[uid] for uid, _ in rows]


def restore(link: Link, sql: Statements, jobs: Sequence[Job], memo: str, value: str) -> None:
    """As `Backend.restore`."""
    inserts: list[str] = []
    size = _BYTES
    for job in jobs:
        run_at = f"@fleet_at + {round((job.delay - job.waited) * 1e6)}"
        unique = job.unique.encode() if job.unique is not None else None
        row = bind(
            "(%s,%s,%s,%s,%s,%s,%s,",
            *(job.id, job.pipeline, NUMBER[job.state], job.priority, round(job.ttr * 1e6)),
            *(job.attempt, job.crashes),
        )
        row += run_at + bind(",%s,%s,%s,%s)", unique, job.uid or None, job.reason, job.payload)
        if size + len(row) > _BYTES:
            inserts.append(sql.restore + row)
            size = len(row)
        else:
            inserts[-1] += "," + row
            size += len(row)
    returned = [bind(sql.returned, name) for name in sorted({job.pipeline for job in jobs})]

    def store() -> None:
        link.run(bind(sql.insert_at, 0), begin=True)
        for insert in inserts:
            link.run(insert)
        link.run(bind(sql.set_meta, memo, value, value), *returned, commit=True)

    try:
        link.transact(store)
    except Duplicate as error:
        raise UidConflict(f"{link.where}: one of the ids or uids is taken: {error}") from error
    except Lost as lost:
        raise OutcomeUnknown(f"{link.where}: {lost} during an import; look at what it says now") from lost


def _chunks(rows: list[tuple[bytes, bytes]]) -> Iterator[Rows]:
    """The rows of each INSERT statement: so many, or so many bytes."""
    start, size = 0, 0
    for index, (_, payload) in enumerate(rows):
        if index > start and (index - start >= _ROWS or size + len(payload) > _BYTES):
            yield rows[start:index]
            start, size = index, 0
        size += len(payload)
    yield rows[start:]
