"""Peers over PostgreSQL, each with the driver and the settings its own documentation calls fastest."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from benchmarks.contender import BATCH, PIPELINE, Contender, Done, Seen, Unsupported

_CONCURRENCY = 100
_CHUNK = 5_000


def _ignore(_: object) -> None:
    """What a job tells while nobody listens."""


class _Async(Contender):
    """A peer that lives on an event loop of its own, kept between calls."""

    def __init__(self, dsn: str) -> None:
        logging.disable(logging.WARNING)
        try:
            import uvloop

            self._loop = uvloop.new_event_loop()
        except ImportError:
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._dsn = dsn

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)


class Pgqueuer(_Async):
    """asyncpg on uvloop, batches of 100."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._run(self._connect())

    async def _connect(self) -> None:
        import asyncpg
        from pgqueuer import PgQueuer

        self._link = await asyncpg.connect(self._dsn)
        self._app = PgQueuer.from_asyncpg_connection(self._link)
        self._queries = self._app.qm.queries

    def create(self) -> None:
        self._run(self._queries.install())

    def put(self, payloads: Sequence[bytes]) -> None:
        async def each() -> None:
            for payload in payloads:
                await self._queries.enqueue(PIPELINE, payload)

        self._run(each())

    def put_many(self, payloads: Sequence[bytes]) -> None:
        async def chunks() -> None:
            for start in range(0, len(payloads), _CHUNK):
                part = list(payloads[start : start + _CHUNK])
                ids = await self._queries.enqueue([PIPELINE] * len(part), part, [0] * len(part))
                assert len(ids) == len(part)

        self._run(chunks())

    def drain(self, done: Done) -> None:
        @self._app.entrypoint(PIPELINE)
        async def work(job: Any) -> None:
            done(1)

        self._run(self._app.run(batch_size=BATCH))

    def one(self, done: Done) -> None:
        @self._app.entrypoint(PIPELINE)
        async def work(job: Any) -> None:
            done(1)

        self._run(self._app.run(batch_size=1))

    def serve(self, seen: Seen) -> None:
        @self._app.entrypoint(PIPELINE)
        async def work(job: Any) -> None:
            seen(job.payload)

        self._run(self._app.run(batch_size=10))

    def stats(self) -> None:
        self._run(self._queries.queue_size())


class Procrastinate(_Async):
    def __init__(self, dsn: str) -> None:
        import procrastinate

        super().__init__(dsn)
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
        self._seen: Seen = _ignore
        self._done: Done = _ignore

        @self._app.task(name=PIPELINE, queue=PIPELINE)
        async def work(payload: str) -> None:
            self._seen(payload.encode())
            self._done(1)

        self._task = work
        self._run(self._app.open_async())

    def create(self) -> None:
        self._run(self._app.schema_manager.apply_schema_async())

    def put(self, payloads: Sequence[bytes]) -> None:
        async def each() -> None:
            for payload in payloads:
                await self._task.defer_async(payload=payload.decode())

        self._run(each())

    def put_many(self, payloads: Sequence[bytes]) -> None:
        async def chunks() -> None:
            for start in range(0, len(payloads), _CHUNK):
                part = [{"payload": payload.decode()} for payload in payloads[start : start + _CHUNK]]
                await self._task.batch_defer_async(*part)

        self._run(chunks())

    def _work(self, concurrency: int) -> None:
        self._run(
            self._app.run_worker_async(
                queues=[PIPELINE],
                concurrency=concurrency,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        )

    def drain(self, done: Done) -> None:
        self._done = done
        self._work(_CONCURRENCY)

    def one(self, done: Done) -> None:
        self._done = done
        self._work(1)

    def serve(self, seen: Seen) -> None:
        self._seen = seen
        self._work(1)


_seen: Seen = _ignore
_done: Done = _ignore


async def chancy_job(*, payload: str) -> None:
    """Chancy finds its jobs by import path."""
    _seen(base64.b64decode(payload))
    _done(1)


class Chancy(_Async):
    def __init__(self, dsn: str) -> None:
        from chancy import Chancy as App

        super().__init__(dsn)
        logger = logging.getLogger("chancy-bench")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._app = App(dsn, log=logger)
        self._run(self._app.__aenter__())

    def create(self) -> None:
        self._run(self._app.migrate())

    @staticmethod
    def _job(payload: bytes) -> Any:
        from chancy import Job

        where = f"{__name__}.{chancy_job.__name__}"
        return Job(func=where, queue=PIPELINE, kwargs={"payload": base64.b64encode(payload).decode()})

    def put(self, payloads: Sequence[bytes]) -> None:
        async def each() -> None:
            for payload in payloads:
                await self._app.push(self._job(payload))

        self._run(each())

    def put_many(self, payloads: Sequence[bytes]) -> None:
        async def chunks() -> None:
            jobs = [self._job(payload) for payload in payloads]
            async for _ in self._app.push_many(jobs, batch_size=_CHUNK):
                pass

        self._run(chunks())

    def _work(self) -> None:
        from chancy import Queue, Worker

        async def forever() -> None:
            queue = Queue(
                name=PIPELINE,
                concurrency=_CONCURRENCY,
                executor="chancy.executors.asyncex.AsyncExecutor",
                polling_interval=1,
                eager_polling=True,
            )
            await self._app.declare(queue, upsert=True)
            async with Worker(self._app, register_signal_handlers=False) as worker:
                await worker.wait_for_shutdown()

        self._run(forever())

    def drain(self, done: Done) -> None:
        global _done
        _done = done
        self._work()

    def one(self, done: Done) -> None:
        raise Unsupported("takes jobs ahead")

    def serve(self, seen: Seen) -> None:
        global _seen
        _seen = seen
        self._work()
