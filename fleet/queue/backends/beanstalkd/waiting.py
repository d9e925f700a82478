"""
Waiting for jobs: a blocking reserve, on a connection of its own that holds nothing.

Another thread may put and touch meanwhile, and beanstalkd never answers it
with DEADLINE_SOON.  The job it brings is parked, its lease running, for the
claim that follows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from fleet.queue.backends.beanstalkd.lease import ReservedJob, clock, facts_of
from fleet.queue.backends.beanstalkd.links import Links
from fleet.queue.backends.beanstalkd.protocol import Link, Lost, must
from fleet.queue.backends.beanstalkd.settling import settle_one
from fleet.queue.bell import Bell
from fleet.queue.job import Settlement

_WHOLE = 0.95  # seconds of a wait that may as well end with the server's second
_LATEST = 2.0  # seconds after which that second should be over
_PARKED_FOR = 1.0  # seconds after which nobody will come for a parked job


class Waiting:
    """Reserves ahead of the claim.  `wait` may run beside any other method."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._bell = Bell()
        self._parked: deque[tuple[ReservedJob, float]] = deque()  # and since when

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        """As `Backend.wait`."""
        if self._links.borrowed or not pipelines:
            time.sleep(min(timeout, 0.02))  # the caller's connection cannot be blocked, and has no twin
            return
        if any(job.pipeline in pipelines for job, _ in tuple(self._parked)):
            return
        try:
            link = self._links.idle()
            with link:
                job = self._await(link, pipelines, timeout)
        except (Lost, OSError):
            time.sleep(min(timeout, 0.1))  # the claim that follows will tell
            return
        if job is not None:
            self._parked.append((job, time.monotonic()))
        else:
            self._links.retire(link)

    def interrupt(self) -> None:
        self._bell.ring()

    def _await(self, link: Link, pipelines: Sequence[str], timeout: float) -> ReservedJob | None:
        asked_at = clock()
        link.watch(tuple(pipelines))
        link.send(b"reserve-with-timeout 1\r\n")
        # The server counts whole seconds.  A wait that ends earlier is called off: that costs the connection.
        if not link.has_answer(timeout if timeout < _WHOLE else _LATEST, self._bell.waiting_fd):
            self._bell.wait(0)
            link.half_close()
            link.reserved(1)
            link.close()
            return None
        found = link.reserved(1)
        if not found:
            return None
        id_, body = found[0]
        job = ReservedJob(id_, pipelines[0], body, 0, link, asked_at)
        link.leases[id_] = job
        if len(pipelines) > 1:  # the answer does not say which one
            link.send(b"stats-job %d\r\n" % id_)
            facts = facts_of(must(link.data()))
            job.pipeline = facts.pipeline
            job.know(facts, clock())
        return job

    def fetch(self, pipelines: Sequence[str], limit: int, token: int) -> list[ReservedJob]:
        """Take over the parked jobs of these pipelines, and give back what nobody came for."""
        fetched: list[ReservedJob] = []
        for _ in range(len(self._parked)):
            job, since = self._parked.popleft()
            if not job.is_held():
                continue
            if job.is_over(clock()):  # this process stood still while it came: it may be another's
                job._link.close()
                continue
            if job.pipeline in pipelines and len(fetched) < limit:
                job.token = token
                fetched.append(job)
            elif time.monotonic() - since > _PARKED_FOR:
                self._give_back(job)
            else:
                self._parked.append((job, since))
        return fetched

    def give_back(self) -> None:
        """Release all: ended by its connection, a lease would look like a worker that vanished."""
        while self._parked:
            self._give_back(self._parked.popleft()[0])

    def _give_back(self, job: ReservedJob) -> None:
        settle_one(Settlement(job=job, verb="release", counted=False), self._links)

    def close(self) -> None:
        self._bell.close()
