"""What workers say about themselves, for commands that wait for them or choose among them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fleet.cli import output
from fleet.cli.context import open_queue
from fleet.errors import FleetError
from fleet.manager.stand_in import stands_in_for

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.job import Pulse
    from fleet.queue.queue import Queue
    from fleet.supervisor.process import Process

_AGAIN = 0.3  # seconds between two looks


class Pulses:
    """
    The latest pulse of each worker, read when it is asked for.

    A queue that does not answer is told once; RUNNING alone counts then, since
    a worker that waits for its queue is as healthy as it can be.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._handlers = {p.group for p in manifest.pipelines.values() if p.handler is not None}
        self._queue: Queue | None = None
        self._found: dict[str, Pulse] = {}
        self._read_at = -_AGAIN
        self._silent = False

    def is_alive(self, process: Process) -> bool:
        """Whether this very process has sent a pulse.  A command sends none, and is taken as alive."""
        if stands_in_for(process.group) not in self._handlers:
            return True
        self._read()
        pulse = self._found.get(process.full_name)
        return self._silent or (pulse is not None and pulse.pid == process.pid)

    def busy_for(self, process: Process) -> float:
        """Seconds that its job has run; 0 for an idle one, and for one that nobody knows of."""
        self._read()
        pulse = self._found.get(process.full_name)
        if pulse is None or pulse.pid != process.pid or pulse.job is None:
            return 0.0
        return pulse.job_for + pulse.age

    def _read(self) -> None:
        if self._silent or time.monotonic() - self._read_at < _AGAIN:
            return
        try:
            if self._queue is None:
                self._queue = open_queue(self._manifest)
            here = os.uname().nodename
            self._found = {pulse.process: pulse for pulse in self._queue.pulses() if pulse.host == here}
        except (FleetError, OSError) as error:
            self._silent = True
            output.warn(f"the queue does not tell which workers are at work ({error}); RUNNING counts alone")
        self._read_at = time.monotonic()
