"""What a process that works on jobs says about itself: counters, memory, processor time."""

from __future__ import annotations

import os
import sys
import time
from collections import deque

from fleet.queue.job import Job, Pulse

EVERY = 2.0  # seconds between two pulses
_WINDOW = 60.0  # seconds that the rate looks back
_PAGE = os.sysconf("SC_PAGE_SIZE")


def identity(environ: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """supervisord's name of this process, "group:name", or "pid-4711" when it runs without one."""
    name = environ.get("SUPERVISOR_PROCESS_NAME")
    if not name:
        return f"pid-{os.getpid()}"
    return f"{environ.get('SUPERVISOR_GROUP_NAME') or name}:{name}"


def supervised(environ: dict[str, str] | os._Environ[str] = os.environ) -> bool:
    return bool(environ.get("SUPERVISOR_PROCESS_NAME"))


def resident_bytes() -> int:
    """Memory of this process that is in RAM now, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return _peak_bytes()


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Tally:
    """Counts since the start; `rate` is the jobs finished a second over the last minute."""

    __slots__ = ("_marks", "buried", "crashed", "done", "failed", "finished", "lost", "released")

    def __init__(self) -> None:
        self.done = 0  # settled by delete
        self.failed = 0  # attempts that ended in an error
        self.buried = 0
        self.crashed = 0  # jobs that came with the mark of a worker that vanished
        self.released = 0
        self.lost = 0  # results that were not settled: the lease was gone
        self.finished = 0  # everything that was begun and has ended
        self._marks: deque[tuple[float, int]] = deque(maxlen=int(_WINDOW / EVERY) + 1)

    def rate(self, now: float) -> float:
        """Marks the moment, and compares it with the oldest mark of the window."""
        self._marks.append((now, self.finished))
        then, count = self._marks[0]
        return (self.finished - count) / (now - then) if now > then else 0.0


class Vitals:
    """Builds the pulses of one process."""

    def __init__(self, pipeline: str, tally: Tally) -> None:
        self._pipeline = pipeline
        self._tally = tally
        self.host = os.uname().nodename
        self.process = identity()
        self._started = time.monotonic()
        self._cpu = time.process_time()
        self._at = self._started

    def pulse(self, *, state: str, job: Job | None, job_for: float, note: str) -> Pulse:
        now, cpu = time.monotonic(), time.process_time()
        share = (cpu - self._cpu) / (now - self._at) if now > self._at else 0.0
        self._cpu, self._at = cpu, now
        tally = self._tally
        return Pulse(
            host=self.host,
            process=self.process,
            pid=os.getpid(),
            pipeline=self._pipeline,
            state=state,
            job=job.id if job else None,
            job_for=job_for,
            done=tally.done,
            failed=tally.failed,
            buried=tally.buried,
            crashed=tally.crashed,
            rate=tally.rate(now),
            rss=resident_bytes(),
            cpu=share,
            up=now - self._started,
            note=note,
            clock=round(time.time(), 3),
        )
