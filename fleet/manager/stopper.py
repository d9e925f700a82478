"""
Stop signals that arrive.

Between fork and exec a child still has supervisord's own handlers, which
swallow a signal; the process would then work on, and be killed in the middle of
a job when its grace is over.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from itertools import islice

from fleet.supervisor import pids
from fleet.supervisor.client import CHUNK, Supervisor
from fleet.supervisor.process import Process, ProcessState

# Seconds: a process that was forked less than this before its signal may not have run its own code yet
# (a child closes `minfds` descriptors first: ten with 20,000 took 0.3 s on two cores) ...
_UNBORN = 0.5
# ... and one that heard the signal without a handler is gone by then.
_HEARD = 1.0


class Stopper:
    """Tells processes (full names) to stop, and again where that was lost; *told* are those told already."""

    def __init__(self, client: Supervisor, told: Iterable[str] = ()) -> None:
        self._client = client
        self._told = dict.fromkeys(told, pids.boot_clock())  # when each full name was last told to stop

    def stop(self, names: Iterable[str]) -> None:
        rest = iter(names)
        while some := tuple(islice(rest, CHUNK)):  # of many, the first are told long before the last
            self._client.stop(some)
            self._told.update(dict.fromkeys(some, pids.boot_clock()))

    def again(self, going: Iterable[Process]) -> None:
        """Repeat what those of *going* may not have heard, as young as they were."""
        now = pids.boot_clock()
        lost = [
            process.full_name
            for process in going
            if process.pid
            and process.state is ProcessState.STOPPING
            and (told := self._told.get(process.full_name, now)) + _HEARD < now
            and pids.born_at(process.pid) + _UNBORN > told
        ]
        if lost:
            signals = self._client.stop_signals()
            for name in lost:
                self._client.signal([name], str(signals.get(name, int(signal.SIGTERM))))
                self._told[name] = now
