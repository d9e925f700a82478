"""
The beanstalkd back end: one queue server, many hosts.

A lease belongs to the connection that reserved it, and ends with it.  Any
connection may delete a job that is not reserved, so the server cannot fence a
late delete; the handle does: it refuses once its own deadline has passed, it
was settled, or its connection is gone.  A settle whose answer was lost is a
lost lease, and the job may run again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fleet.errors import BackendUnavailable, NotSupported, PayloadTooLarge, PutUnknown, QueueError
from fleet.queue.backend import Capabilities
from fleet.queue.backends.beanstalkd import puts, server, settling, tubes
from fleet.queue.backends.beanstalkd.lease import ReservedJob, clock, learn
from fleet.queue.backends.beanstalkd.links import Links
from fleet.queue.backends.beanstalkd.protocol import Link, Lost, must, unexpected
from fleet.queue.backends.beanstalkd.sockets import Address
from fleet.queue.backends.beanstalkd.waiting import Waiting
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement
from fleet.queue.minutes import Minute

_CAPABILITIES = Capabilities(
    max_payload=65_535,  # until the server has told its own
    subsecond=False,
    late_settle=False,
    unique=False,
    uid=False,
    reasons=False,
    filters=True,
    lists=False,
    fresh_budget=False,
    touch_ttr=False,
    transactions=False,
    tables=False,
)
_RESERVE = b"reserve-with-timeout 0\r\n"
_FEWEST_RESERVES, _MOST_RESERVES = 4, 1024  # in one send
_LOOKS = 3  # at the front of a tube, when a worker takes it away between the look and the question


class BeanstalkdBackend:
    """`Backend` over own connections, or over the caller's `greenstalk.Client`."""

    name = "beanstalkd"

    def __init__(
        self, address: Address = ("127.0.0.1", 11300), *, connect_timeout: float = 5.0, connection: Any = None
    ) -> None:
        """
        Connect to *address*: host and port, or the path of a unix socket.

        With *connection*, a greenstalk client, everything goes over it; what
        it uses and watches is the same after each call as before.

        Raises:
            BackendUnavailable: nobody answers there.
        """
        self.capabilities = _CAPABILITIES
        self._reserves = _FEWEST_RESERVES
        self._links = Links(address, connect_timeout, connection, self._greet)
        self._waiting = Waiting(self._links)

    def _greet(self, link: Link) -> None:
        """Learn what may change with every start of the server."""
        with link:
            link.send(b"stats\r\n")
            stats = must(link.table())
        self.capabilities = replace(_CAPABILITIES, max_payload=int(stats["max-job-size"]))
        self._log = server.LogWatch(stats)

    # -- put ---------------------------------------------------------------

    def put(
        self,
        pipeline: str,
        payloads: Sequence[bytes],
        *,
        priority: int,
        delay: float,
        ttr: float,
        uids: Sequence[bytes],  # noqa: ARG002 - the server could not recognise one
        unique: str | None,  # noqa: ARG002 - Queue has refused it
    ) -> list[int]:
        head = b"put %d %d %d" % (priority, math.ceil(delay), math.ceil(ttr))
        while True:
            link = self._links.ready()
            if self._log.broken:
                raise BackendUnavailable(f"{self._links.location}: put is refused. {server.STOPPED}")
            ids: list[int] = []
            try:
                with link:
                    refusal = puts.put(link, pipeline, head, payloads, ids, self._log)
            except Lost as lost:
                if lost.sent:
                    raise self._unknown(f"the connection died: {lost}", ids, payloads) from lost
                continue  # not a byte had left
            if self._log.broken:
                raise self._unknown(server.STOPPED, ids, payloads)
            if refusal:
                raise self._refused(refusal, ids, payloads)
            return ids

    def _refused(self, refusal: bytes, ids: list[int], payloads: Sequence[bytes]) -> QueueError:
        too_big = refusal == b"JOB_TOO_BIG"
        if too_big:
            with contextlib.suppress(Lost):
                self._greet(self._links.main)  # the server was started again with a smaller limit
        why = puts.words(refusal)
        if ids or refusal.startswith(b"BURIED "):
            return self._unknown(why, ids, payloads)
        kind = PayloadTooLarge if too_big else BackendUnavailable
        return kind(f"{self._links.location}: {why}. Nothing was stored.")

    def _unknown(self, why: str, ids: list[int], payloads: Sequence[bytes]) -> PutUnknown:
        return PutUnknown(
            f"{self._links.location}: {why}. {len(ids):,} of {len(payloads):,} payloads were stored for "
            "certain; beanstalkd has no uids, so putting the others again may store them twice"
        )

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        if len(settlements) == 1 and not limit:
            return [settling.settle_one(settlements[0], self._links)], []
        verdicts = [False] * len(settlements)
        pending: settling.Orders | None = None
        if settlements:
            orders = settling.orders_of(settlements)
            pending = orders.pop(self._links.main, None)
            for link, theirs in orders.items():
                settling.settle(link, theirs, verdicts)
                self._links.retire(link)
        parked = self._waiting.fetch(pipelines, limit, token)
        claims = limit and pipelines and not parked
        if pending is not None and (not claims or pending.given_back):
            settling.settle(self._links.main, pending, verdicts)
            pending = None
        if parked:
            self._links.adopt(parked[0]._link)
        if not claims:
            return verdicts, [*parked]
        for last in (False, True):
            try:
                link = self._links.ready() if pending is None else self._links.main
                with link:
                    return verdicts, self._claim(link, pending, verdicts, pipelines, limit, token)
            except Lost as lost:
                # What the connection held is ready again: claim anew, unless there are verdicts to tell.
                if settlements:
                    break
                if last:
                    raise self._links.unavailable(lost) from lost
            except BackendUnavailable:
                if not any(verdicts):
                    raise
        return verdicts, []

    def _claim(
        self,
        link: Link,
        orders: settling.Orders | None,
        verdicts: list[bool],
        pipelines: Sequence[str],
        limit: int,
        token: int,
    ) -> list[Job]:
        """Settle and claim, in one round trip when one pipeline has what is asked for."""
        jobs: list[Job] = []
        settle = b"".join(orders.commands) if orders is not None else b""
        leases = link.leases
        for pipeline in pipelines:
            link.watch((pipeline,))
            while True:
                # An empty tube costs an answer for each reserve: ask for about as many as came last time.
                asked = limit - len(jobs)
                if asked > self._reserves:
                    asked = self._reserves
                asked_at = clock()
                link.send(settle + _RESERVE * asked)
                if orders is not None:
                    settling.read_verdicts(link, orders, verdicts)
                    orders, settle = None, b""
                found = link.reserved(asked)
                for id_, body in found:
                    job = ReservedJob(id_, pipeline, body, token, link, asked_at)
                    leases[id_] = job
                    jobs.append(job)
                if len(jobs) == limit:
                    if limit > self._reserves:
                        self._reserves = min(_MOST_RESERVES, limit)
                    return jobs
                if len(found) < asked:
                    self._reserves = max(_FEWEST_RESERVES, 2 * len(jobs))
                    break
                self._reserves = min(_MOST_RESERVES, 2 * self._reserves)
        return jobs

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        if ttr is not None:
            raise NotSupported("beanstalkd renews a lease for the job's own ttr only")
        verdicts = [False] * len(jobs)
        links: dict[Link, list[tuple[int, ReservedJob]]] = {}
        now = clock()
        for index, job in enumerate(jobs):
            if isinstance(job, ReservedJob) and job.is_held() and not job.is_over(now):
                links.setdefault(job._link, []).append((index, job))
        for link, theirs in links.items():
            learn(link)  # the new deadline needs the ttr
            asked_at = clock()
            try:
                with link:
                    link.send(b"".join([b"touch %d\r\n" % job.id for _, job in theirs]))
                    answers = link.lines(len(theirs))
                    for answer in answers:
                        if answer not in (b"TOUCHED", b"NOT_FOUND"):
                            raise unexpected(answer)
            except Lost:
                continue
            for (index, job), answer in zip(theirs, answers, strict=True):
                verdicts[index] = answer == b"TOUCHED"
                if verdicts[index]:
                    job.renewed(asked_at)
                else:
                    link.leases.pop(job.id, None)
        return verdicts

    # -- waiting -----------------------------------------------------------

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        self._waiting.wait(pipelines, timeout)

    def interrupt(self) -> None:
        self._waiting.interrupt()

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        _refuse_reason(where)
        return self._links.once(lambda link: tubes.kick(link, pipeline, limit, where.ids))

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        _refuse_reason(where)
        if state is JobState.RESERVED:
            raise NotSupported("beanstalkd lets nobody but its holder delete a reserved job")
        return self._links.once(lambda link: tubes.discard(link, pipeline, state, limit, where.ids))

    def release_jobs(
        self,
        pipeline: str,
        state: JobState,
        limit: int,
        where: Filter,
        *,
        force: bool,  # noqa: ARG002 - for the Protocol
    ) -> int:
        _refuse_reason(where)
        if state is JobState.RESERVED:
            raise NotSupported(
                "beanstalkd lets nobody but its holder release a reserved job: it is ready again when its "
                "ttr is over, or when the connection of its worker ends"
            )
        return self._links.once(lambda link: tubes.release(link, pipeline, limit, where.ids))

    def bury_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, reason: str) -> int:  # noqa: ARG002
        raise NotSupported(
            "beanstalkd buries reserved jobs only: pause the pipeline, or let a worker reserve and bury them"
        )

    def move_jobs(self, pipeline: str, state: JobState, limit: int, where: Filter, *, target: str) -> int:  # noqa: ARG002
        raise NotSupported(
            "a job of beanstalkd stays in its tube: reserve it here, put its payload there, then delete it"
        )

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        """The first job of that state only: beanstalkd shows no more.  With ids, each of them."""
        _refuse_reason(where)
        if where.ids is None and state is JobState.RESERVED:
            raise NotSupported("beanstalkd shows reserved jobs by their id only")
        for _ in range(_LOOKS if limit else 0):
            jobs = self._links.again(lambda link: tubes.peek(link, pipeline, state, where.ids))
            if jobs or where.ids is not None:
                return jobs[:limit]
        return []

    def find(self, job_id: int) -> Job | None:
        return self._links.again(lambda link: tubes.find(link, job_id))

    def pause(self, pipeline: str, seconds: float) -> None:
        self._links.once(lambda link: tubes.pause(link, pipeline, seconds))
        if seconds and not self._links.borrowed:
            self._links.remember(pipeline)

    def stats(self, pipeline: str, cap: int) -> PipelineStats:  # noqa: ARG002 - counters are exact
        return self._links.again(lambda link: tubes.stats(link, pipeline))

    def pipelines(self) -> list[str]:
        return self._links.again(tubes.names)

    def publish(
        self,
        pulse: Pulse,  # noqa: ARG002 - for the Protocol
        minutes: Sequence[Minute],  # noqa: ARG002
        errors: Sequence[ErrorGroup],  # noqa: ARG002
    ) -> None:
        raise NotSupported("beanstalkd has no tables to keep a pulse in")

    def minutes(self, seconds: float, pipeline: str | None) -> list[Minute]:  # noqa: ARG002
        raise NotSupported("beanstalkd has no tables to keep minutes in")

    def errors(self, seconds: float, pipeline: str | None) -> list[ErrorGroup]:  # noqa: ARG002
        raise NotSupported("beanstalkd has no tables to keep errors in")

    def pulses(self) -> list[Pulse]:
        raise NotSupported("beanstalkd has no tables to keep pulses in")

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:  # noqa: ARG002 - for the Protocol
        raise NotSupported("beanstalkd gives every job an id of its own")

    def recall(self, memo: str) -> str | None:  # noqa: ARG002 - for the Protocol
        raise NotSupported("beanstalkd has no tables to remember something in")

    def migrate(self) -> tuple[int, int]:
        raise NotSupported("beanstalkd has no tables to migrate")

    def info(self) -> BackendInfo:
        def ask(link: Link) -> BackendInfo:
            link.send(b"stats\r\n")
            stats = must(link.table())
            durability, notes = server.judge(stats, self._log.broken, link.is_local())
            return BackendInfo(
                backend=self.name,
                version=stats["version"],
                location=self._links.location,
                durability=durability,
                notes=tuple(notes),
            )

        return self._links.again(ask)

    def close(self) -> None:
        self._waiting.give_back()
        self._links.close()
        self._waiting.close()


def _refuse_reason(where: Filter) -> None:
    if where.reason:
        raise NotSupported("beanstalkd keeps no reasons to choose by")
