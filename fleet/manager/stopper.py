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
# (a child closes `minfds` descriptors first: ten with 20,000 took 0.3 s on two cores), and neither may
# one that was seen without it; on a busy machine that takes longer ...
_UNBORN = 0.5
# ... and one that heard the signal without a handler is gone by then.
_HEARD = 1.0


class Stopper:
    """Tells processes (full names) to stop, and again where that was lost; *told* are those told already."""

    def __init__(self, client: Supervisor, told: Iterable[str] = ()) -> None:
        self._client = client
        self._told = dict.fromkeys(told, pids.boot_clock())  # when each full name was last told to stop
        self._unborn: set[int] = set()  # pids that were seen before they ran their own code

    def stop(self, names: Iterable[str]) -> None:
        rest = iter(names)
        while some := tuple(islice(rest, CHUNK)):  # of many, the first are told long before the last
            self._client.stop(some)
            self._told.update(dict.fromkeys(some, pids.boot_clock()))

    def again(self, going: Iterable[Process]) -> None:
        """Repeat what those of *going* may not have heard, as young as they were."""
        now = pids.boot_clock()
        lost = []
        for process in going:
            if not process.pid:
                continue
            if pids.is_a_fork(process.pid):
                self._unborn.add(process.pid)  # and would not hear it now either
            elif process.state is ProcessState.STOPPING:
                told = self._told.get(process.full_name, now)
                young = process.pid in self._unborn or pids.born_at(process.pid) + _UNBORN > told
                if young and told + _HEARD < now:
                    lost.append(process)
        if lost:
            signals = self._client.stop_signals()
            for process in lost:
                name = process.full_name
                self._client.signal([name], str(signals.get(name, int(signal.SIGTERM))))
                self._told[name] = now
                self._unborn.discard(process.pid or 0)
