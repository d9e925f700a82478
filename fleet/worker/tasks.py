"""Where `async def` handlers run: tasks on one event loop, in the main thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fleet.queue.job import Job
from fleet.worker import family
from fleet.worker.habits import Habits
from fleet.worker.handler import Handler
from fleet.worker.log import current_job
from fleet.worker.slots import Ended, Take


class Tasks:
    """
    Up to *count* jobs at once.

    A thread takes the jobs, because taking waits; the loop never does.
    """

    def __init__(self, handler: Handler, count: int) -> None:
        self._handler = handler
        self._since = family.generation
        self._habits = Habits() if count == 1 else None
        self._free = threading.Semaphore(count)
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[Job, asyncio.Task[Any]] = {}
        self._blows: dict[Job, Exception] = {}
        self._no_more = False
        self._over = asyncio.Event()
        self._failure: BaseException | None = None

    def work(self, take: Take, ended: Ended) -> None:
        feeder = threading.Thread(target=self._feed, args=(take, ended), name="fleet-feeder", daemon=True)
        feeder.start()
        try:
            self._loop.run_until_complete(self._over.wait())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
        if self._failure is not None:
            raise self._failure

    def _feed(self, take: Take, ended: Ended) -> None:
        try:
            while True:
                self._free.acquire()
                job = take()
                if job is None:
                    break
                self._loop.call_soon_threadsafe(self._start, job, ended)
        except BaseException as failure:  # raised again by `work`, in the main thread
            self._failure = failure
        self._loop.call_soon_threadsafe(self._end)

    def _start(self, job: Job, ended: Ended) -> None:
        self._tasks[job] = self._loop.create_task(self._run(job, ended))

    async def _run(self, job: Job, ended: Ended) -> None:
        error: BaseException | None = None
        current_job.set(job)  # a task has a context of its own
        try:
            await self._handler(job)
        except BaseException as raised:
            error = raised
        family.end_child(self._since, error)
        if self._habits is not None:
            self._habits.resume()
        del self._tasks[job]
        blow = self._blows.pop(job, None)
        if blow is not None and isinstance(error, asyncio.CancelledError):
            error = blow.with_traceback(error.__traceback__)
        try:
            ended(job, error)
        except BaseException as failure:  # a broken loop must not go on as if nothing had happened
            self._failure = failure
            self._no_more = True
        self._free.release()
        if self._no_more and not self._tasks:
            self._over.set()

    def _end(self) -> None:
        self._no_more = True
        if not self._tasks:
            self._over.set()

    def strike(self, job: Job, error: Exception) -> None:
        """The handler sees `asyncio.CancelledError`, as in any cancelled task."""
        self._loop.call_soon_threadsafe(self._cancel, job, error)

    def _cancel(self, job: Job, error: Exception) -> None:
        task = self._tasks.get(job)
        if task is not None:
            self._blows[job] = error
            # Once it has begun: one that is cancelled before never runs a line, and nobody hears of its end.
            self._loop.call_soon(task.cancel)

    def stack(self, job: Job) -> list[str]:
        task = self._tasks.get(job)
        if task is None:
            return []
        return [
            f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
            for frame in task.get_stack(limit=12)
        ]
