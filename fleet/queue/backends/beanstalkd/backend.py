"""
The beanstalkd back end: one queue server, many hosts.

A lease belongs to the connection that reserved it, and ends with it.  Any
connection may delete a job that is not reserved, so the server cannot fence a
late delete; the handle does: it refuses once its own deadline has passed, it
was settled, or its connection is gone.  A settle whose answer was lost is a
lost lease, and the job may run again.

Waiting is a blocking reserve, on a connection of its own that holds nothing:
another thread may put and touch meanwhile, and beanstalkd never answers it
with DEADLINE_SOON.  The job it brings is parked, its lease running, for the
claim that follows.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fleet.errors import (
    BackendUnavailable,
    NotSupported,
    OutcomeUnknown,
    PayloadTooLarge,
    PutUnknown,
    QueueError,
)
from fleet.queue.backend import Capabilities
from fleet.queue.backends.beanstalkd.durability import STOPPED, LogWatch, level_of
from fleet.queue.backends.beanstalkd.lease import Facts, ReservedJob, facts_of, learn
from fleet.queue.backends.beanstalkd.protocol import (
    Address,
    BorrowedLink,
    Link,
    Lost,
    dial,
    parse_list,
    unexpected,
)
from fleet.queue.bell import Bell
from fleet.queue.job import BackendInfo, Filter, Job, JobState, PipelineStats, Pulse, Settlement

T = TypeVar("T")
Orders = tuple[list[int], list[bytes]]  # the places of the verdicts, and the commands

_log = logging.getLogger(__name__)

_CAPABILITIES = Capabilities(
    max_payload=65_535,  # until the server has told its own
    subsecond=False,
    late_settle=False,
    unique=False,
    uid=False,
    auto_uid=False,
    reasons=False,
    filters=True,
    fresh_budget=False,
    uncounted_release=False,
    touch_ttr=False,
    transactions=False,
    tables=False,
)
_NOTHING: Orders = ([], [])
_RESERVE = b"reserve-with-timeout 0\r\n"
_PUT_COMMANDS = 500  # in one send
_PUT_BYTES = 256 * 1024  # in one send
_FEWEST_RESERVES, _MOST_RESERVES = 4, 1024  # in one send
_IDLE_LINKS = 2  # kept for the next wait
_UNHEARD = 0.05  # seconds of silence after which a connection is looked at before it is used
_WHOLE = 0.95  # seconds of a wait that may as well end with the server's second
_LATEST = 2.0  # seconds after which that second should be over
_PARKED_FOR = 1.0  # seconds after which nobody will come for a parked job
_LOOKS = 3  # at the front of a tube, when a worker takes it away between the look and the question
_BACK_OFF = (0.05, 1.0)  # seconds between two attempts to connect: the first, the longest
_SETTLED = (b"DELETED", b"RELEASED", b"BURIED")
_PEEK = {
    JobState.READY: b"peek-ready\r\n",
    JobState.DELAYED: b"peek-delayed\r\n",
    JobState.BURIED: b"peek-buried\r\n",
}


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
        self._address = connection._address if connection is not None else address
        self._connect_timeout = connect_timeout
        self._borrowed = connection is not None
        self._closed = False
        self._links: set[Link] = set()  # all that are open
        self._idle: deque[Link] = deque()  # of these, those that hold and await nothing
        self._parked: deque[tuple[ReservedJob, float]] = deque()  # and since when
        self._watcher: Link | None = None  # of paused tubes; reserves nothing
        self._reserves = _FEWEST_RESERVES
        self._bell = Bell()
        try:
            self._main = BorrowedLink(connection) if self._borrowed else self._open()
            self._greet()
        except (OSError, Lost) as error:
            self.close()
            raise self._unavailable(error) from error

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
            link = self._ready()
            if self._written.broken:
                raise BackendUnavailable(f"{self.location}: put is refused. {STOPPED}")
            ids: list[int] = []
            try:
                with link:
                    refusal = self._put(link, pipeline, head, payloads, ids)
            except Lost as lost:
                if lost.sent:
                    raise self._put_unknown(ids, payloads, f"the connection died: {lost}") from lost
                continue  # not a byte had left
            if self._written.broken:
                raise self._put_unknown(ids, payloads, STOPPED)
            if refusal:
                raise self._refused(refusal, ids, payloads)
            return ids

    def _put(
        self, link: Link, pipeline: str, head: bytes, payloads: Sequence[bytes], ids: list[int]
    ) -> bytes:
        """Send all, a chunk ahead of the answers: the server is never idle.  The first refusal, or b""."""
        look = self._written.is_due()
        link.use(pipeline)
        if len(payloads) == 1 and not look:
            link.send(b"%b %d\r\n%b\r\n" % (head, len(payloads[0]), payloads[0]))
            refusal = _take_ids((link.line(),), ids)
            self._written.stored += len(ids)
            return refusal
        refusal, unread = b"", 0
        for chunk in _chunks(payloads):
            link.send(b"".join([b"%b %d\r\n%b\r\n" % (head, len(raw), raw) for raw in chunk]))
            if unread:
                refusal = _take_ids(link.lines(unread), ids)
            unread = len(chunk)
            if refusal:
                break
        if look:
            link.send(b"stats\r\n")
        refusal = _take_ids(link.lines(unread), ids) or refusal
        self._written.stored += len(ids)
        if look:
            self._written.look(_must(link.table()))
        return refusal

    def _refused(self, refusal: bytes, ids: list[int], payloads: Sequence[bytes]) -> QueueError:
        if refusal == b"JOB_TOO_BIG":
            self._greet()  # the server was started again with a smaller limit
        why = _REFUSALS.get(refusal, "")
        if refusal.startswith(b"BURIED "):
            why = (
                f"job {int(refusal[7:])} was stored buried, because the server has no memory left or could "
                "not write its log"
            )
        elif not ids:
            kind = PayloadTooLarge if refusal == b"JOB_TOO_BIG" else BackendUnavailable
            return kind(f"{self.location}: {why}. Nothing was stored.")
        return self._put_unknown(ids, payloads, why)

    def _put_unknown(self, ids: list[int], payloads: Sequence[bytes], why: str) -> PutUnknown:
        return PutUnknown(
            f"{self.location}: {why}. {len(ids):,} of {len(payloads):,} payloads were stored for certain; "
            "beanstalkd has no uids, so putting the others again may store them twice"
        )

    # -- settle and claim --------------------------------------------------

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        verdicts = [False] * len(settlements)
        pending = _NOTHING
        if settlements:
            orders = self._orders(settlements)
            pending = orders.pop(self._main, _NOTHING)
            for link, theirs in orders.items():
                self._settle(link, theirs, verdicts)
                self._retire(link)
        parked = self._fetch(pipelines, limit, token) if self._parked else []
        if parked or not limit or not pipelines:
            if pending is not _NOTHING:
                self._settle(self._main, pending, verdicts)
            self._adopt(parked)
            return verdicts, parked
        for last in (False, True):
            try:
                link = self._ready() if pending is _NOTHING else self._main
                with link:
                    return verdicts, self._claim(link, pending, verdicts, pipelines, limit, token)
            except Lost as lost:
                # What the connection held is ready again: claim anew, unless there are verdicts to tell.
                if settlements:
                    break
                if last:
                    raise self._unavailable(lost) from lost
            except BackendUnavailable:
                if not any(verdicts):
                    raise
        return verdicts, []

    def _orders(self, settlements: Sequence[Settlement]) -> dict[Link, Orders]:
        """What the fence lets pass, by connection."""
        orders: dict[Link, Orders] = {}
        now = time.monotonic()
        for index, settlement in enumerate(settlements):
            job = settlement.job
            if not isinstance(job, ReservedJob) or not job.is_held():
                continue
            link = job._link
            command = b"delete %d\r\n" % job.id if settlement.verb == "delete" else _put_back(settlement)
            over = job.is_over(now)
            if link.leases.pop(job.id, None) is None or over:
                continue
            theirs = orders.get(link)
            if theirs is None:
                theirs = orders[link] = ([], [])
            theirs[0].append(index)
            theirs[1].append(command)
        return orders

    def _settle(self, link: Link, orders: Orders, verdicts: list[bool]) -> None:
        try:
            with link:
                link.send(b"".join(orders[1]))
                _read_verdicts(link, orders, verdicts)
        except Lost as lost:
            _log.warning("settle_lost jobs=%d why=%r", len(orders[0]), str(lost))

    def _claim(
        self,
        link: Link,
        orders: Orders,
        verdicts: list[bool],
        pipelines: Sequence[str],
        limit: int,
        token: int,
    ) -> list[Job]:
        """Settle and claim, in one round trip when one pipeline has what is asked for."""
        jobs: list[Job] = []
        settle = b"".join(orders[1])
        leases = link.leases
        for pipeline in pipelines:
            link.watch((pipeline,))
            while True:
                # An empty tube costs an answer for each reserve: ask for about as many as came last time.
                asked = min(limit - len(jobs), self._reserves)
                asked_at = time.monotonic()
                link.send(settle + _RESERVE * asked)
                if settle:
                    _read_verdicts(link, orders, verdicts)
                    settle = b""
                found = link.reserved(asked)
                for id_, body in found:
                    job = ReservedJob(id_, pipeline, body, token, link, asked_at)
                    leases[id_] = job
                    jobs.append(job)
                if len(jobs) == limit:
                    self._reserves = min(_MOST_RESERVES, max(self._reserves, limit))
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
        now = time.monotonic()
        for index, job in enumerate(jobs):
            if isinstance(job, ReservedJob) and job.is_held() and not job.is_over(now):
                links.setdefault(job._link, []).append((index, job))
        for link, theirs in links.items():
            learn(link)  # the new deadline needs the ttr
            asked_at = time.monotonic()
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
        if self._borrowed or not pipelines:
            time.sleep(min(timeout, 0.02))  # the caller's connection cannot be blocked, and has no twin
            return
        if any(job.pipeline in pipelines for job, _ in tuple(self._parked)):
            return
        try:
            link = self._idle_link()
            with link:
                job = self._await(link, pipelines, timeout)
        except (Lost, OSError):
            time.sleep(min(timeout, 0.1))  # the claim that follows will tell
            return
        if job is not None:
            self._parked.append((job, time.monotonic()))
        else:
            self._retire(link)

    def interrupt(self) -> None:
        self._bell.ring()

    def _await(self, link: Link, pipelines: Sequence[str], timeout: float) -> ReservedJob | None:
        asked_at = time.monotonic()
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
            facts = facts_of(_must(link.data()))
            job.pipeline = facts.pipeline
            job.know(facts, time.monotonic())
        return job

    def _fetch(self, pipelines: Sequence[str], limit: int, token: int) -> list[Job]:
        """Take over the parked jobs of these pipelines, and give back what nobody came for."""
        fetched: list[Job] = []
        for _ in range(len(self._parked)):
            job, since = self._parked.popleft()
            if job._link.closed:
                continue
            if job.pipeline in pipelines and len(fetched) < limit:
                job.token = token
                fetched.append(job)
            elif time.monotonic() - since > _PARKED_FOR:
                back = Settlement(job=job, verb="release")
                for link, orders in self._orders([back]).items():
                    self._settle(link, orders, [False])
                    self._retire(link)
            else:
                self._parked.append((job, since))
        return fetched

    def _adopt(self, parked: list[Job]) -> None:
        """Go on over the connection that brought a job: its settle and the next claim travel as one."""
        if parked and (self._main.closed or not self._main.leases):
            assert isinstance(parked[0], ReservedJob)  # noqa: S101 - for the type checker
            old, self._main = self._main, parked[0]._link
            self._retire(old)

    # -- operators ---------------------------------------------------------

    def kick(self, pipeline: str, limit: int, where: Filter) -> int:
        return self._move(pipeline, JobState.BURIED, limit, where, b"kick-job %d\r\n", b"KICKED")

    def discard(self, pipeline: str, state: JobState, limit: int, where: Filter) -> int:
        if state is JobState.RESERVED:
            raise NotSupported("beanstalkd lets nobody but its holder delete a reserved job")
        return self._move(pipeline, state, limit, where, b"delete %d\r\n", b"DELETED")

    def _move(
        self, pipeline: str, state: JobState, limit: int, where: Filter, command: bytes, done: bytes
    ) -> int:
        """
        Carry out *command* on jobs of one state, one after the other; returns how many.

        Not the server's own ``kick N``: once nothing is buried it moves delayed
        jobs.  By id this can happen to one job, if others kick it, reserve it
        and release it with a delay between our look and our command.
        """
        _refuse_reason(where)

        def by_id(link: Link) -> int:
            chosen = [
                id_ for id_, _, facts in self._look(link, where.ids or ()) if _is(facts, pipeline, state)
            ]
            link.send(b"".join([command % id_ for id_ in chosen[:limit]]))
            return sum([_answered(link, done) for _ in chosen[:limit]])

        def from_the_front(link: Link) -> int:
            link.use(pipeline)
            link.send(b"stats-tube %b\r\n" % pipeline.encode() + _PEEK[state])
            # No more than there are now: jobs that are buried again meanwhile must not make this endless.
            count = int(_must(link.table())[f"current-jobs-{state}"])
            moved = 0
            for _ in range(min(limit, count)):
                front = link.found()
                if front is None:
                    return moved
                link.send(command % front[0] + _PEEK[state])
                moved += _answered(link, done)
            link.found()
            return moved

        return self._once(by_id if where.ids is not None else from_the_front)

    def peek(self, pipeline: str, state: JobState, limit: int, where: Filter) -> list[Job]:
        """The first job of that state only: beanstalkd shows no more.  With ids, each of them."""
        _refuse_reason(where)
        if where.ids is None and state is JobState.RESERVED:
            raise NotSupported("beanstalkd shows reserved jobs by their id only")

        def front(link: Link) -> list[int]:
            link.use(pipeline)
            link.send(_PEEK[state])
            found = link.found()
            return [found[0]] if found else []

        def look(link: Link) -> list[Job]:
            ids = where.ids if where.ids is not None else front(link)
            seen = self._look(link, ids)
            return [_job(*one) for one in seen if _is(one[2], pipeline, state)]

        for _ in range(_LOOKS if limit else 0):
            jobs = self._again(look)
            if jobs or where.ids is not None:
                return jobs[:limit]
        return []

    def find(self, job_id: int) -> Job | None:
        seen = self._again(lambda link: self._look(link, (job_id,)))
        return _job(*seen[0]) if seen else None

    def _look(self, link: Link, ids: Sequence[int]) -> list[tuple[int, bytes, Facts]]:
        """Body and facts of those ids that exist."""
        asked = [id_ for id_ in ids if 0 <= id_ < 2**64]
        link.send(b"".join([b"peek %d\r\nstats-job %d\r\n" % (id_, id_) for id_ in asked]))
        answers = [(link.found(), link.data()) for _ in asked]
        return [(*found, facts_of(data)) for found, data in answers if found and data]

    def pause(self, pipeline: str, seconds: float) -> None:
        """
        Pause the tube for whole seconds.

        The server forgets a tube that holds nothing and that nobody uses or
        watches, and its pause with it.  This process watches it from here on.
        """

        def pause(link: Link) -> None:
            link.use(pipeline)  # makes the tube, which must exist
            link.send(b"pause-tube %b %d\r\n" % (pipeline.encode(), math.ceil(seconds)))
            link.expect(b"PAUSED")

        self._once(pause)
        if seconds and not self._borrowed:
            with contextlib.suppress(Lost, OSError):
                self._remember(pipeline)

    def _remember(self, pipeline: str) -> None:
        if self._watcher is None or self._watcher.closed:
            self._watcher = self._open()
        with self._watcher as link:
            link.watch((*link.watched, pipeline))
            link.send(b"list-tube-used\r\n")
            link.line()

    def stats(self, pipeline: str, cap: int) -> PipelineStats:  # noqa: ARG002 - counters are exact
        return self._again(lambda link: self._stats(link, pipeline))

    def _stats(self, link: Link, pipeline: str) -> PipelineStats:
        link.send(b"stats-tube %b\r\n" % pipeline.encode())
        tube = link.table()
        if tube is None:
            return PipelineStats(pipeline=pipeline, ready=0, delayed=0, reserved=0, buried=0, stale=0)
        oldest = None
        ready = int(tube["current-jobs-ready"])
        if ready:
            oldest = 0.0
            link.use(pipeline)
            link.send(_PEEK[JobState.READY])
            found = link.found()
            if found:
                link.send(b"stats-job %d\r\n" % found[0])
                data = link.data()
                facts = facts_of(data) if data else None
                oldest = float(max(0, facts.age - facts.delay)) if facts else 0.0
        return PipelineStats(
            pipeline=pipeline,
            ready=ready,
            delayed=int(tube["current-jobs-delayed"]),
            reserved=int(tube["current-jobs-reserved"]),
            buried=int(tube["current-jobs-buried"]),
            stale=0,  # the server makes a job ready in the moment its lease is over
            oldest_ready=oldest,
            paused=_pause_left(tube),
        )

    def pipelines(self) -> list[str]:
        def names(link: Link) -> list[str]:
            link.send(b"list-tubes\r\n")
            tubes = parse_list(_must(link.data()))
            link.send(b"".join([b"stats-tube %b\r\n" % tube.encode() for tube in tubes]))
            tables = [(tube, link.table()) for tube in tubes]
            return sorted(tube for tube, table in tables if table and (_holds(table) or _pause_left(table)))

        return self._again(names)

    def publish(self, pulse: Pulse) -> None:  # noqa: ARG002 - for the Protocol
        raise NotSupported("beanstalkd has no tables to keep a pulse in")

    def pulses(self) -> list[Pulse]:
        raise NotSupported("beanstalkd has no tables to keep pulses in")

    def restore(self, jobs: Sequence[Job], memo: str, value: str) -> None:  # noqa: ARG002 - for the Protocol
        raise NotSupported("beanstalkd gives every job an id of its own")

    def recall(self, memo: str) -> str | None:  # noqa: ARG002 - for the Protocol
        raise NotSupported("beanstalkd has no tables to remember something in")

    def migrate(self) -> tuple[int, int]:
        raise NotSupported("beanstalkd has no tables to migrate")

    def info(self) -> BackendInfo:
        def info(link: Link) -> BackendInfo:
            link.send(b"stats\r\n")
            stats = _must(link.table())
            durability, notes = level_of(stats, self._written.broken, link.is_local())
            if stats["draining"] == "true":
                notes.append("It is draining (SIGUSR1) and takes no new jobs until it is restarted.")
            return BackendInfo(
                backend=self.name,
                version=stats["version"],
                location=self.location,
                durability=durability,
                notes=tuple(notes),
            )

        return self._again(info)

    # -- connections -------------------------------------------------------

    @property
    def location(self) -> str:
        if isinstance(self._address, str):
            return f"beanstalkd://?unix_socket={self._address}"
        host, port = self._address[:2]
        return f"beanstalkd://[{host}]:{port}" if ":" in host else f"beanstalkd://{host}:{port}"

    def close(self) -> None:
        self._closed = True
        for link in tuple(self._links):
            link.close()
        self._bell.close()

    def _open(self) -> Link:
        link = Link(dial(self._address, self._connect_timeout))
        self._links = {each for each in self._links if not each.closed} | {link}
        return link

    def _greet(self) -> None:
        """Learn what may change with every start of the server."""
        with self._main as link:
            link.send(b"stats\r\n")
            stats = _must(link.table())
        self.capabilities = replace(_CAPABILITIES, max_payload=int(stats["max-job-size"]))
        self._written = LogWatch(stats)

    def _ready(self) -> Link:
        """The main connection, opened again when it broke: with back-off, for connect_timeout seconds."""
        link = self._main
        if not link.closed and (time.monotonic() - link.spoke_at < _UNHEARD or link.is_alive()):
            return link
        if self._closed or self._borrowed:
            whose = "this queue" if self._closed else "the caller's greenstalk client"
            raise BackendUnavailable(f"{self.location}: {whose} is closed")
        give_up = time.monotonic() + self._connect_timeout
        pause, longest = _BACK_OFF
        while True:
            try:
                self._main = self._open()
                self._greet()
                return self._main
            except (OSError, Lost) as error:
                pause = min(longest, pause * 2) * random.uniform(0.5, 1)  # noqa: S311 - jitter
                if time.monotonic() + pause > give_up:
                    raise self._unavailable(error) from error
                time.sleep(pause)

    def _idle_link(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if not link.closed and link.is_alive():
                return link
        return self._open()

    def _retire(self, link: Link) -> None:
        """Keep a connection that holds nothing for the next wait, or close it."""
        if link.closed or link is self._main or link.leases:
            return
        if len(self._idle) < _IDLE_LINKS:
            self._idle.append(link)
        else:
            link.close()

    def _again(self, read: Callable[[Link], T]) -> T:
        """Carry out a read, and once more on a new connection when this one broke."""
        try:
            with self._ready() as link:
                return read(link)
        except Lost:
            pass
        try:
            with self._ready() as link:
                return read(link)
        except Lost as lost:
            raise self._unavailable(lost) from lost

    def _once(self, verb: Callable[[Link], T]) -> T:
        """Carry out a verb that must not be repeated unless nothing of it had left."""
        try:
            with self._ready() as link:
                return verb(link)
        except Lost as lost:
            if lost.sent:
                raise OutcomeUnknown(
                    f"{self.location}: {lost}; the call may have taken effect. Running it again is safe."
                ) from lost
        return self._once(verb)

    def _unavailable(self, error: Exception) -> BackendUnavailable:
        words = getattr(error, "strerror", None) or str(error)
        return BackendUnavailable(
            f"{self.location}: {words}. Check that beanstalkd runs and listens there, and try again."
        )


_REFUSALS = {
    b"DRAINING": "beanstalkd is draining (it got SIGUSR1) and takes no new jobs until it is started again",
    b"OUT_OF_MEMORY": "beanstalkd has no memory left, or no room for its log",
    b"JOB_TOO_BIG": "a payload has more bytes than beanstalkd takes (-z)",
}


def _chunks(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Pieces that travel in one send."""
    if len(payloads) == 1:
        yield payloads
        return
    first = size = 0
    for index, payload in enumerate(payloads):
        if index - first == _PUT_COMMANDS or (index > first and size + len(payload) > _PUT_BYTES):
            yield payloads[first:index]
            first, size = index, 0
        size += len(payload)
    yield payloads[first:]


def _take_ids(answers: Iterable[bytes], ids: list[int]) -> bytes:
    """Collect the ids of what was stored; returns the first refusal, or b""."""
    refusal = b""
    for answer in answers:
        if answer.startswith(b"INSERTED "):
            ids.append(int(answer[9:]))
        elif answer in _REFUSALS or answer.startswith(b"BURIED "):
            refusal = refusal or answer
        else:
            # BAD_FORMAT or EXPECTED_CRLF would mean that a payload is being read as commands.
            raise unexpected(answer)
    return refusal


def _put_back(settlement: Settlement) -> bytes:
    job = settlement.job
    priority = job.priority if settlement.priority is None else settlement.priority
    if settlement.verb == "bury":
        return b"bury %d %d\r\n" % (job.id, priority)
    return b"release %d %d %d\r\n" % (job.id, priority, math.ceil(settlement.delay))


def _read_verdicts(link: Link, orders: Orders, verdicts: list[bool]) -> None:
    places = orders[0]
    for place, answer in zip(places, link.lines(len(places)), strict=True):
        if answer in _SETTLED:  # a release is answered BURIED when the server has no memory left
            verdicts[place] = True
        elif answer != b"NOT_FOUND":
            raise unexpected(answer)


def _answered(link: Link, done: bytes) -> bool:
    answer = link.line()
    if answer not in (done, b"NOT_FOUND"):
        raise unexpected(answer)
    return answer == done


def _must(answer: T | None) -> T:
    if answer is None:
        raise unexpected(b"NOT_FOUND")
    return answer


def _is(facts: Facts, pipeline: str, state: JobState) -> bool:
    return facts.pipeline == pipeline and facts.state is state


def _job(id_: int, body: bytes, facts: Facts) -> Job:
    job = Job(id_, facts.pipeline, body, facts.priority, facts.ttr, facts.attempt, facts.crashes, facts.state)
    job.delay = float(facts.left) if facts.state is JobState.DELAYED else 0.0
    return job


def _holds(tube: dict[str, str]) -> bool:
    return any(tube[f"current-jobs-{state}"] != "0" for state in JobState)


def _pause_left(tube: dict[str, str]) -> float:
    """Seconds of a pause that are left, rounded up: the server rounds down, to 0 in the last one."""
    return float(min(int(tube["pause"]), max(0, int(tube["pause-time-left"])) + 1))


def _refuse_reason(where: Filter) -> None:
    if where.reason:
        raise NotSupported("beanstalkd keeps no reasons to choose by")
