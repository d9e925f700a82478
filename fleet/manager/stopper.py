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
# (a child closes `minfds` descriptors first: ten with 20,000 took 0.3 s on two cores; on a busy machine
# it takes longer, and is seen) ...
_UNBORN = 0.5
# ... and one that heard the signal without a handler is gone by then.
_HEARD = 1.0


class Stopper:
    """Tells processes (full names) to stop, and again where that was lost; *told* are those told already."""

    def __init__(self, client: Supervisor, told: Iterable[str] = ()) -> None:
        self._client = client
        self._told = dict.fromkeys(told, pids.boot_clock())  # when each full name was last told to stop
        self._deaf: set[str] = set()  # seen after that, still without code of their own

    def stop(self, names: Iterable[str]) -> None:
        rest = iter(names)
        while some := tuple(islice(rest, CHUNK)):  # of many, the first are told long before the last
            self._client.stop(some)
            self._told.update(dict.fromkeys(some, pids.boot_clock()))

    def again(self, going: Iterable[Process]) -> None:
        """Repeat what those of *going* did not hear, or may not have heard, as young as they were."""
        now = pids.boot_clock()
        lost = []
        for process in going:
            name = process.full_name
            told = self._told.get(name, now)
            if not process.pid or process.state is not ProcessState.STOPPING:
                continue
            if pids.is_unborn(process.pid):
                self._deaf.add(name)
            elif name in self._deaf or (told + _HEARD < now and pids.born_at(process.pid) + _UNBORN > told):
                lost.append(name)
        if lost:
            signals = self._client.stop_signals()
            for name in lost:
                self._client.signal([name], str(signals.get(name, int(signal.SIGTERM))))
                self._told[name] = now
                self._deaf.discard(name)
