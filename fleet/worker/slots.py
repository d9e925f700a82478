"""
Where plain handlers run: the main thread, or several threads.

Each kind of slots has `work`, which returns once the consumer has stopped and
the last job is over; `strike`, which raises an error inside a handler; and
`stack`, which tells where a handler is.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from fleet.queue.job import Job
from fleet.worker import family
from fleet.worker.habits import Habits
from fleet.worker.handler import Handler, check_result
from fleet.worker.log import current_job

# A real-time signal, because handlers may use SIGALRM themselves; macOS has none.
STRIKE = getattr(signal, "SIGRTMIN", signal.SIGALRM)

Take = Callable[[], Job | None]
Ended = Callable[[Job, BaseException | None], None]


class Slots(Protocol):
    def work(self, take: Take, ended: Ended) -> None:
        """Run jobs until *take* gives None; tell *ended* of each, with the error it raised or None."""

    def strike(self, job: Job, error: Exception) -> None:
        """Raise *error* in the handler that runs *job*; nothing happens when it is over by then."""

    def stack(self, job: Job) -> list[str]:
        """Where its handler is, as lines of "file:line function", outermost first."""


class MainThread:
    """One job at a time, in the main thread, where a signal ends even a blocking system call."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._job: Job | None = None
        self._blow: tuple[Job, Exception] | None = None
        self._thread = threading.get_ident()
        self._habits = Habits()
        signal.signal(STRIKE, self._struck)

    def work(self, take: Take, ended: Ended) -> None:
        handler, resume, since = self._handler, self._habits.resume, family.generation
        error: BaseException | None = None
        while (job := take()) is not None:
            self._job = job
            current_job.set(job)
            try:
                try:
                    result = handler(job)
                    if result is not None:
                        check_result(result)
                        result = None
                finally:
                    self._job = None  # a blow that falls from here on is void
            except BaseException as raised:
                self._job = None
                error = raised
            if family.generation != since:
                family.end_child(since, error)
            current_job.set(None)
            resume()
            ended(job, error)
            error = None  # like the result: all that a handler made hangs on it, and the next job may be far

    def strike(self, job: Job, error: Exception) -> None:
        self._blow = (job, error)
        signal.pthread_kill(self._thread, STRIKE)

    def _struck(self, _number: int, _frame: FrameType | None) -> None:
        blow, self._blow = self._blow, None
        if blow is not None and blow[0] is self._job:
            raise blow[1]

    def stack(self, job: Job) -> list[str]:
        return _stack_of(self._thread) if job is self._job else []


class Threads:
    """
    Several plain handlers side by side.

    A blow is an asynchronous exception: it falls between two bytecodes, so a
    thread that waits in a system call is only struck when that returns.
    """

    def __init__(self, handler: Handler, count: int) -> None:
        self._handler = handler
        self._count = count
        self._since = family.generation
        self._lock = threading.Lock()
        self._at: dict[Job, int] = {}  # job -> its thread
        self._struck: set[Job] = set()
        self._failure: BaseException | None = None

    def work(self, take: Take, ended: Ended) -> None:
        threads = [
            threading.Thread(target=self._serve, args=(take, ended), name=f"fleet-slot-{index}", daemon=True)
            for index in range(self._count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1.0)  # in slices, so that the main thread hears signals
        if self._failure is not None:
            raise self._failure

    def _serve(self, take: Take, ended: Ended) -> None:
        try:
            while (job := take()) is not None:
                ended(job, self._run(job))
        except BaseException as failure:  # raised again by `work`, in the main thread
            self._failure = failure

    def _run(self, job: Job) -> BaseException | None:
        error: BaseException | None = None
        me = threading.get_ident()
        current_job.set(job)
        try:
            with self._lock:
                self._at[job] = me
            check_result(self._handler(job))
        except BaseException as raised:
            error = raised
        while job in self._at:
            try:
                family.end_child(self._since, error)
                with self._lock:
                    del self._at[job]
                    if job in self._struck:
                        self._struck.discard(job)
                        _raise_in(me, None)  # a blow that has not fallen yet is void
            except BaseException as raised:  # it fell right here
                error = error or raised
        return error

    def strike(self, job: Job, error: Exception) -> None:
        with self._lock:
            thread = self._at.get(job)
            if thread is not None:
                self._struck.add(job)
                _raise_in(thread, error)

    def stack(self, job: Job) -> list[str]:
        thread = self._at.get(job)
        return _stack_of(thread) if thread is not None else []


def _raise_in(thread: int, error: Exception | None) -> None:
    import ctypes

    # The interpreter makes the exception itself, in the other thread, from a class without arguments.
    raised = None if error is None else ctypes.py_object(_ready_made(error))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _ready_made(error: Exception) -> type[Exception]:
    """A class that looks like the error's own, and whose instances carry its message."""
    kind = type(error)

    def __init__(self: Exception) -> None:
        Exception.__init__(self, *error.args)

    return type(kind.__name__, (kind,), {"__init__": __init__, "__module__": kind.__module__})


def _stack_of(thread: int) -> list[str]:
    frame = sys._current_frames().get(thread)
    if frame is None:
        return []
    import traceback

    stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=12, lookup_lines=False)
    return [f"{entry.filename}:{entry.lineno} {entry.name}" for entry in reversed(stack)]
