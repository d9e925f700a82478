"""Gathering what `why` looks at: beyond the snapshot, hours of minutes, log lines and a few jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.dashboard.evidence import Evidence
from fleet.dashboard.facts import Cause, Snapshot
from fleet.dashboard.payload import text_of, value_of
from fleet.dashboard.snapshot import causes_of
from fleet.errors import FleetError
from fleet.queue.minutes import KEPT
from fleet.supervisor.logfile import last_lines

if TYPE_CHECKING:
    from fleet.manifest import Manifest, Pipeline
    from fleet.queue.causes import ErrorGroup
    from fleet.queue.minutes import Minute
    from fleet.queue.queue import Queue

_LOG_LINES = 4
_LOOK_AT = 50  # ready jobs whose payloads are compared
_RUNNING = frozenset(["RUNNING", "STARTING", "STOPPING"])


def gather(
    manifest: Manifest, queue: Queue | None, snapshot: Snapshot, name: str, *, since: float, can_scale: bool
) -> Evidence:
    """
    The evidence about pipeline *name*.

    A queue that does not answer, or None, leaves its part empty: the snapshot
    says so already.
    """
    pipeline = manifest.pipelines[name]
    row = next(row for row in snapshot.pipelines if row.name == name)
    processes = tuple(process for process in snapshot.processes if process.pipeline == name)
    down = [process for process in processes if process.state not in _RUNNING and process.logfile]
    evidence = Evidence(
        snapshot=snapshot,
        row=row,
        processes=processes,
        minutes=tuple(minute for minute in snapshot.minutes if minute.pipeline == pipeline.queue_name),
        causes=tuple(cause for cause in snapshot.causes if cause.pipeline == name),
        events=tuple(event for event in snapshot.events if event.at >= snapshot.taken_at - 7 * 86400),
        since=since,
        logs={process.name: last_lines(Path(process.logfile), _LOG_LINES) for process in down[:3]},
        oldest_alert=pipeline.alerts.oldest,
        timeout=pipeline.timeout,
        concurrency=pipeline.concurrency,
        can_scale=can_scale,
        private=manifest.supervisor is None,
        reasons=queue is None or queue.capabilities.reasons,
    )
    if queue is None or not snapshot.queue.ok:
        return evidence
    try:
        minutes, groups = _told(manifest, queue, pipeline, since)
        found = causes_of(manifest, groups, snapshot.taken_at)
        return replace(
            evidence,
            minutes=tuple(minutes),
            causes=tuple(cause for cause in found if cause.pipeline == name),
            newest=_newest(queue, found, pipeline),
            waiting=_waiting(queue, pipeline),
        )
    except (FleetError, OSError):
        return evidence


def _told(
    manifest: Manifest, queue: Queue, pipeline: Pipeline, since: float
) -> tuple[list[Minute], list[ErrorGroup]]:
    if queue.capabilities.tables:
        return queue.minutes(KEPT, pipeline.queue_name), queue.errors(since, pipeline.queue_name)
    from fleet.queue import rundir

    told = rundir.read(manifest.state_dir / "run", seconds=max(since, KEPT))
    minutes = [row for row in told.minutes if row.pipeline == pipeline.queue_name]
    return minutes, [group for group in told.errors if group.last < since]


def _newest(queue: Queue, causes: tuple[Cause, ...], pipeline: Pipeline) -> dict[int, str]:
    """The newest job of each cause, in words."""
    found = {}
    for cause in causes[:5]:
        job = queue.find(cause.job) if cause.job else None
        if job is not None:
            payload = text_of(job.payload, pipeline.redact, 60)
            found[job.id] = f"payload {payload}  attempt {job.attempt} of {pipeline.retries.max + 1}"
    return found


def _waiting(queue: Queue, pipeline: Pipeline) -> tuple[Any, ...]:
    jobs = queue.peek(pipeline.queue_name, "ready", _LOOK_AT)
    return tuple(value_of(job.payload, pipeline.redact) for job in jobs)
