"""Peers over one SQLite file, each set to ``synchronous=FULL``, which is fleet's own default."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Done, Seen, Unsupported


class Huey(Contender):
    """Tasks through `SqliteHuey`, run by the call that its worker threads make."""

    def __init__(self, dsn: str) -> None:
        from huey import SqliteHuey

        self._huey = SqliteHuey(filename=dsn.removeprefix("sqlite:///"), results=False, fsync=True)
        self._seen: Seen = lambda payload: None

        @self._huey.task()
        def work(payload: bytes) -> None:
            self._seen(payload)

        self._work = work

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            self._work(each)

    def put_many(self, payloads: Sequence[bytes]) -> None:
        raise Unsupported("no bulk call")

    def fill(self, count: int) -> None:
        _fill_relaxed(self._huey.storage.conn, self.put, count)

    def drain(self, done: Done) -> None:
        while True:
            task = self._huey.dequeue()
            if task is None:
                time.sleep(0.002)
                continue
            self._huey.execute(task)
            done(1)

    one = drain

    def serve(self, seen: Seen) -> None:
        """Its own consumer, one worker thread, polling as it does by default."""
        self._seen = seen
        consumer = self._huey.create_consumer(workers=1, periodic=False)
        consumer.start()
        time.sleep(1e6)


class Litequeue(Contender):
    def __init__(self, dsn: str) -> None:
        from litequeue import LiteQueue

        self._queue = LiteQueue(dsn.removeprefix("sqlite:///"), timeout=10)
        self._queue.conn.execute("PRAGMA synchronous = full")

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            self._queue.put(each.decode())

    def fill(self, count: int) -> None:
        _fill_relaxed(self._queue.conn, self.put, count)

    def drain(self, done: Done) -> None:
        self._work(lambda _: None, done)

    one = drain

    def serve(self, seen: Seen) -> None:
        self._work(seen, lambda _: None)

    def _work(self, seen: Seen, done: Done) -> None:
        while True:
            message = self._queue.pop()
            if message is None:
                time.sleep(0.01)  # it has no wait of its own
                continue
            seen(message.data.encode())
            self._queue.done(message.message_id)
            done(1)


class PersistQueue(Contender):
    """`SQLiteAckQueue`: a get that must be acknowledged."""

    def __init__(self, dsn: str) -> None:
        from persistqueue import SQLiteAckQueue

        path = Path(dsn.removeprefix("sqlite:///"))
        self._queue = SQLiteAckQueue(
            str(path.parent), db_file_name=path.name, multithreading=True, auto_resume=False
        )
        for connection in (self._queue._putter, self._queue._getter):
            connection.execute("PRAGMA synchronous = full")

    def put(self, payloads: Sequence[bytes]) -> None:
        for each in payloads:
            self._queue.put(each)

    def fill(self, count: int) -> None:
        _fill_relaxed(self._queue._putter, self.put, count)

    def drain(self, done: Done) -> None:
        self._work(lambda _: None, done)

    one = drain

    def serve(self, seen: Seen) -> None:
        # Its blocking get waits for an event of this process, so it cannot hear another one's put.
        self._work(seen, lambda _: None)

    def _work(self, seen: Seen, done: Done) -> None:
        from persistqueue import Empty

        while True:
            try:
                item = self._queue.get(block=False)
            except Empty:
                self._queue.total = self._queue._count()  # what other processes have put
                time.sleep(0.01)
                continue
            seen(item)
            self._queue.ack(item)
            done(1)


def _fill_relaxed(db: Any, put: Callable[[Sequence[bytes]], None], count: int) -> None:
    """Store jobs before the measure without a sync for each."""
    from benchmarks.contender import payloads

    db.execute("PRAGMA synchronous = off")
    put(payloads(count))
    db.execute("PRAGMA synchronous = full")
