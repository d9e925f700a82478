"""What a snapshot holds: frozen values, and the versioned dict that scripts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fleet.dashboard.flow import WINDOW, Flow
from fleet.manager.events import Event
from fleet.queue.minutes import Minute

if TYPE_CHECKING:
    from fleet.queue.job import Pulse
    from fleet.supervisor.process import Process

SCHEMA = "fleet.status/1"
ABSENT = "ABSENT"  # wanted, and supervisord does not know it
OUTSIDE = "OUTSIDE"  # alive by its pulse, and supervisord does not know it


class Health(StrEnum):
    """One word for a row, worst first: rows are sorted in this order."""

    FAILING = "failing"
    SLOW = "slow"
    STALE = "stale"
    UNKNOWN = "unknown"
    STARTING = "starting"
    DRAINING = "draining"
    OK = "ok"
    PAUSED = "paused"
    STOPPED = "stopped"

    @property
    def is_trouble(self) -> bool:
        return self in _TROUBLE

    @property
    def rank(self) -> int:
        return _RANK[self]


_TROUBLE = frozenset([Health.FAILING, Health.SLOW, Health.STALE, Health.UNKNOWN])
_RANK = {health: rank for rank, health in enumerate(Health)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A server that was asked, and whether it answered."""

    name: str  # host name of a supervisord, or the queue's location
    ok: bool
    error: str = ""  # one sentence, when it did not answer
    since: float | None = None  # Unix time of its first silence in a row
    age: float | None = 0.0  # seconds since its last good answer; None: never in this run
    detail: str = ""  # such as that a queue has no tables yet

    @property
    def complaint(self) -> str:
        """The error without the place in front of it, which stands beside it anyway."""
        place, colon, what = self.error.removeprefix("supervisord does not answer at ").partition(": ")
        return what if colon and "://" in place and " " not in place else self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Counts of one pipeline.  With `cap` > 0, a count equal to it means "at least"."""

    ready: int
    delayed: int
    reserved: int
    buried: int
    stale: int | None = None  # of the reserved ones: the lease is over
    cap: int = 0

    @property
    def capped(self) -> bool:
        return self.cap > 0 and self.cap in (self.ready, self.delayed, self.reserved, self.buried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A limit of the manifest that is exceeded."""

    code: str  # "oldest" or "buried"
    limit: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Errors of one cause at one place, whatever became of the jobs."""

    pipeline: str
    cause: str
    place: str
    count: int
    kinds: tuple[tuple[str, int], ...]  # (buried retried timeout crashed, how many), the gravest first
    first_at: float  # Unix time
    last_at: float
    job: int = 0  # the newest
    sample: str = ""  # its message as it was

    @property
    def is_grave(self) -> bool:
        """Jobs were buried, or took their workers with them: somebody has to act."""
        return any(kind in ("buried", "crashed") for kind, _ in self.kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRow:
    """Processes and jobs of one pipeline, joined.  None is a number that could not be had."""

    name: str
    queue_name: str
    hosts: tuple[str, ...] = ()
    health: Health = Health.UNKNOWN
    reason: str = ""  # why it is not ok, one sentence; or that its number was set by hand
    running: int | None = None
    wanted: int = 0  # the number by hand, else the manifest's numprocs and the room in use
    by_hand: int | None = None  # what `fleet scale` asked for, as long as it holds
    floor: int = 0  # the manifest's numprocs
    most: int = 0  # floor and room together
    jobs: Jobs | None = None
    jobs_age: float = 0.0  # seconds; above 0 when the queue is away and these are its last words
    procs_age: float = 0.0  # the same for `running` and supervisord
    oldest_ready: float | None = None  # seconds, None when nothing is ready or nobody knows
    paused: float = 0.0  # seconds left
    rate: float | None = None  # jobs finished a second, just now
    done: int | None = None  # by the processes that run now
    failed: int | None = None
    alerts: tuple[Alert, ...] = ()
    flow: Flow = field(default_factory=Flow)  # over the snapshot's window
    usual_run: float | None = None  # seconds: run p95 of five minutes, by which a job is slow
    drains_in: float | None = None  # seconds; infinity: never, if all goes on as now
    trail: tuple[tuple[float, int], ...] = ()  # (Unix time, ready jobs) over the window

    @property
    def out(self) -> float | None:
        """Jobs a second over the last minutes; just now, where no worker writes minutes."""
        return self.rate if self.flow.out is None else self.flow.out


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process: supervisord's side and the worker's own."""

    name: str  # without the project: "emails_00"
    full_name: str  # as supervisord says it: "shop-emails:shop-emails_00"
    pipeline: str
    host: str
    state: str  # supervisord's word, or ABSENT or OUTSIDE
    health: Health = Health.OK
    pid: int | None = None
    uptime: float | None = None  # seconds
    cpu: float | None = None  # share of one core
    rss: int | None = None  # bytes
    done: int | None = None
    failed: int | None = None
    rate: float | None = None  # jobs finished a second
    job: int | None = None  # id of the job in hand
    job_for: float = 0.0  # seconds it has run
    doing: str = ""  # the worker's word: idle busy waiting paused draining
    note: str = ""  # spawn error, exit status, the worker's own note
    beat: float | None = None  # when its pulse was sent, on the clock of `Snapshot.clock`
    pulse_age: float | None = None  # seconds, None without a pulse
    cpu_seconds: float | None = None  # total, where the system was asked
    measured: float | None = None  # and when, on the clock of `Snapshot.clock`
    skew: float | None = None  # seconds that its host's clock is behind ours
    log: str = ""  # the last line that it wrote
    logfile: str = ""
    log_mark: tuple[int, int] = (0, 0)  # size and time of the file when `log` was read
    age: float = 0.0  # above 0 when supervisord is away and this row is its last word


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An answer of supervisord, kept because asking is dear: 100 KB of XML for 100 processes."""

    at: float  # on `Snapshot.clock`
    cost: float  # seconds of processor time
    groups: Mapping[str, Sequence[Process]]
    by_hand: Mapping[str, int] = field(default_factory=dict)  # numbers of processes, by group


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The workers' pulses, kept for the same reason: a hundred of them are a lot to read."""

    at: float  # on `Snapshot.clock`; their ages are of that moment
    cost: float  # seconds of processor time, the rows of processes included
    pulses: tuple[Pulse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is true now, as far as it could be had.  Every screen is a skin of this value."""

    taken_at: float  # Unix time
    clock: float  # monotonic seconds of this host, for differences
    project: str
    queue: Source
    hosts: tuple[Source, ...] = ()
    pipelines: tuple[PipelineRow, ...] = ()
    processes: tuple[ProcessRow, ...] = ()
    causes: tuple[Cause, ...] = ()  # errors of the last hour, the latest first
    events: tuple[Event, ...] = ()  # what was done, and what this run has seen change; oldest first
    minutes: tuple[Minute, ...] = ()  # raw rows, so that the next snapshot need not ask for them
    minutes_at: float | None = None  # when they were read, on `clock`
    asked: Asked | None = None  # the same for supervisord
    heard: Heard | None = None  # and for pulses
    window: float = WINDOW  # seconds that rates and quantiles look back

    @property
    def ok(self) -> bool:
        """Nothing is in trouble, and everybody answered."""
        silent = not self.queue.ok or any(not host.ok for host in self.hosts)
        return not silent and not any(row.health.is_trouble for row in self.pipelines)

    @property
    def running(self) -> int | None:
        known = [row.running for row in self.pipelines if row.running is not None]
        return sum(known) if known or not self.pipelines else None

    @property
    def wanted(self) -> int:
        return sum(row.wanted for row in self.pipelines)

    @property
    def rate(self) -> float | None:
        known = [row.rate for row in self.pipelines if row.rate is not None]
        return sum(known) if known else None

    def total(self, state: str) -> int | None:
        """Jobs in one state over all pipelines; two that share a queue are counted once."""
        per_queue: dict[str, Jobs] = {
            row.queue_name: row.jobs for row in self.pipelines if row.jobs is not None
        }
        if not per_queue:
            return None
        return sum(int(getattr(jobs, state)) for jobs in per_queue.values())

    @property
    def capped(self) -> bool:
        return any(row.jobs.capped for row in self.pipelines if row.jobs is not None)

    def to_dict(self) -> dict[str, Any]:
        """The document `fleet.status/1`: fields are added, never renamed; durations are seconds."""
        return {
            "schema": SCHEMA,
            "time": _rfc3339(self.taken_at),
            "project": self.project,
            "ok": self.ok,
            "window": self.window,
            "queue": {"location": self.queue.name, **_source(self.queue)},
            "hosts": [{"name": host.name, **_source(host)} for host in self.hosts],
            "pipelines": [_pipeline(row) for row in self.pipelines],
            "processes": [_process(row) for row in self.processes],
            "errors": [_cause(cause) for cause in self.causes],
            "events": [_event(event) for event in self.events],
        }


def _source(source: Source) -> dict[str, Any]:
    return {
        "reachable": source.ok,
        "age": _seconds(source.age),
        "since": None if source.since is None else _rfc3339(source.since),
        "error": source.error or None,
        "detail": source.detail or None,
    }


def _pipeline(row: PipelineRow) -> dict[str, Any]:
    jobs = row.jobs
    return {
        "name": row.name,
        "queue_name": row.queue_name,
        "hosts": list(row.hosts),
        "state": row.health.value,
        "reason": row.reason or None,
        "paused": row.paused > 0,
        "paused_for": _seconds(row.paused),
        "procs": {
            "running": row.running,
            "wanted": row.wanted,
            "by_hand": row.by_hand,
            "floor": row.floor,
            "max": row.most,
        },
        "jobs": jobs
        and {
            "ready": jobs.ready,
            "delayed": jobs.delayed,
            "reserved": jobs.reserved,
            "stale": jobs.stale,
            "buried": jobs.buried,
            "capped": jobs.capped,
        },
        "jobs_age": _seconds(row.jobs_age),
        "oldest_ready": _seconds(row.oldest_ready),
        "rate": {
            "in": _seconds(row.flow.arrivals),
            "out": _seconds(row.out),
            "errors": _seconds(row.flow.errors),
            "now": _seconds(row.rate),
        },
        "wait": {"p50": _seconds(row.flow.wait_p50), "p95": _seconds(row.flow.wait_p95)},
        "run": {
            "p50": _seconds(row.flow.run_p50),
            "p95": _seconds(row.flow.run_p95),
            "mean": _seconds(row.flow.run_mean),
        },
        "drains_in": None if row.drains_in in (None, float("inf")) else _seconds(row.drains_in),
        "never_drains": row.drains_in == float("inf"),
        "done": row.done,
        "failed": row.failed,
        "alerts": [{"code": a.code, "limit": a.limit, "value": round(a.value, 3)} for a in row.alerts],
    }


def _process(row: ProcessRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "full_name": row.full_name,
        "pipeline": row.pipeline,
        "host": row.host,
        "state": row.state,
        "pid": row.pid,
        "uptime": _seconds(row.uptime),
        "cpu": None if row.cpu is None else round(row.cpu, 3),
        "rss": row.rss,
        "done": row.done,
        "failed": row.failed,
        "job": None if row.job is None else {"id": row.job, "since": _seconds(row.job_for)},
        "doing": row.doing or None,
        "note": row.note or None,
        "log": row.log or None,
        "pulse_age": _seconds(row.pulse_age),
        "age": _seconds(row.age),
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "pipeline": cause.pipeline,
        "group": cause.cause,
        "where": cause.place or None,
        "count": cause.count,
        "kinds": dict(cause.kinds),
        "first": _rfc3339(cause.first_at),
        "last": _rfc3339(cause.last_at),
        "job": cause.job or None,
        "sample": cause.sample or None,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": _rfc3339(event.at),
        "kind": event.kind,
        "text": event.text,
        "pipelines": list(event.pipelines),
        "by": event.by or None,
        "revision": event.revision or None,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
