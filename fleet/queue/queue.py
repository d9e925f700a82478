"""Queue: checks arguments once, then speaks to one back end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fleet.errors import LeaseLost, NotSupported
from fleet.queue.job import DEFAULT_PRIORITY, DEFAULT_TTR, Job, Settlement
from fleet.queue.names import (
    check_delay,
    check_pipeline,
    check_priority,
    check_reason,
    check_settlement,
    check_ttr,
    check_uid,
    check_unique,
)
from fleet.queue.operators import Operators
from fleet.queue.payload import encode

_SLICE = 5.0  # seconds: behind every push stands a look at the queue


class Batch(list[Job]):
    """The jobs of one `reserve_many`.  `lost` holds the settled jobs whose lease was over."""

    lost: tuple[Job, ...] = ()


class Queue(Operators):
    """
    Jobs in, jobs out, with one meaning on every back end.

    Safe to use from several threads, though not in a signal handler, which
    may come in the middle of another call.  After a fork the child must open
    its own.  Delays, ttrs and timeouts are seconds, as int or float.
    """

    # -- producers ---------------------------------------------------------

    def put(
        self,
        pipeline: str,
        payload: object,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: float = DEFAULT_TTR,
        unique: str | None = None,
        uid: Any = None,
    ) -> int:
        """
        Store one job durably and return its id.

        *payload* is bytes, or any JSON value.  Priority 0 is most urgent.
        With *unique*, a job of this pipeline that is still stored under that
        key is returned instead of a second one.  *uid* (16 bytes or a
        uuid.UUID) makes a put that may have happened safe to repeat.

        Raises:
            ValueError: an argument out of range; nothing was sent.
            PayloadError, PayloadTooLarge: nothing was sent.
            PutUnknown: the connection died in the middle; repeat with its uid.
            UidConflict: the uid is stored with another payload.
            NotSupported: the back end has no unique keys, or no uids.
        """
        if unique is not None and not self.capabilities.unique:
            raise NotSupported(f"{self._backend.name} has no unique keys")
        if uid is not None and not self.capabilities.uid:
            raise NotSupported(
                f"{self._backend.name} cannot recognise a uid again: a second put may duplicate"
            )
        raw = encode(payload, self.capabilities.max_payload)
        uids = (check_uid(uid),) if uid is not None else ()
        with self._guard():
            return self._backend.put(
                check_pipeline(pipeline),
                (raw,),
                priority=check_priority(priority),
                delay=check_delay(delay),
                ttr=check_ttr(ttr),
                uids=uids,
                unique=check_unique(unique),
            )[0]

    def put_many(
        self,
        pipeline: str,
        payloads: Iterable[object],
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0,
        ttr: float = DEFAULT_TTR,
        uids: Sequence[Any] | None = None,
    ) -> list[int]:
        """
        Store many jobs, in chunks of a few thousand, and return their ids in order.

        Every payload is checked before the first is sent.  Raises as `put`.
        """
        limit = self.capabilities.max_payload
        raw = [encode(payload, limit) for payload in payloads]
        if uids is not None and len(uids) != len(raw):
            raise ValueError(f"uids: expected {len(raw)}, one per payload, got {len(uids)}")
        if not raw:
            check_pipeline(pipeline)
            return []
        fixed = [check_uid(uid) for uid in uids or ()]
        with self._guard():
            return self._backend.put(
                check_pipeline(pipeline),
                raw,
                priority=check_priority(priority),
                delay=check_delay(delay),
                ttr=check_ttr(ttr),
                uids=fixed,
                unique=None,
            )

    # -- workers -----------------------------------------------------------

    def reserve(self, pipelines: str | Sequence[str], timeout: float | None = 0) -> Job | None:
        """
        Lease the most urgent ready job for its ttr; None after *timeout* seconds.

        Several pipelines are served in strict order.  ``timeout=None`` waits
        for ever.

        Raises:
            BackendUnavailable: the server does not answer; a dead server is
                never an empty queue.
        """
        _, jobs = self.exchange((), pipelines, 1, timeout=timeout)
        return jobs[0] if jobs else None

    def reserve_many(
        self,
        pipelines: str | Sequence[str],
        limit: int,
        *,
        timeout: float | None = 0,
        settle: Iterable[Job | Settlement] = (),
    ) -> Batch:
        """
        Lease up to *limit* jobs; settle others in the same round trip.

        Jobs in *settle* are deleted; a `Settlement` says otherwise.  Returns
        as soon as there is at least one job, an empty batch after *timeout*.
        ``batch.lost`` names the settled jobs whose lease was over.
        """
        settlements = [Settlement(s, "delete") if isinstance(s, Job) else check_settlement(s) for s in settle]
        verdicts, jobs = self.exchange(settlements, pipelines, limit, timeout=timeout)
        batch = Batch(jobs)
        if False in verdicts:
            batch.lost = tuple(s.job for s, taken in zip(settlements, verdicts, strict=True) if not taken)
        return batch

    def exchange(
        self,
        settlements: Sequence[Settlement],
        pipelines: str | Sequence[str],
        limit: int,
        *,
        timeout: float | None = 0,
    ) -> tuple[list[bool], list[Job]]:
        """
        Settle and claim in one step: verdicts in order, and up to *limit* jobs.

        A verdict is False where the lease was lost; those jobs have `lost` set.
        """
        names = (pipelines,) if isinstance(pipelines, str) else tuple(pipelines)
        for name in names:
            check_pipeline(name)
        if type(limit) is not int or limit < 0:
            raise ValueError(f"limit: expected a whole number of at least 0, got {limit!r}")
        for settlement in settlements:
            if not settlement.job.token:
                raise _not_held(settlement.job)
        give_up = float("inf") if timeout is None else time.monotonic() + check_delay(timeout, "timeout")
        verdicts: list[bool] = []
        first = True
        while True:
            # The token is made before the question: a claim whose answer was lost can be found again by it.
            # `secrets` would cost 4 MB of OpenSSL.
            token = (int.from_bytes(os.urandom(8), "big") >> 2) + 1 if limit else 0
            with self._guard():
                taken, jobs = self._backend.exchange(settlements if first else (), names, limit, token)
            if first:
                verdicts = taken
                for settlement, ok in zip(settlements, verdicts, strict=True):
                    job = settlement.job
                    job.settled = ok
                    if not ok:
                        job.lost = True
                first = False
            for job in jobs:
                job._queue = self
            if jobs or not limit or timeout == 0:
                return verdicts, jobs
            left = give_up - time.monotonic()
            if left <= 0:
                return verdicts, jobs
            self._backend.wait(names, min(left, _SLICE))

    def wait(self, pipelines: str | Sequence[str], timeout: float) -> None:
        """
        Return when something may have become ready, after *timeout* seconds, or when woken.

        Only a hint, for those who claim with a timeout of 0.
        """
        names = (pipelines,) if isinstance(pipelines, str) else tuple(pipelines)
        self._backend.wait(names, timeout)

    def wake(self) -> None:
        """End a `wait` of another thread, as far as the back end can."""
        self._backend.interrupt()

    def delete(self, job: Job) -> None:
        """Settle a reserved job for good.  Raises LeaseLost."""
        self._settle_one(Settlement(job, "delete"))

    def release(self, job: Job, *, delay: float = 0, priority: int | None = None, reason: str = "") -> None:
        """Give a reserved job back, ready after *delay* seconds; it keeps its place.  Raises LeaseLost."""
        settlement = Settlement(job=job, verb="release", delay=delay, priority=priority, reason=reason)
        self._settle_one(check_settlement(settlement))

    def bury(self, job: Job, reason: str = "") -> None:
        """Put a reserved job aside, with the reason, until it is kicked.  Raises LeaseLost."""
        self._settle_one(Settlement(job=job, verb="bury", reason=check_reason(reason)))

    def touch(self, job: Job, ttr: float | None = None) -> None:
        """
        Renew the lease for another *ttr* seconds, by default the job's own.

        Raises:
            LeaseLost: somebody else has the job, or it is gone; `job.lost` is set.
        """
        if not self.touch_many([job], ttr)[0]:
            raise LeaseLost(f"job {job.id}: the lease is over")

    def touch_many(self, jobs: Sequence[Job], ttr: float | None = None) -> list[bool]:
        """Renew several leases at once; a verdict for each, and `job.lost` set where it is False."""
        if ttr is not None:
            check_ttr(ttr)
        for job in jobs:
            if not job.token:
                raise _not_held(job)
        with self._guard():
            verdicts = self._backend.touch(jobs, ttr)
        for job, renewed in zip(jobs, verdicts, strict=True):
            job.lost = job.lost or not renewed
        return verdicts

    def settle(
        self,
        *,
        deleted: Iterable[Job] = (),
        released: Iterable[Job | tuple[Job, float]] = (),
        buried: Iterable[Job | tuple[Job, str]] = (),
    ) -> list[Job]:
        """
        Settle many jobs in one round trip; returns those whose lease was lost.

        *released* takes jobs or (job, delay), *buried* jobs or (job, reason).
        """
        settlements = [Settlement(job, "delete") for job in deleted]
        for item in released:
            job, delay = (item, 0.0) if isinstance(item, Job) else item
            settlements.append(Settlement(job=job, verb="release", delay=check_delay(delay)))
        for entry in buried:
            job, reason = (entry, "") if isinstance(entry, Job) else entry
            settlements.append(Settlement(job=job, verb="bury", reason=check_reason(reason)))
        verdicts, _ = self.exchange(settlements, (), 0)
        return [s.job for s, taken in zip(settlements, verdicts, strict=True) if not taken]

    def _settle_one(self, settlement: Settlement) -> None:
        job = settlement.job
        if not job.token:
            raise _not_held(job)
        with self._guard():
            verdicts, _ = self._backend.exchange((settlement,), (), 0, 0)
        job.settled = verdicts[0]
        if not verdicts[0]:
            job.lost = True
            raise LeaseLost(f"job {job.id}: the lease is over, so {settlement.verb} changed nothing")

    def consume(self, *pipelines: str, **options: Any) -> Iterator[Job]:
        """
        Yield jobs for ever: a worker script in three lines.

        A job is deleted when the loop asks for the next one, unless the body
        settled it.  SIGTERM and SIGINT end the loop after the job in hand.
        Options are those of `Consumer`.
        """
        from fleet.queue.consume import consume

        return consume(self, pipelines, **options)

    def close(self) -> None:
        self._guard.close()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _not_held(job: Job) -> LeaseLost:
    # Rows that nobody holds have token 0: such a handle must not match them.
    return LeaseLost(f"job {job.id} is not reserved by this handle: it was only looked at")


def connect(
    dsn: str | None = None, *, connection: Any = None, prefix: str | None = None, create: bool = True
) -> Queue:
    """
    Open a queue.

    *dsn* is sqlite:///jobs.db (relative) or sqlite:////srv/jobs.db (absolute),
    postgresql://user@host/db, mysql://user@host/db or beanstalkd://host:port;
    without one, $FLEET_DSN.  *connection* is the caller's own sqlite3, psycopg
    or PyMySQL connection or greenstalk client: verbs then join its open
    transaction, nothing is committed and no table is made there.  *prefix*
    names the tables, "fleet" by default.

    Missing tables are made.  With *create* False they are not, nor is a
    missing SQLite file: `info` tells that there are none, and no other verb
    works.

    Raises:
        DsnError: the DSN cannot be used.
        NoTables: there is no such file; or no table, on a *connection*.
        QueueError: the server cannot be reached, or its tables do not fit.
    """
    from fleet.queue.backends import open_backend

    if dsn is None and connection is None:
        dsn = os.environ.get("FLEET_DSN")
    return Queue(open_backend(dsn, connection=connection, prefix=prefix, create=create))
