"""Job, JobState, PipelineStats and the other frozen values that cross the queue's border."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from fleet.errors import PayloadError
from fleet.queue.payload import decode

if TYPE_CHECKING:
    from fleet.queue.queue import Queue

DEFAULT_PRIORITY = 1024
MAX_PRIORITY = 2**32 - 1
DEFAULT_TTR = 60.0


class JobState(StrEnum):
    """The four states of beanstalkd's protocol; a job is in exactly one."""

    READY = "ready"
    DELAYED = "delayed"
    RESERVED = "reserved"
    BURIED = "buried"


class Job:
    """
    One job, and while it is reserved the lease on it.

    A plain slotted class, not a dataclass: a batched drain builds 100,000 of
    these a second.  Treat every attribute as read-only.

    id        int, the back end's number; grows with the order of puts
    pipeline  name of the stream it was put into
    payload   bytes as they were put
    priority  0 is most urgent
    ttr       seconds a lease lasts
    attempt   how often it was begun, this time included; 0 before the first
    crashes   how many of these ended because the worker vanished
    state     JobState at the time it was read
    token     names and fences the lease; 0 when this handle holds none
    delay     seconds until it is ready, for a delayed job that was peeked at
    waited    seconds between "could have run" and this reserve, by the server's clock; of a
              job that was peeked at: since it became ready, or was buried
    reason    why it was buried or released last, "" when it never was
    uid       16 bytes made by the producer, b"" where the back end has none
    unique    the unique key, or None
    expires_at  when the lease ends, by this host's `time.monotonic()`, on the safe side
    lost      True once this process knows that the lease is over
    settled   True once delete, release or bury took effect through this handle
    """

    __slots__ = (
        "_data",
        "_queue",
        "attempt",
        "crashes",
        "delay",
        "expires_at",
        "id",
        "lost",
        "payload",
        "pipeline",
        "priority",
        "reason",
        "settled",
        "state",
        "token",
        "ttr",
        "uid",
        "unique",
        "waited",
    )

    def __init__(
        self,
        id: int,
        pipeline: str,
        payload: bytes,
        priority: int = DEFAULT_PRIORITY,
        ttr: float = DEFAULT_TTR,
        attempt: int = 0,
        crashes: int = 0,
        state: JobState = JobState.READY,
        token: int = 0,
        expires_at: float = 0.0,
        waited: float = 0.0,
        delay: float = 0.0,
        reason: str = "",
        uid: bytes = b"",
        unique: str | None = None,
    ) -> None:
        self.id = id
        self.pipeline = pipeline
        self.payload = payload
        self.priority = priority
        self.ttr = ttr
        self.attempt = attempt
        self.crashes = crashes
        self.state = state
        self.token = token
        self.expires_at = expires_at
        self.waited = waited
        self.delay = delay
        self.reason = reason
        self.uid = uid
        self.unique = unique
        self.lost = False
        self.settled = False
        self._queue: Queue | None = None

    @property
    def data(self) -> Any:
        """
        The payload decoded as JSON; decoded once.

        Raises:
            PayloadError: the payload is raw bytes that are not JSON.
        """
        try:
            return self._data  # type: ignore[has-type]
        except AttributeError:
            pass
        try:
            self._data = decode(self.payload)
        except (ValueError, RecursionError) as error:
            raise PayloadError(
                f"job {self.id}: the payload is not JSON ({error}); read job.payload"
            ) from error
        return self._data

    @property
    def failures(self) -> int:
        """Attempts before this one that ended in an error, crashes not counted."""
        return max(0, self.attempt - self.crashes - (1 if self.token else 0))

    def delete(self) -> None:
        """Settle the job for good.  Raises LeaseLost."""
        self._bound().delete(self)

    def release(self, *, delay: float = 0, priority: int | None = None, reason: str = "") -> None:
        """Give the job back, ready after *delay* seconds.  Raises LeaseLost."""
        self._bound().release(self, delay=delay, priority=priority, reason=reason)

    def bury(self, reason: str = "") -> None:
        """Put the job aside until somebody kicks it.  Raises LeaseLost."""
        self._bound().bury(self, reason)

    def touch(self) -> None:
        """Renew the lease for another ttr.  Raises LeaseLost."""
        self._bound().touch(self)

    def _bound(self) -> Queue:
        if self._queue is None:
            raise ValueError(f"job {self.id} was not reserved from a queue")
        return self._queue

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.pipeline} {self.state} attempt {self.attempt}>"


@dataclass(slots=True)
class Settlement:
    """
    What becomes of one reserved job.  Built by `Queue`, carried out by a back end.

    Neither frozen nor keyword-only, though nobody changes one: that takes
    eight times as long to build, and there is one for each job.
    """

    job: Job
    verb: Literal["delete", "release", "bury"]
    delay: float = 0.0  # seconds, release only
    priority: int | None = None  # None keeps the job's own
    reason: str = ""
    counted: bool = True  # False gives back the attempt: the handler was never begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which jobs an operator's verb is about."""

    ids: tuple[int, ...] | None = None  # None: any
    reason: str = ""  # pattern on the reason, % any text, _ one character, case matters; "": any
    above: int | None = None  # only ids above this one, and then in the order of ids; None: any


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStats:
    """
    What one pipeline holds.

    Counts stop at `cap`: a count equal to `cap` means "at least".  None means
    that the back end cannot tell.
    """

    pipeline: str
    ready: int
    delayed: int
    reserved: int
    buried: int
    stale: int | None = None  # of the reserved ones, those whose lease is over
    oldest_ready: float | None = None  # seconds, None when nothing is ready
    paused: float = 0.0  # seconds until the pause ends, 0 when it is not paused
    cap: int = 0  # 0 when every count is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """
    What one worker process says about itself every few seconds.

    Written by the worker, read by the dashboard; `age` is filled in by the
    reader's back end, in seconds of the server's clock.
    """

    host: str
    process: str  # supervisord's "group:name", or "pid-4711" outside of it
    pid: int
    pipeline: str
    state: str  # starting idle busy waiting paused draining
    job: int | None = None  # id of the job in hand
    job_for: float = 0.0  # seconds the job in hand has run
    done: int = 0  # settled by delete since the process started
    failed: int = 0  # attempts that ended in an error
    buried: int = 0
    crashed: int = 0
    rate: float = 0.0  # jobs finished a second, over the last minute
    rss: int = 0  # bytes
    cpu: float = 0.0  # share of one core since the last pulse
    up: float = 0.0  # seconds since the process started
    note: str = ""  # such as "back end away since 14:02:31"
    clock: float = 0.0  # Unix time when it was sent, by the worker's own clock; 0 when not told
    age: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What `fleet queue info` and `fleet doctor` print about a queue."""

    backend: str  # "sqlite", "postgresql", "mysql", "mariadb", "beanstalkd"
    version: str
    location: str  # without any secret
    durability: str  # memory process server power replicated
    schema_found: int | None = None  # None: no tables yet, or no tables at all
    schema_wanted: int | None = None
    notes: tuple[str, ...] = ()  # what a person should know; a second line is what mends it
    clock_ahead: float | None = None  # seconds that its clock is ahead of this host's; None: cannot be asked
