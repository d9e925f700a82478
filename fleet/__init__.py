"""fleet: background workers on your own servers.  The public names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fleet.errors import FleetError, LeaseLost, NotSupported, PutUnknown, QueueError
    from fleet.queue.aio import AsyncQueue, connect_async
    from fleet.queue.job import Job, JobState, PipelineStats
    from fleet.queue.queue import Queue, connect
    from fleet.queue.simple import JobQueue
    from fleet.worker.hooks import Hooks
    from fleet.worker.outcome import Bury, JobTimeout, Retry

# Names are loaded when they are first used: a worker must not pay for what it does not touch.
_HOMES = {
    "connect": "fleet.queue.queue",
    "Queue": "fleet.queue.queue",
    "connect_async": "fleet.queue.aio",
    "AsyncQueue": "fleet.queue.aio",
    "JobQueue": "fleet.queue.simple",
    "Job": "fleet.queue.job",
    "JobState": "fleet.queue.job",
    "PipelineStats": "fleet.queue.job",
    "FleetError": "fleet.errors",
    "QueueError": "fleet.errors",
    "LeaseLost": "fleet.errors",
    "PutUnknown": "fleet.errors",
    "NotSupported": "fleet.errors",
    "Hooks": "fleet.worker.hooks",
    "Bury": "fleet.worker.outcome",
    "JobTimeout": "fleet.worker.outcome",
    "Retry": "fleet.worker.outcome",
}

__all__ = [
    "AsyncQueue",
    "Bury",
    "FleetError",
    "Hooks",
    "Job",
    "JobQueue",
    "JobState",
    "JobTimeout",
    "LeaseLost",
    "NotSupported",
    "PipelineStats",
    "PutUnknown",
    "Queue",
    "QueueError",
    "Retry",
    "connect",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fleet' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
