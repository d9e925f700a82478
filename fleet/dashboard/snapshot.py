"""
One look at everything: supervisord and the queue, joined.  All the I/O of the dashboard.

A source that fails becomes a field that says so and since when.  Numbers that
cannot be had are None; those of a source that fell silent are the last ones,
with their age.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fleet.dashboard import flow as flows
from fleet.dashboard import state
from fleet.dashboard.changes import changes
from fleet.dashboard.facts import (
    OUTSIDE,
    Asked,
    Cause,
    Health,
    Jobs,
    PipelineRow,
    ProcessRow,
    Snapshot,
    Source,
)
from fleet.dashboard.flow import Flow
from fleet.dashboard.processes import index, process_rows, stands_in
from fleet.dashboard.sources import Place, Told, ask_queue, ask_supervisord
from fleet.errors import FleetError
from fleet.manager import events

if TYPE_CHECKING:
    from fleet.manifest import Manifest, Pipeline
    from fleet.queue.causes import ErrorGroup
    from fleet.queue.job import PipelineStats
    from fleet.queue.minutes import Minute
    from fleet.queue.queue import Queue

_GRAVITY = ("buried", "crashed", "timeout", "retried")
_EVENTS_SEEN = 50  # changes that one run remembers
_EVENTS_BACK = 7 * 86400.0  # seconds
_POINTS = 60  # of a trail


def take(
    manifest: Manifest,
    queue: Queue | FleetError,
    place: Place,
    previous: Snapshot | None = None,
    *,
    window: float = flows.WINDOW,
) -> Snapshot:
    """
    Ask supervisord and the queue once each, and join what they say.

    *queue* is the error itself where none could be opened.  *previous* gives
    rates by difference, and the last words of a source that fell silent; it
    also keeps what is dear to ask for.  Rates and quantiles look back over
    *window* seconds.  Raises nothing that a server can cause.
    """
    host = socket.gethostname()
    now, clock = time.time(), time.monotonic()
    daemon, asked = ask_supervisord(manifest, place, host, now, clock, previous)
    told = ask_queue(manifest, queue, now, clock, previous, window)
    heard = told.heard
    if previous is not None and daemon.ok and asked is previous.asked and heard is previous.heard:
        rows: dict[str, list[ProcessRow]] = {name: [] for name in manifest.pipelines}
        for row in previous.processes:  # nobody said anything new
            rows[row.pipeline].append(row)
    else:
        began = time.thread_time()
        rows = process_rows(manifest, daemon, asked, told.heard, host, clock, previous)
        if heard is not None and (previous is None or heard is not previous.heard):
            heard = replace(heard, cost=heard.cost + time.thread_time() - began)
    minutes: dict[str, list[Minute]] = {}
    for minute in told.minutes:
        minutes.setdefault(minute.pipeline, []).append(minute)
    pipelines, processes = [], list[ProcessRow]()
    for pipeline in manifest.pipelines.values():
        of_it = minutes.get(pipeline.queue_name, [])
        found, summary = _pipeline_row(
            pipeline, rows[pipeline.name], told, of_it, daemon, asked, host, now, previous, window
        )
        processes += found
        pipelines.append(summary)
    snapshot = Snapshot(
        taken_at=now,
        clock=clock,
        project=manifest.project or manifest.root.name,
        queue=told.source,
        hosts=(daemon,),
        pipelines=tuple(pipelines),
        processes=tuple(processes),
        causes=_causes(manifest, told, now, previous),
        minutes=told.minutes,
        minutes_at=told.minutes_at,
        asked=asked,
        heard=heard,
        window=window,
    )
    return replace(snapshot, events=_events(manifest, snapshot, previous))


def _causes(manifest: Manifest, told: Told, now: float, previous: Snapshot | None) -> tuple[Cause, ...]:
    if told.errors is None:  # not asked this time
        return previous.causes if previous else ()
    return causes_of(manifest, told.errors, now)


def causes_of(manifest: Manifest, groups: Iterable[ErrorGroup], now: float) -> tuple[Cause, ...]:
    """Error groups of the manifest's pipelines, one for each cause and place."""
    names = {pipeline.queue_name: name for name, pipeline in manifest.pipelines.items()}
    found: dict[tuple[str, str, str], list[ErrorGroup]] = {}
    for group in groups:
        if group.pipeline in names:
            found.setdefault((group.pipeline, group.cause, group.place), []).append(group)
    return tuple(
        Cause(
            pipeline=names[name],
            cause=cause,
            place=place,
            count=sum(group.count for group in same),
            kinds=tuple((kind, group.count) for kind in _GRAVITY for group in same if group.kind == kind),
            first_at=now - max(group.first for group in same),
            last_at=now - min(group.last for group in same),
            job=same[0].job,
            sample=same[0].sample,
        )
        for (name, cause, place), same in found.items()
    )


def _events(manifest: Manifest, snapshot: Snapshot, previous: Snapshot | None) -> tuple[events.Event, ...]:
    """What commands noted in the file, and what this run saw change."""
    since = snapshot.taken_at - _EVENTS_BACK
    noted = [event for event in events.read(manifest.state_dir, limit=_EVENTS_SEEN) if event.at >= since]
    # Those of the file have somebody who did it; what was merely seen has not.
    seen = [event for event in previous.events if not event.by] if previous else []
    seen = [*seen, *changes(previous, snapshot)][-_EVENTS_SEEN:]
    return tuple(sorted([*noted, *seen], key=lambda event: event.at))


def _pipeline_row(
    pipeline: Pipeline,
    rows: Sequence[ProcessRow],
    told: Told,
    minutes: Sequence[Minute],
    daemon: Source,
    asked: Asked | None,
    host: str,
    now: float,
    previous: Snapshot | None,
    window: float,
) -> tuple[Sequence[ProcessRow], PipelineRow]:
    """The row of a pipeline, and its processes again, those marked whose job takes too long."""
    store = told.source
    last = next((row for row in previous.pipelines if row.name == pipeline.name), None) if previous else None
    again = previous is not None and (previous.minutes_at, previous.window) != (told.minutes_at, window)
    counted = _counted(told.stats.get(pipeline.queue_name), last, store)
    jobs, oldest, paused = counted["jobs"], counted["oldest_ready"], counted["paused"]
    if not store.ok:
        lately, usual = Flow(window=window), None
    elif last is None or again:
        lately = flows.flow(minutes, now, window=window, held=_held(jobs))
        usual = (lately if window == flows.WINDOW else flows.flow(minutes, now)).run_p95
    else:  # of the same minutes
        lately, usual = last.flow, last.usual_run
    rows = [state.with_slow_job(row, usual) for row in rows]
    supervised = [row for row in rows if row.state != OUTSIDE]
    own = [row for row in supervised if not stands_in(row.full_name)]
    by_hand = asked.by_hand.get(pipeline.group) if asked else last.by_hand if last else None
    exceeded = state.alerts(jobs, oldest, pipeline.alerts.oldest, pipeline.alerts.buried) if store.ok else ()
    health, reason = state.pipeline_health(
        queue_answers=store.ok,
        supervisord_answers=daemon.ok,
        # What is stopped while others stand in for it is being replaced.
        processes=own
        if len(own) == len(supervised)
        else [row for row in supervised if row.health is not Health.STOPPED],
        jobs=jobs,
        exceeded=exceeded,
        paused=paused,
        by_hand=by_hand,
    )
    above = sum(index(row.full_name) >= pipeline.numprocs for row in own)
    ready = None if jobs is None or not store.ok or jobs.ready == jobs.cap > 0 else jobs.ready
    return rows, PipelineRow(
        name=pipeline.name,
        queue_name=pipeline.queue_name,
        hosts=(host,),
        health=health,
        reason=reason,
        running=sum(row.state == "RUNNING" for row in supervised) if daemon.ok or supervised else None,
        wanted=pipeline.numprocs + above if by_hand is None else by_hand,
        by_hand=by_hand,
        floor=pipeline.numprocs,
        most=pipeline.numprocs + pipeline.room,
        procs_age=0.0 if daemon.ok else daemon.age or 0.0,
        rate=_sum(row.rate for row in rows),
        done=_sum(row.done for row in rows),
        failed=_sum(row.failed for row in rows),
        alerts=exceeded,
        flow=lately,
        usual_run=usual,
        drains_in=flows.drains_in(ready, lately),
        trail=_trail(ready, lately, now, last),
        **counted,
    )


def _held(jobs: Jobs | None) -> int | None:
    if jobs is None or (jobs.cap and jobs.cap in (jobs.ready, jobs.delayed, jobs.reserved)):
        return None
    return jobs.ready + jobs.delayed + jobs.reserved


def _trail(
    ready: int | None, lately: Flow, now: float, last: PipelineRow | None
) -> tuple[tuple[float, int], ...]:
    """Points over the window: our own now and then, and before them those that workers counted."""
    points = list(last.trail) if last else []
    if not points or (last is not None and last.flow.window < lately.window):
        first = points[0][0] if points else now
        points = [*(point for point in lately.ready if point[0] < first), *points]
    if ready is not None and (not points or now - points[-1][0] >= lately.window / _POINTS):
        points.append((now, ready))
    return tuple(point for point in points if now - point[0] <= lately.window)


def _counted(stats: PipelineStats | None, last: PipelineRow | None, store: Source) -> dict[str, Any]:
    """The queue's part of a row: new, or its last words with their age."""
    if stats is not None:
        jobs = Jobs(
            ready=stats.ready,
            delayed=stats.delayed,
            reserved=stats.reserved,
            buried=stats.buried,
            stale=stats.stale,
            cap=stats.cap,
        )
        return {"jobs": jobs, "oldest_ready": stats.oldest_ready, "paused": stats.paused, "jobs_age": 0.0}
    if last is None or last.jobs is None or store.age is None:
        return {"jobs": None, "oldest_ready": None, "paused": 0.0, "jobs_age": 0.0}
    return {"jobs": last.jobs, "oldest_ready": last.oldest_ready, "paused": 0.0, "jobs_age": store.age}


def _sum(values: Any) -> Any:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
