"""What operators, dashboards and importers do with a queue: look, move, count, pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fleet.errors import NotSupported
from fleet.queue.backend import EVERYTHING, Backend, Capabilities
from fleet.queue.causes import ErrorGroup
from fleet.queue.guard import Guard
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse
from fleet.queue.minutes import Minute
from fleet.queue.names import check_delay, check_id, check_pipeline, check_priority, check_ttr


class Operators:
    """The half of `Queue` that puts, reserves and settles nothing."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._guard = Guard(backend)

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    def kick(
        self,
        pipeline: str,
        limit: int | None = None,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> int:
        """
        Make buried jobs ready, oldest first, with a fresh attempt budget; how many.

        *reason* is a pattern in which % stands for any text and _ for one
        character; upper and lower case differ.
        """
        with self._guard():
            return self._backend.kick(check_pipeline(pipeline), _limit(limit), self._filter(reason, ids))

    def discard(
        self,
        pipeline: str,
        state: JobState | Literal["ready", "delayed", "reserved", "buried"],
        limit: int | None = None,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> int:
        """Delete jobs of one state, oldest first, whoever holds them; how many.  See `kick` for *reason*."""
        with self._guard():
            return self._backend.discard(
                check_pipeline(pipeline), JobState(state), _limit(limit), self._filter(reason, ids)
            )

    def release_jobs(
        self,
        pipeline: str,
        state: JobState | Literal["delayed", "reserved"] = JobState.DELAYED,
        limit: int | None = None,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
        force: bool = False,
    ) -> int:
        """
        Make delayed jobs ready now, oldest first; how many.  They keep their attempts.

        Of reserved ones those whose lease is over; with *force* all, as if it
        were: a worker that still has one may do it a second time.
        """
        where = self._filter(reason, ids)
        with self._guard():
            return self._backend.release_jobs(
                check_pipeline(pipeline),
                _one_of("release_jobs", state, JobState.DELAYED, JobState.RESERVED),
                _limit(limit),
                where,
                force=force,
            )

    def bury_jobs(
        self,
        pipeline: str,
        state: JobState | Literal["ready", "delayed"],
        because: str,
        limit: int | None = None,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> int:
        """Put ready or delayed jobs aside, oldest first, with *because* as their reason; how many."""
        where = self._filter(reason, ids)
        with self._guard():
            return self._backend.bury_jobs(
                check_pipeline(pipeline),
                _one_of("bury_jobs", state, JobState.READY, JobState.DELAYED),
                _limit(limit),
                where,
                reason=because.encode(errors="replace").decode(),
            )

    def move_jobs(
        self,
        pipeline: str,
        target: str,
        state: JobState | Literal["ready", "delayed", "buried"],
        limit: int | None = None,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> int:
        """
        Put jobs of one state into the pipeline *target*, oldest first; how many.

        They keep id, priority, payload, state, attempts and reason; one whose
        unique key is taken there stays.  Each job changes in one transaction.
        """
        if pipeline == target:
            raise ValueError(f"move_jobs: {pipeline} is where these jobs are")
        where = self._filter(reason, ids)
        with self._guard():
            return self._backend.move_jobs(
                check_pipeline(pipeline),
                _one_of("move_jobs", state, JobState.READY, JobState.DELAYED, JobState.BURIED),
                _limit(limit),
                where,
                target=check_pipeline(target),
            )

    def peek(
        self,
        pipeline: str,
        state: JobState | Literal["ready", "delayed", "reserved", "buried"],
        limit: int = 1,
        *,
        reason: str | None = None,
        ids: Sequence[int] | None = None,
        above: int | None = None,
    ) -> list[Job]:
        """
        Look at up to *limit* jobs without taking them: ready ones in claim order, others oldest first.

        With *above* those with a higher id, in the order of ids: for going
        through all of them, a page at a time.  Raises NotSupported where the
        server shows one job only.
        """
        if above is not None and not self.capabilities.lists:
            raise NotSupported(
                f"{self._backend.name} shows only the first job of a state, and nobody can go through all "
                "of them: choose jobs by id, or take them all"
            )
        where = self._filter(reason, ids, above)
        with self._guard():
            return self._backend.peek(check_pipeline(pipeline), JobState(state), _limit(limit), where)

    def peek_ready(self, pipeline: str) -> Job | None:
        """The job that the next reserve would get."""
        return _first(self.peek(pipeline, JobState.READY))

    def peek_delayed(self, pipeline: str) -> Job | None:
        """The job that becomes ready next."""
        return _first(self.peek(pipeline, JobState.DELAYED))

    def peek_buried(self, pipeline: str) -> Job | None:
        """The job that the next kick would move."""
        return _first(self.peek(pipeline, JobState.BURIED))

    def find(self, job_id: int) -> Job | None:
        """One job by its id, or None."""
        with self._guard():
            return self._backend.find(check_id(job_id))

    def pause(self, pipeline: str, seconds: float) -> None:
        """Hand out nothing from the pipeline for that long.  Jobs in hand go on."""
        with self._guard():
            self._backend.pause(check_pipeline(pipeline), check_delay(seconds, "seconds"))

    def resume(self, pipeline: str) -> None:
        """End a pause."""
        with self._guard():
            self._backend.pause(check_pipeline(pipeline), 0)

    def stats(self, pipeline: str, *, cap: int = 1_000) -> PipelineStats:
        """Count the jobs of one pipeline, each state up to *cap*: a count that reached it is "at least"."""
        with self._guard():
            return self._backend.stats(check_pipeline(pipeline), cap)

    def pipelines(self) -> list[str]:
        """Names of the pipelines that hold jobs or are paused, sorted."""
        with self._guard():
            return self._backend.pipelines()

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        """
        Store jobs exactly as they are, and *value* under the name *memo*, in one step; for importers.

        Raises:
            UidConflict: an id or uid is taken; nothing was stored.
            NotSupported: the back end makes its ids itself.
        """
        for job in jobs:
            check_pipeline(job.pipeline)
            check_priority(job.priority)
            check_ttr(job.ttr)
            check_delay(job.delay)
        with self._guard():
            self._backend.restore(jobs, memo, value)

    def recall(self, memo: str) -> str | None:
        """What `restore` kept under that name, or None."""
        with self._guard():
            return self._backend.recall(memo)

    def publish(
        self, pulse: Pulse, minutes: Sequence[Minute] = (), errors: Sequence[ErrorGroup] = ()
    ) -> None:
        """Keep what a worker process says of itself, for the dashboard."""
        with self._guard():
            self._backend.publish(pulse, minutes, errors)

    def pulses(self) -> list[Pulse]:
        """The latest pulse of each worker process of the last hour."""
        with self._guard():
            return self._backend.pulses()

    def minutes(self, seconds: float, pipeline: str | None = None) -> list[Minute]:
        """What each worker process did in each of the last minutes, at most two hours back."""
        with self._guard():
            return self._backend.minutes(seconds, pipeline)

    def errors(self, seconds: float, pipeline: str | None = None) -> list[ErrorGroup]:
        """Errors by cause, those that happened in the last *seconds*, the latest first."""
        with self._guard():
            return self._backend.errors(seconds, pipeline)

    def info(self) -> BackendInfo:
        """Server, version, schema and the durability level that is in force."""
        with self._guard():
            return self._backend.info()

    def migrate(self) -> tuple[int, int]:
        """Bring the tables to this version; returns (found, now)."""
        with self._guard():
            return self._backend.migrate()

    def _filter(self, reason: str | None, ids: Sequence[int] | None, above: int | None = None) -> Filter:
        if reason and not self.capabilities.reasons:
            raise NotSupported(f"{self._backend.name} keeps no reasons to choose jobs by")
        if ids is not None and not self.capabilities.filters:
            raise NotSupported(f"{self._backend.name} cannot choose jobs by id")
        chosen = tuple(map(check_id, ids)) if ids is not None else None
        return Filter(ids=chosen, reason=reason or "", above=above)


def _limit(limit: int | None) -> int:
    if limit is None:
        return EVERYTHING
    if type(limit) is not int or limit < 0:
        raise ValueError(f"limit: expected a whole number of at least 0, got {limit!r}")
    return limit


def _one_of(verb: str, state: str, *allowed: JobState) -> JobState:
    if state not in allowed:
        raise ValueError(f"{verb}: the state must be {' or '.join(allowed)}, not {state}")
    return JobState(state)


def _first(jobs: list[Job]) -> Job | None:
    return jobs[0] if jobs else None
