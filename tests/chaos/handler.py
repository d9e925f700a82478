"""
The handler of a chaos run, and its journal.

`fleet-worker` imports the handler before it opens the queue, so this module can
put a recorder, and a planted bug, between the worker and its back end.  The
worker itself is the one that is shipped.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import fleet.queue.backends
from fleet import Bury, Job
from tests.chaos import clock, planted
from tests.chaos.ledger import Ledger, now
from tests.chaos.recorder import Recorder
from tests.chaos.steps import Trap
from tests.chaos.work import digest

# Jobs that are begun again only because their holder was lost.
_BEGUN_ONCE = ("quick", "slow", "chatty", "late")
_LONGER = 0.6  # of its ttr

FOLDER = Path(os.environ["CHAOS_DIR"])
_journal = Ledger(FOLDER, f"run-{os.getpid()}")
_trap = Trap(FOLDER / "steps")
_open_backend = fleet.queue.backends.open_backend


class Planned(Exception):
    """An error that belongs to the workload."""


def handle(job: Job) -> None:
    plan = job.data
    kind = plan["kind"]
    _note(job, "start", sha=digest(job.payload), attempt=job.attempt, wall=time.time())
    _trap.reach("handler.begun")
    if kind == "deadly" or (kind == "crash" and _is_first_time(plan["uid"])):
        _note(job, "suicide")
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "chatty":
        print("x" * 4000)
    spend = plan["spend"]
    if job.attempt > 1 and kind in _BEGUN_ONCE and plan["uid"][0] in "01234567":
        spend = _LONGER * job.ttr  # so that a zombie comes back while the next holder is at work
    if spend:
        time.sleep(spend)
    if kind == "bury":
        _note(job, "raise")
        raise Bury("planned")
    if kind == "poison" or (kind == "flaky" and _is_first_time(plan["uid"])):
        _note(job, "raise")
        raise Planned(kind)
    _trap.reach("handler.done")
    _note(job, "finish", lost=job.lost)


def _note(job: Job, event: str, **more: object) -> None:
    _journal.write(t=now(), uid=job.data["uid"], token=job.token, pid=os.getpid(), event=event, **more)


def _is_first_time(uid: str) -> bool:
    """True once a job, whatever its back end remembers of earlier attempts."""
    try:
        os.close(os.open(FOLDER / "once" / uid, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _recorded(*arguments: object, **options: object) -> Recorder:
    return Recorder(planted.infested(_open_backend(*arguments, **options)), FOLDER)  # type: ignore[arg-type]


if os.environ.get(clock.VARIABLE):
    clock.install(FOLDER)
fleet.queue.backends.open_backend = _recorded
