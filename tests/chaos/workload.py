"""
A producer process: puts the jobs of `work.groups` and writes down what became of each.

    python -m tests.chaos.workload PLAN.json NUMBER
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from fleet.errors import BackendUnavailable, QueueError
from fleet.queue import Queue, connect
from tests.chaos import planted
from tests.chaos.ledger import Ledger, now, read
from tests.chaos.pace import Gate, Pace
from tests.chaos.work import PIPELINE, Task, groups

_PAUSE = 0.05  # seconds after a failure
_LONGEST = 60.0  # seconds that a put whose outcome is unknown is repeated


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    number = int(sys.argv[2])
    folder = Path(plan["folder"])
    tried = _before(folder, number)
    ledger = Ledger(folder, f"put-{number}-{os.getpid()}")
    queue = _connect(plan["dsn"])
    todo = list(
        groups(plan["seed"], number, plan["jobs"], plan["ttr"], deadly=plan["deadly"], kinds=plan["kinds"])
    )
    leave: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: leave.append(number))
    # Evenly over the whole run, so that every fault meets puts under way.
    step = plan["seconds"] / len(todo)
    left = [(index * step, tasks) for index, tasks in enumerate(todo) if tasks[0].uid not in tried]
    pace = Pace(Gate(folder), at=left[0][0] if left else 0.0)
    for second, tasks in left:
        pace.wait_until(second)
        if leave:
            break
        put(queue, tasks, ledger)
    queue.close()


def _before(folder: Path, number: int) -> set[str]:
    """The uids that an earlier producer of this number has tried before it was killed."""
    return {r["uid"] for r in read(folder, f"put-{number}-") if r["phase"] == "try"}


def put(queue: Queue, tasks: list[Task], ledger: Ledger) -> None:
    """Put one group; repeat it with its uids while the outcome is unknown, where that is safe."""
    repeatable = tasks[0].again and queue.capabilities.uid
    uids = [bytes.fromhex(task.uid) for task in tasks] if repeatable else None
    until = time.monotonic() + _LONGEST
    while True:
        for task in tasks:
            ledger.write(t=now(), phase="try", **task.as_record())
        try:
            phase, why, ids = "accepted", "", _put(queue, tasks, uids)
        except BackendUnavailable as error:  # nothing happened
            phase, why, ids = "rejected", str(error), []
        except QueueError as error:
            phase, why, ids = "unknown", f"{type(error).__name__}: {error}", []
        for index, task in enumerate(tasks):
            ledger.write(t=now(), uid=task.uid, phase=phase, id=ids[index] if ids else None, error=why[:300])
        if phase == "accepted":
            return
        time.sleep(_PAUSE)
        if phase == "rejected" or not repeatable or time.monotonic() > until:
            return


def _put(queue: Queue, tasks: list[Task], uids: list[bytes] | None) -> list[int]:
    first = tasks[0]
    if len(tasks) > 1:
        return queue.put_many(
            PIPELINE,
            [task.payload for task in tasks],
            priority=first.priority,
            delay=first.delay,
            ttr=first.ttr,
            uids=uids,
        )
    number = queue.put(
        PIPELINE,
        first.payload,
        priority=first.priority,
        delay=first.delay,
        ttr=first.ttr,
        uid=uids[0] if uids else None,
    )
    return [number]


def _connect(dsn: str) -> Queue:
    until = time.monotonic() + _LONGEST
    while True:
        try:
            return Queue(planted.infested(connect(dsn).backend))
        except BackendUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
