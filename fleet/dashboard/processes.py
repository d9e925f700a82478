"""The rows of processes: what supervisord says, what the worker says itself, and what is missing."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fleet.dashboard import state
from fleet.dashboard.facts import ABSENT, OUTSIDE, Asked, Heard, ProcessRow, Snapshot, Source
from fleet.dashboard.procfs import usage
from fleet.dashboard.sources import log_of
from fleet.manager.stand_in import BESIDE, is_stand_in
from fleet.queue.vitals import EVERY

if TYPE_CHECKING:
    from fleet.manifest import Manifest, Pipeline
    from fleet.queue.job import Pulse
    from fleet.supervisor.process import Process

_NUMBER = re.compile(r"_(\d+)$")
_IDLE_ROOM = frozenset(["STOPPED", "EXITED"])


def process_rows(
    manifest: Manifest,
    daemon: Source,
    asked: Asked | None,
    heard: Heard | None,
    host: str,
    clock: float,
    previous: Snapshot | None,
) -> dict[str, list[ProcessRow]]:
    """The processes of each pipeline: those that supervisord knows or should know, and others that live."""
    groups = asked.groups if asked is not None else {}
    by_hand = asked.by_hand if asked is not None else {}
    since = clock - asked.at if asked is not None else 0.0
    pulses = _pulses(heard, clock)
    by_process = {(pulse.host, pulse.process): pulse for pulse in pulses}
    before = {row.full_name: row for row in previous.processes} if previous else {}
    found: dict[str, list[ProcessRow]] = {}
    for pipeline in manifest.pipelines.values():
        if daemon.ok:
            rows = [
                _process_row(manifest, pipeline, process, host, since, clock, by_process, before)
                for process in _in_use(pipeline, groups, by_hand.get(pipeline.group))
            ]
            number = by_hand.get(pipeline.group, pipeline.numprocs)
            rows += [
                _absent_row(manifest, pipeline, name, host) for name in _missing(pipeline, groups, number)
            ]
        else:
            rows = _last_words(pipeline.name, previous, daemon)
        # One that supervisord knows as stopped may have beaten just before.
        known = {process.full_name for group in _groups(pipeline) for process in groups.get(group, ())}
        known |= {row.full_name for row in rows}
        rows += [
            _outside_row(manifest, pipeline, pulse, clock)
            for pulse in pulses
            if pulse.pipeline == pipeline.queue_name
            and pulse.process not in known
            and pulse.age <= state.STALE_PULSE
            and not (daemon.ok and stands_in(pulse.process))
        ]
        found[pipeline.name] = rows
    return found


def _pulses(heard: Heard | None, clock: float) -> Sequence[Pulse]:
    """With their ages of now."""
    if heard is None:
        return ()
    later = clock - heard.at
    return heard.pulses if not later else [replace(p, age=p.age + later) for p in heard.pulses]


def index(name: str) -> int:
    """The number at the end of a process's name; 0 without one."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else 0


def _groups(pipeline: Pipeline) -> tuple[str, str]:
    """Its group, and the one that stands in for it while it is replaced."""
    return pipeline.group, f"{pipeline.group}{BESIDE}"


def stands_in(full_name: str) -> bool:
    """Whether it runs for a process that is being replaced."""
    return is_stand_in(full_name.partition(":")[0])


def _in_use(pipeline: Pipeline, found: Mapping[str, Sequence[Process]], by_hand: int | None) -> list[Process]:
    """
    The manifest's processes, those of the room above that were ever started, and stand-ins.

    A number *by hand* is made of any processes: of those that are idle, the
    lowest are the ones that lack.
    """
    used = []
    for group in _groups(pipeline):
        members = sorted(found.get(group, ()), key=lambda each: index(each.name))
        idle = [process.name for process in members if process.state in _IDLE_ROOM]
        if by_hand is None:
            wanted = {name for name in idle if index(name) < pipeline.numprocs}
        else:
            wanted = set(idle[: max(0, by_hand - (len(members) - len(idle)))])
        used += [each for each in members if each.state not in _IDLE_ROOM or each.name in wanted]
    return used


def _missing(pipeline: Pipeline, found: Mapping[str, Sequence[Process]], number: int) -> list[str]:
    there = {process.name for process in found.get(pipeline.group, ())}
    wanted = (f"{pipeline.group}_{each:02d}" for each in range(number))
    return [name for name in wanted if name not in there]


def _process_row(
    manifest: Manifest,
    pipeline: Pipeline,
    process: Process,
    host: str,
    since: float,
    clock: float,
    heard: Mapping[tuple[str, str], Pulse],
    before: Mapping[str, ProcessRow],
) -> ProcessRow:
    pulse = heard.get((host, process.full_name))
    uptime = None if process.uptime is None else process.uptime + since
    # A pulse from before this start was sent by the process that stood here then.
    if pulse is not None and (uptime is None or pulse.age > uptime + 1):
        pulse = None
    last = before.get(process.full_name)
    fields: dict[str, Any] = {
        "name": _short(manifest, process.name),
        "full_name": process.full_name,
        "pipeline": pipeline.name,
        "host": host,
        "state": process.state.value,
        "health": state.process_health(
            process.state.value, pulse.age if pulse else None, pulse.state if pulse else ""
        ),
        "pid": process.pid,
        "uptime": uptime,
        "note": _note(process),
        **log_of(process.logfile, last),
    }
    if pulse is not None:
        fields |= _of_pulse(pulse, fields, clock, last)
    if process.pid is not None and (pulse is None or pulse.age > state.STALE_PULSE or not pulse.rss):
        fields |= _measured(process.pid, clock, last)
    return ProcessRow(**fields)


def _of_pulse(
    pulse: Pulse, fields: Mapping[str, Any], clock: float, last: ProcessRow | None
) -> dict[str, Any]:
    """What the worker says of itself."""
    fresh = pulse.age <= state.STALE_PULSE
    return {
        "done": pulse.done,
        "failed": pulse.failed,
        # The first pulse comes at once: a share of the milliseconds since the start.
        "cpu": pulse.cpu if fresh and pulse.up >= 1 else None,
        "rss": pulse.rss or None,
        "rate": _rate(fields["pid"], pulse, clock, last) if fresh else None,
        "job": pulse.job,
        "job_for": _job_for(pulse),
        "doing": pulse.state,
        "note": pulse.note or fields.get("note", ""),
        "beat": clock - pulse.age,
        "pulse_age": pulse.age,
        "skew": time.time() - pulse.age - pulse.clock if pulse.clock else None,
    }


def _job_for(pulse: Pulse) -> float:
    """Seconds; a job that was younger than the time between two pulses may be over since the last one."""
    return pulse.job_for + pulse.age if pulse.job is not None and pulse.job_for >= EVERY else pulse.job_for


def _rate(pid: int | None, pulse: Pulse, clock: float, last: ProcessRow | None) -> float:
    """
    Jobs a second: between the last two pulses where both are known, else the worker's own minute.

    The difference follows a change at once; the worker's average needs a minute.
    """
    if last is None or last.beat is None or last.pid != pid or last.rate is None or last.done is None:
        return pulse.rate
    apart = clock - pulse.age - last.beat
    if apart < 0.5:  # the same pulse again
        return last.rate
    return max(0, pulse.done - last.done) / apart


def _measured(pid: int, clock: float, last: ProcessRow | None) -> dict[str, Any]:
    """CPU and memory of a program that sends no pulse, where it runs on this host."""
    found = usage(pid)
    if found is None:
        return {}
    rss, used = found
    cpu = None
    if last is not None and last.pid == pid and last.cpu_seconds is not None and last.measured is not None:
        cpu = max(0.0, used - last.cpu_seconds) / max(clock - last.measured, 0.1)
    return {"rss": rss, "cpu": cpu, "cpu_seconds": used, "measured": clock}


def _absent_row(manifest: Manifest, pipeline: Pipeline, name: str, host: str) -> ProcessRow:
    return ProcessRow(
        name=_short(manifest, name),
        full_name=f"{pipeline.group}:{name}",
        pipeline=pipeline.name,
        host=host,
        state=ABSENT,
        health=state.process_health(ABSENT, None),
    )


def _outside_row(manifest: Manifest, pipeline: Pipeline, pulse: Pulse, clock: float) -> ProcessRow:
    """A worker that supervisord did not tell of: run by hand, or by a supervisord that is away."""
    fields: dict[str, Any] = {
        "name": _short(manifest, pulse.process.rpartition(":")[2]),
        "full_name": pulse.process,
        "pipeline": pipeline.name,
        "host": pulse.host,
        "state": OUTSIDE,
        "health": state.process_health(OUTSIDE, pulse.age, pulse.state),
        "pid": pulse.pid,
        "uptime": pulse.up + pulse.age,
    }
    return ProcessRow(**fields, **_of_pulse(pulse, fields, clock, None))


def _last_words(pipeline: str, previous: Snapshot | None, daemon: Source) -> list[ProcessRow]:
    if previous is None or daemon.age is None:
        return []
    return [
        replace(row, age=daemon.age, job=None, doing="")
        for row in previous.processes
        if row.pipeline == pipeline and row.state != OUTSIDE
    ]


def _short(manifest: Manifest, name: str) -> str:
    return name.removeprefix(f"{manifest.project}-") if manifest.project else name


def _note(process: Process) -> str:
    # exitstatus says nothing while supervisord still tries, or gave up (its value is then 0).
    if process.state.value in ("EXITED", "FATAL", "BACKOFF"):
        if process.spawnerr:
            return process.spawnerr
        if process.exitstatus:
            return f"exit {process.exitstatus}" if process.exitstatus > 0 else "ended by a signal"
    return ""
