"""
kill -9 at a named step: Python imports this module by itself when its folder is on PYTHONPATH.

$FLEET_TEST_KILL_AT names the step.  Nothing of this is in the wheel, and no
line of fleet knows about it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn


def die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def dies_before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """The process is killed when *owner.name* is called and *when* is true of its arguments."""
    real = getattr(owner, name)

    def step(*args: Any, **options: Any) -> Any:
        if when(*args):
            die()
        return real(*args, **options)

    setattr(owner, name, step)


def dies_after(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """The process is killed once *owner.name* is over; *when* is asked of its result, then its arguments."""
    real = getattr(owner, name)

    def step(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        if when(result, *args):
            die()
        return result

    setattr(owner, name, step)


def arm(point: str) -> None:
    from fleet.queue.consumer import Consumer
    from fleet.queue.queue import Queue
    from fleet.worker import hooks

    match point:
        case "claim-not-committed":  # SQLite: the rows are changed, the transaction is open
            from fleet.queue.backends.sqlite.claim import Claims
            from fleet.queue.backends.sqlite.connection import Link

            write = Link.write  # a claim alone is one statement, which commits itself
            Link.write = lambda *args, **how: write(*args, **{**how, "alone": False})
            dies_after(Claims, "_claim", lambda claimed, *_: bool(claimed[0]))
        case "claim-not-sent":
            dies_before(Queue, "exchange", lambda queue, batch, names, limit: limit > 0)
        case "claim-committed":
            dies_after(Queue, "exchange", lambda answer, *_: bool(answer[1]))
        case "handler-running":
            hooks.load_handler = lambda path: die
        case "handler-done":
            dies_before(Consumer, "settle")
        case "ack-not-sent":
            dies_before(Queue, "exchange", lambda queue, batch, names, limit: bool(batch))
        case "ack-not-committed":
            from fleet.queue.backends.sqlite.claim import Claims

            dies_after(Claims, "_settle", lambda verdicts, *_: bool(verdicts))
        case "ack-sent":
            dies_after(Queue, "exchange", lambda answer, queue, batch, *_: bool(batch))
        case "ack-confirmed":
            from fleet.queue.courier import Courier

            dies_after(Courier, "_count", lambda lost, courier, batch, *_: bool(batch))
        case _:
            raise ValueError(point)


if _point := os.environ.get("FLEET_TEST_KILL_AT"):
    arm(_point)
