"""Asking supervisord, the queue and the log files.  Every answer also says whether there was one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fleet.dashboard.facts import Asked, Heard, ProcessRow, Snapshot, Source
from fleet.errors import FleetError, NoTables
from fleet.manager.stand_in import BESIDE
from fleet.queue.minutes import Minute, total

if TYPE_CHECKING:
    from fleet.manifest import Manifest, Pipeline
    from fleet.queue.causes import ErrorGroup
    from fleet.queue.job import PipelineStats
    from fleet.queue.queue import Queue
    from fleet.supervisor.client import Supervisor
    from fleet.supervisor.process import Process

CAP = 100_000  # a count stops here and shows "100k+"
PATIENCE = 2.0  # seconds for one answer of supervisord
_PATIENCE_A_PROCESS = 0.004  # more of them: listing 2,000 takes it 2 s on a machine that is idle
_MANY = 200  # processes: more are asked for by name
MINUTES_BACK = 540.0  # seconds: eight minutes for the sparklines, and the one under way
MINUTES_AGAIN = 60.0  # seconds: a row is written until a little after its minute is over
ERRORS_BACK = 3600.0
_REREAD = 4.0  # seconds: workers write every two, and rows of a hundred of them are a lot to read
_SHARE_OF_SUPERVISORD, _SHARE_OF_PULSES = 0.005, 0.003  # of a core
_LONGEST = 5.0  # seconds: workers are silent after fifteen
_LOG_TAIL = 2048  # bytes


class Place(Protocol):
    """Where a supervisord is; `fleet.manager.places.Place` is one."""

    @property
    def conf_dir(self) -> Path: ...

    @property
    def private(self) -> bool: ...

    def client(self, timeout: float = ...) -> Supervisor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the queue said.  Empty where it did not answer."""

    source: Source
    stats: dict[str, PipelineStats]  # by queue name
    heard: Heard | None = None
    minutes: tuple[Minute, ...] = ()
    minutes_at: float | None = None
    errors: tuple[ErrorGroup, ...] | None = None  # None: not asked this time


def ask_supervisord(
    manifest: Manifest, place: Place, host: str, now: float, clock: float, previous: Snapshot | None
) -> tuple[Source, Asked | None]:
    """
    Whether it answered, and its processes by group.

    It is asked so often that reading takes less than 0.5 % of a core: each
    second up to some six hundred processes, or twenty of a supervisord without
    fleet's plug-in; then every other second, and so on.
    """
    asked = previous.asked if previous else None
    if asked is not None and clock - asked.at < asked.cost / _SHARE_OF_SUPERVISORD:
        return Source(name=host, ok=True), asked
    last = next((source for source in previous.hosts if source.name == host), None) if previous else None
    began = time.process_time()  # a long answer is read by several threads
    try:
        found = _processes(manifest, place)
        by_hand = _by_hand(manifest, place)
    except (FleetError, OSError) as error:
        return _silent(host, error, now, last, previous), None
    groups: dict[str, list[Process]] = {}
    for process in found:
        groups.setdefault(process.group, []).append(process)
    cost = time.process_time() - began
    return Source(name=host, ok=True), Asked(at=clock, cost=cost, groups=groups, by_hand=by_hand)


def _by_hand(manifest: Manifest, place: Place) -> Mapping[str, int]:
    """The numbers that `fleet scale` set and that hold, by group; none where this user may not read them."""
    from fleet.manager import files, record

    try:
        with files.opened(place.conf_dir, private=place.private) as folder:
            kept = record.load(folder.read(record.file_name(manifest.project)))
    except (FleetError, OSError):
        return {}
    if not kept.scaled:
        return {}
    daemon = record.identity(place.client(timeout=PATIENCE).state())
    numprocs = {pipeline.group: pipeline.numprocs for pipeline in manifest.pipelines.values()}
    return kept.numbers(daemon, numprocs, time.time())


def _processes(manifest: Manifest, place: Place) -> Iterable[Process]:
    """
    Those of the manifest's pipelines at least.

    Many are asked for by name, which is much cheaper.  If supervisord does not
    know them all, or more of them than these, everything is asked for.
    """
    pipelines = manifest.pipelines.values()
    names = [name for pipeline in pipelines for name in _names(pipeline)]
    client = place.client(timeout=PATIENCE + len(names) * _PATIENCE_A_PROCESS)
    if len(names) > _MANY:
        beyond = [name for pipeline in pipelines for name in _beyond(pipeline)]
        found = client.lookup([*names, *beyond])
        known = [process for process in map(found.get, names) if process is not None]
        if len(known) == len(names) and not any(map(found.get, beyond)):
            return known
    return client.processes()


def _names(pipeline: Pipeline) -> list[str]:
    """The full names of a pipeline's processes, the room above them included."""
    group = pipeline.group
    return [f"{group}:{group}_{number:02d}" for number in range(pipeline.numprocs + pipeline.room)]


def _beyond(pipeline: Pipeline) -> tuple[str, str]:
    """Processes that are there when a pipeline has more than it is to have, or is being replaced."""
    group, beside = pipeline.group, f"{pipeline.group}{BESIDE}"
    return f"{group}:{group}_{pipeline.numprocs + pipeline.room:02d}", f"{beside}:{beside}_00"


def ask_queue(
    manifest: Manifest,
    queue: Queue | FleetError,
    now: float,
    clock: float,
    previous: Snapshot | None,
    window: float,
) -> Told:
    """Counts each time; pulses, minutes and errors every few seconds only."""
    name = location(manifest.queue.dsn)
    last = previous.queue if previous else None
    if isinstance(queue, NoTables):
        return _empty(manifest, name)
    if isinstance(queue, FleetError):
        return Told(source=_silent(name, queue, now, last, previous), stats={})
    try:
        names = dict.fromkeys(pipeline.queue_name for pipeline in manifest.pipelines.values())
        told = Told(
            source=Source(name=name, ok=True),
            stats={each: queue.stats(each, cap=CAP) for each in names},
            heard=_still_heard(previous, clock),
        )
        if not queue.capabilities.tables:
            return _in_files(manifest, told, clock, previous)
        began = time.thread_time()
        if told.heard is None:
            pulses = tuple(queue.pulses())
            told = replace(told, heard=Heard(at=clock, cost=time.thread_time() - began, pulses=pulses))
        at = previous.minutes_at if previous and previous.window >= window else None
        if previous is not None and at is not None and clock - at < _REREAD:
            return replace(told, minutes=previous.minutes, minutes_at=at)
        known = previous if at is not None and clock - at < MINUTES_AGAIN else None
        return replace(
            told,
            minutes=_minutes(queue, now, window, known),
            minutes_at=clock,
            errors=tuple(queue.errors(ERRORS_BACK)),
        )
    except (FleetError, OSError) as error:
        return Told(source=_silent(name, error, now, last, previous), stats={})


def _empty(manifest: Manifest, name: str) -> Told:
    """A queue that nobody has made yet holds nothing, and its server is there."""
    from fleet.queue.job import PipelineStats

    names = (pipeline.queue_name for pipeline in manifest.pipelines.values())
    stats = {
        each: PipelineStats(pipeline=each, ready=0, delayed=0, reserved=0, buried=0, stale=0)
        for each in names
    }
    detail = "no tables yet; create them with: fleet queue migrate"
    return Told(source=Source(name=name, ok=True, detail=detail), stats=stats)


def _still_heard(previous: Snapshot | None, clock: float) -> Heard | None:
    """The pulses of the snapshot before, as long as reading them again would take too much of a core."""
    heard = previous.heard if previous else None
    if heard is None:
        return None
    apart = min(heard.cost / _SHARE_OF_PULSES, _LONGEST)
    return heard if clock - heard.at < apart and apart > 1.0 else None


def _in_files(manifest: Manifest, told: Told, clock: float, previous: Snapshot | None) -> Told:
    """Pulses, minutes and errors out of the run directory, where the queue has no tables."""
    from fleet.queue import rundir

    if told.heard is not None and previous is not None:
        return replace(told, minutes=previous.minutes, minutes_at=previous.minutes_at)
    began = time.thread_time()
    found = rundir.read(manifest.state_dir / "run", seconds=ERRORS_BACK)
    return replace(
        told,
        heard=Heard(at=clock, cost=time.thread_time() - began, pulses=found.pulses),
        minutes=found.minutes,
        minutes_at=clock,
        errors=found.errors,
    )


def _minutes(queue: Queue, now: float, window: float, previous: Snapshot | None) -> tuple[Minute, ...]:
    """Rows of the last minutes; of those that are over, what is known already is kept."""
    back = max(MINUTES_BACK, window + MINUTES_AGAIN)
    recent = queue.minutes(2 * MINUTES_AGAIN if previous is not None else back)
    first = int(now - 2 * MINUTES_AGAIN) // 60
    oldest = int(now - back) // 60
    over = previous.minutes if previous is not None else recent
    kept = merged(row for row in over if oldest <= row.minute <= first)
    return (*kept, *(row for row in recent if row.minute > first))


def merged(rows: Iterable[Minute]) -> list[Minute]:
    """
    Minutes of one pipeline that nobody writes any more as one row; samples stay by themselves.

    An hour of a hundred processes is six thousand rows, to be summed every few seconds.
    """
    apart: list[Minute] = []
    together: dict[tuple[str, int], list[Minute]] = {}
    for row in rows:
        if row.held is not None or not row.process:
            apart.append(row)
        else:
            together.setdefault((row.pipeline, row.minute), []).append(row)
    return [*apart, *map(total, together.values())]


def _silent(
    name: str, error: Exception, now: float, last: Source | None, previous: Snapshot | None
) -> Source:
    was_silent = last is not None and not last.ok
    since = last.since if was_silent and last else now
    if last is None or previous is None or last.age is None:
        age = None
    else:
        age = last.age + (now - previous.taken_at)
    return Source(name=name, ok=False, error=str(error) or type(error).__name__, since=since, age=age)


def location(dsn: str) -> str:
    """The DSN without what might be secret: user, password and options."""
    head, _, rest = dsn.partition("://")
    return f"{head}://{rest.rpartition('@')[2].partition('?')[0]}"


def log_of(path: str, last: ProcessRow | None) -> dict[str, Any]:
    """The last line of the log, read only when the file has changed; nothing where it cannot be read."""
    if not path.startswith("/"):
        return {}
    try:
        found = os.stat(path)  # noqa: PTH116 - a hundred a second
        mark = (found.st_size, found.st_mtime_ns)
        if last is not None and last.logfile == path and last.log_mark == mark:
            return {"logfile": path, "log": last.log, "log_mark": mark}
        with open(path, "rb") as file:
            file.seek(max(0, mark[0] - _LOG_TAIL))
            lines = file.read(_LOG_TAIL).split(b"\n")
    except OSError:
        return {"logfile": path}
    line = next((line for line in reversed(lines) if line.strip()), b"")
    return {"logfile": path, "log": line.decode("utf-8", "backslashreplace").strip(), "log_mark": mark}
