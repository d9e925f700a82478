"""
What an apply would do, told before it is done.  Pure: three values in, a Plan out.

The three are what is asked for, the files that lie on disk, and what runs.
Drift shows in between: a file that somebody edited, a process that somebody
stopped, one that still runs what an older file said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fleet.manager.actions import Actions, Shape, actions, resized
from fleet.manager.desired import Desired
from fleet.manager.differences import differences
from fleet.manager.files import changes as file_changes
from fleet.manager.plan import spec_name
from fleet.manager.record import Record, digest
from fleet.manager.stand_in import is_stand_in
from fleet.supervisor.client import Changes
from fleet.supervisor.process import Process

SCHEMA = "fleet.plan/1"
_GRACE = re.compile(r"^stopwaitsecs=(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A supervisord and its processes, as far as they can be seen without changing anything."""

    daemon: str = ""  # one run of one supervisord; "" when none runs
    processes: tuple[Process, ...] = ()
    revisions: Mapping[str, str] = field(default_factory=dict)  # full name: FLEET_REVISION in its environment
    record: Record = field(default_factory=Record)  # what fleet gave to it

    @property
    def known(self) -> Mapping[str, Shape | None]:
        return self.record.for_daemon(self.daemon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to one pipeline."""

    pipeline: str  # the group's name for one that is gone from the manifest
    group: str
    action: str  # add, replace, surge, remove, scale, start, rewrite, keep
    why: tuple[str, ...] = ()  # what differs: "numprocs 4 → 6", "1 of 4 is stopped"
    starts: int = 0
    drains: int = 0
    keeps: int = 0  # processes that never stop
    tried: int = 0  # of a replacement: new processes that must come up before an old one stops
    longest: float = 0.0  # seconds that a drain can take, then supervisord kills

    @property
    def is_nothing(self) -> bool:
        return self.action == "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    project: str
    revision: str  # of all files that are asked for
    steps: tuple[Step, ...]
    write: tuple[str, ...] = ()  # file names
    remove: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # groups of this supervisord that are not fleet's
    notes: tuple[str, ...] = ()
    starts_supervisord: bool = False
    fingerprint: str = ""  # of everything that the plan was made from

    @property
    def is_nothing(self) -> bool:
        quiet = all(step.is_nothing for step in self.steps)
        return quiet and not (self.write or self.remove or self.starts_supervisord)

    @property
    def starts(self) -> int:
        return sum(step.starts for step in self.steps)

    @property
    def drains(self) -> int:
        return sum(step.drains for step in self.steps)

    @property
    def keeps(self) -> int:
        return sum(step.keeps for step in self.steps)

    @property
    def longest(self) -> float:
        return max((step.longest for step in self.steps if step.drains), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The document `fleet.plan/1`: fields are added, never renamed; durations are seconds."""
        return {
            "schema": SCHEMA,
            "project": self.project,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "changes": not self.is_nothing,
            "starts": self.starts,
            "drains": self.drains,
            "untouched": self.keeps,
            "longest_drain": self.longest,
            "starts_supervisord": self.starts_supervisord,
            "steps": [asdict(step) for step in self.steps],
            "write": list(self.write),
            "remove": list(self.remove),
            "others": list(self.others),
            "notes": list(self.notes),
        }


def compare(desired: Desired, on_disk: Mapping[str, str], running: Running, *, now: float) -> Plan:
    """
    The plan that leads from what is on disk and runs to what is *desired*.

    *on_disk* holds our own files there; *now* is epoch seconds, for numbers by
    hand that end.
    """
    numbers = running.record.numbers(running.daemon, desired.numprocs, now)
    by_group = _by_group(running.processes)
    wanted = {
        group: resized(shape, numbers[group], _active(by_group.get(group, ()))) if group in numbers else shape
        for group, shape in desired.shapes.items()
    }
    by_hand = edited(on_disk, running.record, desired.files)
    known = {
        group: None if shape is None or _conf(group) in by_hand or not shape.revision else _by_revision(shape)
        for group, shape in running.known.items()
    }
    # What supervisord would answer to reloadConfig, which changes something and so is not asked.
    differs = tuple(g for g in wanted if on_disk.get(_conf(g)) != desired.files.get(_conf(g)))
    todo = (
        actions(
            wanted,
            running.processes,
            Changes(changed=tuple(g for g in differs if g in by_group)),
            known,
            revisions=running.revisions,
            scaled=numbers,
        )
        if running.daemon
        else Actions(add=tuple(wanted))
    )
    write, remove = file_changes(desired.files, on_disk)
    steps = [
        _step(
            group, desired, on_disk, running, wanted[group], todo, by_group.get(group, []), numbers, by_hand
        )
        for group in wanted
    ]
    gone = {_group_of(name) for name in remove if name.endswith(".conf")} | set(todo.remove)
    steps += [_removal(group, on_disk, by_group.get(group, [])) for group in sorted(gone - wanted.keys())]
    return Plan(
        project=desired.project,
        revision=revision_of(desired.files),
        steps=tuple(steps),
        write=write,
        remove=remove,
        others=tuple(sorted(by_group.keys() - wanted.keys() - running.record.groups.keys() - gone)),
        notes=tuple(_notes(desired, running, todo, now)),
        starts_supervisord=not running.daemon,
        fingerprint=_fingerprint(desired, on_disk, running, numbers),
    )


def revision_of(files: Mapping[str, str]) -> str:
    """One word for a set of files."""
    return hashlib.sha256(json.dumps(dict(sorted(files.items()))).encode()).hexdigest()[:8]


def _step(
    group: str,
    desired: Desired,
    on_disk: Mapping[str, str],
    running: Running,
    shape: Shape,
    todo: Actions,
    members: list[Process],
    numbers: Mapping[str, int],
    by_hand: frozenset[str],
) -> Step:
    active = _active(members)
    conf = on_disk.get(_conf(group))
    why = list(differences(group, on_disk, desired.files)) if conf is not None else []
    why += [f"{name} was edited by hand" for name in (_conf(group), spec_name(group)) if name in by_hand]
    longest = _longest(conf or desired.files.get(_conf(group), ""))
    step = Step(pipeline=desired.groups[group], group=group, action="keep")
    if group in todo.add:
        if conf is not None:
            why.append("does not run" if running.daemon else "supervisord does not run")
        return replace(step, action="add", why=tuple(why), starts=len(shape.wanted))
    if group in todo.replace:
        old = [p for p in members if running.revisions.get(p.full_name, shape.revision) != shape.revision]
        if old and not why:
            alive = active | {p.name for p in old}  # one that drains is not active, and may be old
            why.append(f"{len(old)} of {len(alive)} run an older revision")
        rollout = rollout_of(group, desired, shape, members, running.revisions)
        tried = {"surge": len(shape.wanted), "trial": 1}.get(rollout, 0) if active else 0
        # In a surge the new ones start beside the old, and leave when the group itself runs again.
        return replace(
            step,
            action="surge" if rollout == "surge" and active else "replace",
            why=tuple(why),
            starts=len(shape.wanted),
            drains=len(active),
            tried=tried,
            longest=longest,
        )
    starts, drains = _count(todo.start, group), _count(todo.drain, group)
    asked_for = {name for name in shape.wanted if name not in active}
    if starts and not why:
        why.append(f"{len(asked_for)} of {len(shape.wanted)} {'is' if len(asked_for) == 1 else 'are'} down")
    if group in numbers and numbers[group] != desired.numprocs[group]:
        why.append(f"scaled to {numbers[group]} by hand")
    ended = running.record.scaled.get(group) if running.daemon == running.record.daemon else None
    if ended is not None and ended.manifest != desired.numprocs[group]:  # explains who starts or drains
        why.append(f"scaled to {ended.number} by hand until now")
    rewrites = any(desired.files.get(name) != on_disk.get(name) for name in _names(group, desired.files))
    action = "scale" if drains else "start" if starts else "rewrite" if rewrites else "keep"
    return replace(
        step,
        action=action,
        why=tuple(why),
        starts=starts,
        drains=drains,
        keeps=len(active) - drains,
        longest=longest if drains else 0.0,
    )


def rollout_of(
    group: str,
    desired: Desired,
    shape: Shape,
    members: Iterable[Process],
    revisions: Mapping[str, str],
) -> str:
    """How a group is replaced: surge, trial or plain."""
    chosen = desired.rollouts.get(group, "plain")
    marks = {revisions[p.full_name] for p in members if p.full_name in revisions}
    # Only the room grows: more of the very same may run beside it, whatever it is.
    if marks and marks == {shape.revision}:
        return "surge"
    return chosen


def _removal(group: str, on_disk: Mapping[str, str], members: list[Process]) -> Step:
    why = "left by an apply that was ended" if is_stand_in(group) else "gone from the manifest"
    return Step(
        pipeline=group,
        group=group,
        action="remove",
        why=(why,),
        drains=len(_active(members)),
        longest=_longest(on_disk.get(_conf(group), "")),
    )


def _notes(desired: Desired, running: Running, todo: Actions, now: float) -> Iterable[str]:
    split = [
        group
        for group in todo.keep
        if (shape := running.known.get(group)) is not None
        and shape.made is not None
        and shape.made != desired.shapes[group].wanted
    ]
    if split:
        names = f"{', '.join(split[:5])}{' …' if len(split) > 5 else ''}"
        yield (
            f"supervisord made {names} with another number: a `supervisorctl update` by hand would drain "
            "and restart all of it; fleet apply does not"
        )
    for group, scaled in running.record.scaled.items():
        if running.daemon == running.record.daemon and scaled.is_over(now):
            yield f"the time of {group}'s {scaled.number} processes is over: apply ends it"


def _fingerprint(
    desired: Desired, on_disk: Mapping[str, str], running: Running, numbers: Mapping[str, int]
) -> str:
    ours = {*desired.groups, *running.record.groups}
    # Not the pids: a worker that makes way for a fresh one changes nothing that was planned.
    processes = sorted(
        (p.full_name, p.state.is_active, running.revisions.get(p.full_name, ""))
        for p in running.processes
        if p.group in ours
    )
    text = json.dumps(
        [
            dict(sorted(desired.files.items())),
            dict(sorted(on_disk.items())),
            running.daemon,
            processes,
            sorted(numbers.items()),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def edited(on_disk: Mapping[str, str], record: Record, asked_for: Mapping[str, str]) -> frozenset[str]:
    """
    Files that somebody else has written since fleet did.

    One that is as it is to be was most likely written by a run that was killed
    before it could say so: what the record says of that group still holds.
    """
    return frozenset(
        name
        for name, text in on_disk.items()
        if name in record.files and record.files[name] != digest(text) and asked_for.get(name) != text
    )


def _by_revision(shape: Shape) -> Shape:
    """The record compares configurations as supervisord parsed them; here nobody has parsed anything."""
    return replace(shape, processes=dict.fromkeys(shape.processes, shape.revision))


def _by_group(processes: Iterable[Process]) -> dict[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for process in processes:
        found.setdefault(process.group, []).append(process)
    return found


def _active(members: Iterable[Process]) -> frozenset[str]:
    return frozenset(process.name for process in members if process.state.is_active)


def _count(names: Iterable[str], group: str) -> int:
    return Counter(name.partition(":")[0] for name in names)[group]


def _longest(conf: str) -> float:
    found = _GRACE.search(conf)
    return float(found[1]) if found else 0.0


def _conf(group: str) -> str:
    return f"fleet.{group}.conf"


def _group_of(conf: str) -> str:
    return conf.removeprefix("fleet.").removesuffix(".conf")


def _names(group: str, files: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in (_conf(group), f"fleet.{group}.worker.json") if name in files)
