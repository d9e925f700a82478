"""`for job in queue.consume("emails")`: a worker script in three lines."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fleet.queue.consumer import SLICE, Consumer
from fleet.queue.job import Job, Settlement
from fleet.queue.names import check_pipeline

if TYPE_CHECKING:
    from fleet.queue.queue import Queue


def consume(
    queue: Queue, pipelines: Sequence[str], *, idle: float | None = None, pulse: bool | None = None
) -> Iterator[Job]:
    """
    Yield jobs until SIGTERM or SIGINT, then end after the job in hand.

    When the loop body comes back for the next job, the last one is deleted,
    unless the body settled it.  A body that leaves the loop by an exception,
    `break` or `return` releases the job in hand, and the attempt counts: call
    `job.delete()` before a `break`.  In a process that the body forks the loop
    ends when that comes back for the next job.

    pipelines  in strict order: the first is emptied before the next is looked at
    idle       end after that many seconds without a job; None waits for ever
    pulse      publish one every two seconds; None: when supervisord runs us

    The lease is renewed while the body works; `job.lost` turns True when that
    fails.  Signals are only heard when the loop runs in the main thread.  A
    second SIGINT raises KeyboardInterrupt.

    Raises:
        SchemaError, QueueError: what waiting does not heal.  An outage is
            waited out.
    """
    names = tuple(check_pipeline(name) for name in pipelines)
    if not names:
        raise ValueError("consume: expected at least one pipeline")
    return _consume(queue, names, idle, pulse)


def _consume(queue: Queue, names: tuple[str, ...], idle: float | None, pulse: bool | None) -> Iterator[Job]:
    pid = os.getpid()
    notes: deque[str] = deque(maxlen=100)  # the keeper must not wait for somebody's logging handler
    consumer = Consumer(queue, names, pulse=pulse, note=notes.append)
    quiet_since = time.monotonic()
    try:
        with _stopped_by_signals(consumer):
            while not consumer.stopping:
                job = consumer.take(SLICE if idle is None else min(idle, SLICE))
                _log(notes)
                if job is not None:
                    yield from _offer(consumer, job, pid)
                    if os.getpid() != pid:
                        return
                    quiet_since = time.monotonic()
                elif consumer.state == "waiting":
                    quiet_since = time.monotonic()  # a server that is away is not an empty queue
                elif idle is not None and time.monotonic() - quiet_since >= idle:
                    return
    finally:
        if os.getpid() == pid:
            consumer.close()
            _log(notes)


def _offer(consumer: Consumer, job: Job, pid: int) -> Iterator[Job]:
    try:
        yield job
    except BaseException:
        if os.getpid() != pid:
            raise
        if job.settled:
            consumer.forget(job)
        else:
            consumer.settle(Settlement(job=job, verb="release"), failed=True)
        raise
    if os.getpid() != pid:
        return
    if job.settled:
        consumer.forget(job)
    else:
        consumer.settle(Settlement(job=job, verb="delete"))


@contextmanager
def _stopped_by_signals(consumer: Consumer) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return

    def stop(number: int, _: FrameType | None) -> None:
        if consumer.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        consumer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _log(notes: deque[str]) -> None:
    if notes:
        import logging  # a megabyte that a quiet worker script need not load

        while notes:
            logging.getLogger("fleet.queue").warning(notes.popleft())
