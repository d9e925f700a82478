"""
python -m fleet.manager.later AT PID COMMAND…: run COMMAND at an instant, unless process PID ends before.

supervisord keeps no such time, and nobody may have to be logged in when it comes.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence

_LOOK_EVERY = 60.0  # seconds: a clock that was set, or a host that slept, is noticed so late


def later(command: Sequence[str], *, at: float, unless_ended: int) -> int:
    """
    Have a process of its own session run *command* at the instant *at*; the pid of that process.

    at            epoch seconds
    unless_ended  a pid; when that process ends first, nothing is run.  0: there is none to watch
    """
    words = [sys.executable, "-m", __name__, repr(at), str(unless_ended), *command]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return process.pid


def _wait(at: float, watched: int | None) -> bool:
    """Until *at*; False as soon as the process behind the descriptor *watched* has ended."""
    while (left := at - time.time()) > 0:
        if watched is None:
            time.sleep(min(left, _LOOK_EVERY))
        elif select.select([watched], [], [], min(left, _LOOK_EVERY))[0]:
            return False
    return True


def main() -> None:
    at, pid, *command = sys.argv[1:]
    try:
        watched = os.pidfd_open(int(pid)) if int(pid) else None
    except ProcessLookupError:
        return
    if _wait(float(at), watched):
        os.execv(command[0], command)  # noqa: S606 - the command line that `later` was given


if __name__ == "__main__":
    main()
