"""The one interface of every back end, and the flags that tell forced differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet.queue.causes import ErrorGroup
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import Minute

EVERYTHING = 2**31 - 1  # the limit of an operator who gave none


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """
    What a server forces on us.  The contract suite asserts each flag, and docs tells them.

    The defaults are what every SQL back end can do.
    """

    max_payload: int = 1024 * 1024  # bytes
    subsecond: bool = True  # delay and ttr keep fractions; else they are rounded up
    late_settle: bool = True  # an expired lease that nobody re-claimed is still ours
    unique: bool = True  # put(unique=...)
    uid: bool = True  # put(uid=...) again stores nothing twice
    reasons: bool = True  # the reason of a bury or release is kept with the job, to choose by
    filters: bool = True  # kick, discard and peek by id
    lists: bool = True  # peek shows every job of a state, not only the first
    fresh_budget: bool = True  # a kick forgets all earlier attempts; else one failure and one crash of them
    touch_ttr: bool = True  # touch may set another length than the job's ttr
    transactions: bool = True  # put and delete can join the caller's transaction
    tables: bool = True  # pulses, minutes and errors live beside the jobs


class Backend(Protocol):
    """
    A place where jobs live.

    `Queue` has checked every argument.  Seconds are counted by the server's
    clock.  Each method is one atomic step: it happens whole, or it raises.
    A connection that broke is opened again by the next call, with back-off;
    a call that may or may not have happened raises PutUnknown or
    OutcomeUnknown unless the back end can find out by itself.

    Not for several threads at once: `Queue` holds a lock around each call
    except `wait`, which may run beside any other method.
    """

    name: str
    capabilities: Capabilities

    def put(
        self,
        pipeline: str,
        payloads: Sequence[bytes],
        *,
        priority: int,
        delay: float,
        ttr: float,
        uids: Sequence[bytes],
        unique: str | None,
    ) -> list[int]:
        """
        Store one job per payload, durably, and return their ids in order.

        `uids` has one 16-byte id per payload, or none: a back end whose
        connection may die in the middle then makes them itself.  A uid that is
        already stored gives the id of that job and stores nothing; so does the
        `unique` key, which comes with one payload only and covers the jobs of
        this pipeline in any state.

        Raises:
            PutUnknown: the connection died at a moment that leaves it open.
        """
        ...

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        """
        Settle some jobs and claim up to *limit* others, in one step and one round trip.

        The verdicts say, in order, which settlements took effect; False means
        that the lease was lost and nothing changed.  Claims take the most
        urgent job first, then first in first out; the first pipeline is
        emptied before the next is looked at; a paused one is left alone.
        Every claimed job carries *token*, and its `attempt` counts this start.
        Due delayed jobs and jobs whose lease is over are claimable by the
        claim itself; the latter gain one in `crashes`.

        Either part may be empty: ``limit=0`` claims nothing.
        """
        ...

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        """
        Renew leases for *ttr* seconds, or for each job's own; False where the lease was lost.

        Updates `expires_at` of the jobs it renewed.
        """
        ...

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        """
        Return as soon as something may have become ready, or after *timeout* seconds.

        Only a hint: the caller claims again and may find nothing.
        """
        ...

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:
        """
        Store jobs exactly as they are: id, state (not reserved), attempts, crashes, delay, reason, uid.

        In the same step the text *value* is kept under the name *memo*, so
        that an import knows what it has done.

        Raises:
            UidConflict: one of the ids or uids is taken; nothing was stored.
            NotSupported: ids are the server's alone.
        """
        ...

    def recall(self, memo: str) -> str | None:
        """The text kept under that name, or None."""
        ...

    def interrupt(self) -> None:
        """End a `wait` of another thread now, or the next one if none is under way.  May do nothing."""
        ...

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        """
        Make up to *limit* buried jobs ready, oldest first, with a fresh attempt budget.

        Priority is kept.  Returns how many moved.  (beanstalkd: if nothing is
        buried its own kick moves delayed jobs; a back end must not do that.)
        """
        ...

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        """Delete up to *limit* jobs of that state, oldest first, whoever holds them; returns how many."""
        ...

    def release_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, force: bool) -> int:
        """
        Make up to *limit* delayed jobs ready now, oldest first; how many.  Attempts are kept.

        Reserved ones only when their lease is over, or with *force*: as if it
        were.  They gain one in `crashes`, as in a claim that rescues them.
        """
        ...

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:
        """Put up to *limit* ready or delayed jobs aside, oldest first, for *reason*; how many."""
        ...

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:
        """
        Put up to *limit* jobs of any state but reserved into the pipeline *target*, oldest first; how many.

        Everything else about them is kept.  One whose unique key is taken
        there stays.
        """
        ...

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        """Look at jobs without taking them: ready in claim order, others oldest first."""
        ...

    def find(self, job_id: int) -> Job | None:
        """Look at one job by its id."""
        ...

    def pause(self, pipeline: str, seconds: float) -> None:
        """Claim nothing from the pipeline for that long; 0 resumes it."""
        ...

    def stats(self, pipeline: str, cap: int) -> PipelineStats:
        """Count the jobs of one pipeline, each state up to *cap*, without waiting for writers."""
        ...

    def pipelines(self) -> list[str]:
        """Names that hold jobs or are paused, sorted."""
        ...

    def publish(self, pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
        """
        Keep the latest pulse of one process, replace its minutes, and add its errors to those of others.

        One small write that never waits long.  Now and then it also deletes a
        few hundred rows that are too old, so that no table grows for ever.
        """
        ...

    def pulses(self) -> list[Pulse]:
        """The latest pulse of each process that beat within the last hour."""
        ...

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:
        """Rows of the minutes that ended less than *seconds* ago, of all processes, oldest first."""
        ...

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:
        """Groups whose last error is less than *seconds* ago, the latest first, 200 at most."""
        ...

    def migrate(self) -> tuple[int, int]:
        """Bring the tables to this version; (found, now).  Safe when many processes do it at once."""
        ...

    def info(self) -> BackendInfo:
        """Server, version, schema, and the durability level that is really in force."""
        ...

    def close(self) -> None: ...


def clock_ahead(server: float, asked_at: float, answered_at: float) -> float:
    """
    Seconds that a server's clock is ahead of this host's, below 0 if it is behind.

    All three are epoch seconds.  0.0 while its answer lies within the round trip.
    """
    return server - min(max(server, asked_at), answered_at)
