"""Storing jobs: one by one in one round trip, many through COPY, and never twice under one uid."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import errors as pg

from fleet.errors import BackendBusy, BackendUnavailable, PutUnknown, UidConflict
from fleet.queue.backends.postgres import bulk
from fleet.queue.backends.postgres.bell import Bell
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.session import Cut, Session
from fleet.queue.backends.postgres.statements import Statements
from fleet.queue.backends.postgres.wake import DEBOUNCE
from fleet.queue.uids import fresh, may_be_ours

_COPY_FROM = 40  # payloads; below that one INSERT is faster than the five steps of a COPY
_COPY_ROWS, _COPY_BYTES = 10_000, 16 * 1024 * 1024  # of one transaction
# While others claim and give back the very jobs of a repeated put; each try is one to four round trips.
_TRIES = 50


class _Chunk(NamedTuple):
    """What is stored in one transaction."""

    values: dict[str, Any]  # of all its jobs
    uids: Sequence[bytes]
    payloads: Sequence[bytes]
    again: bool  # one of the uids is of fleet's own making, so it was put before


class Puts:
    def __init__(self, runner: Runner, sql: Statements, bell: Bell) -> None:
        self._runner = runner
        self._sql = sql
        self._bell = bell

    def put(self, values: dict[str, Any], uids: Sequence[bytes], payloads: Sequence[bytes]) -> list[int]:
        """
        Store the payloads; *values* are the other parameters of `Statements.put`, the same for all.

        Raises:
            PutUnknown: the connection broke on the way.
            UidConflict: a uid is stored with another payload; its chunk of payloads is not.
            NotSupported: one of fleet's own uids in a caller's transaction that is not READ COMMITTED.
        """
        given = bool(uids)
        again = any(map(may_be_ours, uids))
        uids = uids or fresh(len(payloads))
        ids: list[int] = []
        try:
            if len(payloads) == 1 and not again:
                return [self._put_one(values, uids[0], payloads[0], given)]
            for start, end in _borders(payloads):
                store = self._copy if end - start >= _COPY_FROM else self._insert
                chunk = _Chunk(values, uids[start:end], payloads[start:end], again)
                ids += self._runner.run(partial(store, chunk))
                self._bell.ring([values["pipeline"]], values["delay"])
        except Cut as cut:
            raise PutUnknown(f"{cut}; the job may be stored. Put it again with its uid.", uids) from cut
        except BackendUnavailable as error:
            if not ids or self._runner.joins():
                raise
            text = (
                f"{error}; {len(ids):,} of {len(payloads):,} jobs are stored. Put all again with their uids."
            )
            raise PutUnknown(text, uids) from error
        return ids

    def _put_one(self, values: dict[str, Any], uid: bytes, payload: bytes, given: bool) -> int:
        pipeline, delay = values["pipeline"], values["delay"]
        values = {**values, "uid": uid, "payload": payload}
        now = time.monotonic()
        rings = self._bell.rings(delay) and (
            self._runner.joins() or now - self._bell.rung_at(pipeline) >= DEBOUNCE / 2
        )
        nothing_to_meet = not given and not delay and values["unique"] is None
        store = self._store_fresh if nothing_to_meet else self._store
        id_ = self._runner.run(partial(store, values, rings))
        if rings:
            self._bell.has_rung(pipeline, now)
        elif time.monotonic() - self._bell.rung_at(pipeline) > DEBOUNCE:
            # It had rung just before, so this put did not; but the commit took until nobody looks any more.
            self._bell.ring([pipeline], delay)
        return id_

    def _store_fresh(self, values: dict[str, Any], rings: bool, session: Session) -> int:
        """Half the parameters, and no look into each index for what might be there already."""
        statement = self._sql.put_fresh[rings, session.relaxed]
        return int(self._runner.ask(session, statement, values).fetchall()[0][0])

    def _store(self, values: dict[str, Any], rings: bool, session: Session) -> int:
        for _ in range(_TRIES):
            row = self._runner.ask(session, self._sql.put[rings, session.relaxed], values).fetchone()
            row = row or self._stored(session, values)
            if row is not None:
                return int(row[0])
        raise BackendBusy(f"{self._runner.where}: jobs of the same uid or unique key come and go: try again")

    def _stored(self, session: Session, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """The id of the job that keeps another one out; None when it is gone by now."""
        ids = self._known(session, self._sql.by_uid, {values["uid"]: values["payload"]})
        if ids:
            return (ids[values["uid"]],)
        if values["unique"] is None:
            return None
        return self._runner.ask(session, self._sql.by_unique, values).fetchone()

    def _known(self, session: Session, statement: bytes, payloads: dict[bytes, bytes]) -> dict[bytes, int]:
        """The ids of stored uids; raises UidConflict where the stored payload is another one."""
        ids = {}
        for uid, id_, payload in self._runner.ask(session, statement, {"uids": list(payloads)}):
            if payload != payloads[uid]:
                raise UidConflict(f"job {id_} has this uid and another payload")
            ids[uid] = id_
        return ids

    def _copy(self, chunk: _Chunk, session: Session) -> list[int]:
        values, uids, payloads, again = chunk
        # The ids first, and outside of the transaction: numbers of a sequence are never given back anyway.
        ids, now = self._runner.ask(session, self._sql.next_ids, {"count": len(uids)}).fetchall()[0]
        head = (values["pipeline"], values["state"], values["priority"], values["ttr"], now + values["delay"])
        try:
            with self._runner.atomic(session, self._sql, looks=again):
                with session.cursor.copy(self._sql.copy) as copy:
                    for piece in bulk.rows(*head, ids, uids, payloads):
                        copy.write(piece)
                if again and self._known(session, self._sql.leased, dict(zip(uids, payloads, strict=True))):
                    raise psycopg.Rollback
                return list(ids)
        except pg.UniqueViolation:
            pass
        # Some uid is stored already, so this is the repetition of a put.
        return self._insert(chunk, session)

    def _insert(self, chunk: _Chunk, session: Session) -> list[int]:
        """
        Store what is missing.

        Uids that come *again* are looked for in leased jobs too, which are not in
        the index of uids.  Such a job may be claimed until our row is in the index,
        so the look comes after that.  From then on it stays leased, or goes for
        good: whoever wants to put it back waits for this transaction.  One that had
        gone back before we came is in our way, and one on its way there is waited
        for.
        """
        values, uids, payloads, again = chunk
        wanted = dict(zip(uids, payloads, strict=True))
        if any(wanted[uid] != payload for uid, payload in zip(uids, payloads, strict=True)):
            raise UidConflict("the same uid was given twice, with two payloads")
        for _ in range(_TRIES):
            with self._runner.atomic(session, self._sql, looks=again):
                ids = self._known(session, self._sql.leased, wanted) if again else {}
                missing = {uid: payload for uid, payload in wanted.items() if uid not in ids}
                rows = {**values, "uids": list(missing), "payloads": list(missing.values())}
                stored = dict(self._runner.ask(session, self._sql.put_rows, rows).fetchall())
                if again and self._known(session, self._sql.leased, {uid: wanted[uid] for uid in stored}):
                    raise psycopg.Rollback  # claimed in the meantime: begin again
                ids |= stored
                if len(ids) < len(wanted):
                    rest = {uid: payload for uid, payload in missing.items() if uid not in stored}
                    ids |= self._known(session, self._sql.anywhere if again else self._sql.by_uid, rest)
                if len(ids) < len(wanted) and values["unique"] is not None:  # there is one payload only
                    for (id_,) in self._runner.ask(session, self._sql.by_unique, values):
                        ids[uids[0]] = id_
                if len(ids) < len(wanted):
                    raise psycopg.Rollback
                return [ids[uid] for uid in uids]
        raise BackendBusy(f"{self._runner.where}: jobs of the same uids come and go: try again")


def _borders(payloads: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where each chunk starts and ends."""
    start = size = 0
    for end, payload in enumerate(payloads):
        if end - start >= _COPY_ROWS or size > _COPY_BYTES:
            yield start, end
            start, size = end, 0
        size += len(payload)
    yield start, len(payloads)
