"""
python -m fleet.queue.rescue PID FD: renews the leases of a process whose interpreter stands still.

Started by the alarm of `fleet.queue.lifeline`, and only by it.  It leaves when
the process has put its alarm off again, which it can do only once its
interpreter runs, or is gone: the leases of a dead worker must run out.
"""

from __future__ import annotations

import os
import select
import sys
import time

from fleet.errors import BackendUnavailable, OutcomeUnknown
from fleet.queue.lifeline import Board
from fleet.queue.outage import Outage
from fleet.queue.queue import Queue, connect

_LOOK_EVERY = 1.0  # seconds between two looks whether the process is back


class Patient:
    """The process whose leases are renewed."""

    def __init__(self, pid: int, fd: int) -> None:
        """Raises OSError when it is gone."""
        self._pidfd = os.pidfd_open(pid)
        self.board = Board(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR))

    def is_still(self, seconds: float = 0.0) -> bool:
        """Wait that long; whether it is alive and has not put its alarm off."""
        return not select.select([self._pidfd], [], [], seconds)[0] and (
            self.board.alarm_at <= time.monotonic()
        )


def rescue(patient: Patient) -> None:
    """
    Renew until the process is back or gone.

    Raises:
        QueueError: something that waiting does not heal.
    """
    outage = Outage()
    queue: Queue | None = None
    while patient.is_still():
        try:
            queue = queue or connect(patient.board.dsn)
            pause = _renew(queue, patient.board)
            outage.end()
        except (BackendUnavailable, OutcomeUnknown) as error:
            outage.begin(error)
            pause = outage.pause()
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and patient.is_still(min(left, _LOOK_EVERY)):
            pass


def _renew(queue: Queue, board: Board) -> float:
    """Seconds until the next renewal.  A job that was settled meanwhile is refused, which is no harm."""
    jobs, _ = board.read()
    if not jobs:
        return _LOOK_EVERY
    verdicts = queue.touch_many(jobs)
    board.renewed([job.expires_at if renewed else 0.0 for job, renewed in zip(jobs, verdicts, strict=True)])
    return min(job.ttr for job in jobs) / 3


def main() -> None:
    pid, fd = map(int, sys.argv[1:])
    try:
        patient = Patient(pid, fd)
    except OSError:
        return  # it is gone
    rescue(patient)


if __name__ == "__main__":
    main()
