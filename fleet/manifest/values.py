"""What a manifest means: frozen values, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleet.errors import Problem
from fleet.manifest.secrets import Secret

if TYPE_CHECKING:
    from fleet.manifest.source import Source

# The manifest has no key for it: what a worker may need to say goodbye after its last job.
STOP_MARGIN = 5.0
# Added to `timeout` when the manifest names no grace: a job that began just now still ends in time.
GRACE_MARGIN = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Where the jobs live."""

    dsn: str  # sqlite paths are absolute
    password: Secret | None = None
    keep_done: float | None = None  # seconds that finished jobs stay visible; None: the back end's default


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorPlace:
    """A supervisord that is not fleet's own."""

    url: str
    conf_dir: Path
    username: str | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, and how far apart, a failed job is tried again."""

    max: int = 5
    first: float = 10.0  # seconds
    factor: float = 2.0
    cap: float = 3600.0  # seconds
    jitter: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    signal: str = "TERM"  # without SIG
    grace: float  # seconds until SIGKILL
    group: bool = False  # signal the whole process group, not only the worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """A worker leaves after a job once one of these is reached; None: never."""

    jobs: int | None = None
    age: float | None = None  # seconds
    memory: int | None = None  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    dir: Path  # may hold {process}
    max_size: int = 20_000_000  # bytes per file
    keep: int = 5  # rotated files
    format: Literal["text", "json"] = "text"
    log_jobs: bool = False  # a line for every job


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What turns a row of the dashboard amber or red."""

    oldest: float | None = None  # seconds that a ready job has waited
    buried: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    max: int
    target_wait: float = 10.0  # seconds
    cooldown: float = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One table [pipelines.NAME], laid over [defaults]."""

    name: str
    group: str  # the name of its supervisord group
    handler: str | None  # exactly one of handler and command
    command: str | None  # may hold {process}
    queue_name: str
    numprocs: int
    room: int  # processes that can be added without a restart; 0: plain [program:*]
    user: str | None
    directory: Path
    python: str | None  # absolute path of an interpreter; None: fleet's own
    timeout: float  # seconds
    ttr: float  # seconds
    concurrency: int
    retries: Retries
    max_crashes: int
    stop: Stop
    recycle: Recycle
    logs: Logs
    hooks: tuple[str, ...]  # import paths; a command has no use for them
    redact: tuple[str, ...]
    environment: Mapping[str, str]  # values may hold {process}
    secrets: Mapping[str, Secret]
    alerts: Alerts
    rollout: Literal["rolling", "surge"]
    autoscale: Autoscale | None
    hosts: tuple[str, ...]
    supervisor: Mapping[str, str]  # raw options of [program:*], checked by name and type


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    name: str
    pipeline: str
    cron: str
    timezone: str = "UTC"
    payload: object = None  # any JSON value
    catch_up: Literal["skip", "once", "all"] = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """fleet.toml, read and found good."""

    path: Path  # absolute
    root: Path  # its folder
    project: str  # "" means no prefix
    queue: QueueSettings
    supervisor: SupervisorPlace | None  # None: fleet's own private supervisord
    pipelines: Mapping[str, Pipeline]  # in the order of the file
    schedules: tuple[Schedule, ...] = ()
    hosts: tuple[str, ...] = ()
    host: str | None = None  # which entry of [hosts] this machine is
    warnings: tuple[Problem, ...] = ()
    source: Source = field(repr=False, compare=False)  # finds keys in the text, for later findings

    def group(self, name: str) -> str:
        """The supervisord group of a pipeline: "shop-emails", or "emails" without a project."""
        return f"{self.project}-{name}" if self.project else name

    @property
    def state_dir(self) -> Path:
        """What fleet itself keeps: the private supervisord, its logs, locks."""
        return self.root / ".fleet"
