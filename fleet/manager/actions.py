"""
What must happen to the groups of a supervisord so that it runs what is wanted.  Pure.

supervisord itself only knows "this group changed", and replaces all of it for
the smallest difference.  Here a group is compared process by process, without
`autostart`: a new `numprocs` that only moves the split between the processes
that start by themselves and the room above them starts or drains the difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from fleet.supervisor.client import Changes
from fleet.supervisor.parser import ProcessConfig
from fleet.supervisor.process import Process, ProcessState

# In the environment of every process that fleet renders: a digest of all that it was started with.
REVISION = "FLEET_REVISION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A group as it is configured: its processes by digest, and those that are to run."""

    processes: Mapping[str, str]  # process name: digest of its configuration without autostart
    wanted: frozenset[str]  # process names
    revision: str = ""  # the FLEET_REVISION that its processes are started with; "" when they differ
    made: frozenset[str] | None = None  # what supervisord itself would start, when that is not `wanted`

    def full(self, group: str) -> frozenset[str]:
        return frozenset(f"{group}:{name}" for name in self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Groups by what happens to them, and the single processes of those that stay."""

    add: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()  # all of it drains, then it starts anew
    remove: tuple[str, ...] = ()  # drains, and is forgotten
    keep: tuple[str, ...] = ()
    start: tuple[str, ...] = ()  # full process names, in groups that are kept
    drain: tuple[str, ...] = ()  # the same; the surplus of a lower numprocs

    @property
    def is_nothing(self) -> bool:
        return not (self.add or self.replace or self.remove or self.start or self.drain)


def shape(configs: Iterable[ProcessConfig]) -> Shape:
    listed = tuple(configs)
    revisions = {config.environment.get(REVISION, "") for config in listed}
    return Shape(
        processes={config.name: _digest(config) for config in listed},
        wanted=frozenset(config.name for config in listed if config.autostart),
        revision=revisions.pop() if len(revisions) == 1 else "",
    )


def resized(shape: Shape, number: int, active: Container[str]) -> Shape:
    """
    *shape* with another number of processes that are to run, as far as it has room.

    Those of *active* (process names) come first, so that the fewest start and stop; then the lowest.
    """
    chosen = frozenset(
        sorted(shape.processes, key=lambda name: (name not in active, len(name), name))[:number]
    )
    return replace(shape, wanted=chosen, made=None if chosen == shape.wanted else shape.wanted)


def actions(
    wanted: Mapping[str, Shape],
    running: Iterable[Process],
    changes: Changes,
    applied: Mapping[str, Shape | None],
    *,
    revisions: Mapping[str, str] | None = None,
    scaled: Container[str] = (),
) -> Actions:
    """
    The way from what runs to what is wanted.

    *wanted* holds our groups by name.  *changes* is what reloadConfig answered.
    *applied* is what we know of the groups that we made: the shape that each was
    given to this very daemon with, or None when that is not certain.  Groups in
    neither mapping are not ours, whatever their names, and are left alone.
    *revisions* are the marks that running processes carry, by full name, where
    they can be seen: the one thing that nobody can have changed meanwhile.
    *scaled* are groups with a number of their own: what runs beyond it drains.
    """
    seen = revisions or {}
    by_group: dict[str, dict[str, Process]] = {}
    for process in running:
        by_group.setdefault(process.group, {})[process.name] = process
    # A group without processes is listed by no process call; reloadConfig knows it.
    present = by_group.keys() | set(changes.changed) | set(changes.removed)
    result: dict[str, list[str]] = {
        "add": [],
        "replace": [],
        "remove": [],
        "keep": [],
        "start": [],
        "drain": [],
    }
    for group, shape in wanted.items():
        members = by_group.get(group, {})
        before = applied.get(group)
        if group not in present:
            result["add"].append(group)
        elif not _may_stay(shape, members, before, group in changes.changed, seen):
            result["replace"].append(group)
        else:
            result["keep"].append(group)
            idle = (n for n in shape.wanted if n in members and _is_down(members[n].state))
            result["start"] += sorted(f"{group}:{name}" for name in idle)
            was = frozenset(members) if group in scaled else before.wanted if before else frozenset()
            surplus = was - shape.wanted
            active = (n for n in surplus if n in members and members[n].state.is_active)
            result["drain"] += sorted(f"{group}:{name}" for name in active)
    result["remove"] = sorted(group for group in applied.keys() - wanted.keys() if group in present)
    return Actions(**{name: tuple(found) for name, found in result.items()})


def with_numbers(
    wanted: Mapping[str, Shape], numbers: Mapping[str, int], present: Iterable[Process]
) -> dict[str, Shape]:
    """*wanted* with the *numbers* by hand of some groups; *present* is what runs."""
    active = {p.full_name for p in present if p.state.is_active}
    return {
        group: resized(found, numbers[group], {n for n in found.processes if f"{group}:{n}" in active})
        if group in numbers
        else found
        for group, found in wanted.items()
    }


def given_to(
    wanted: Mapping[str, Shape],
    plan: Actions,
    before: Mapping[str, Shape | None],
    *,
    by_hand: Container[str] = (),
) -> dict[str, Shape | None]:
    """
    The shapes that the groups have been made from once *plan* is carried out.

    One that stayed has its old processes, and a new number.  *by_hand* are new
    groups that supervisord was told not to start by itself.
    """
    given: dict[str, Shape | None] = {}
    for group, new in wanted.items():
        old = before.get(group) if group in plan.keep else None
        if old is not None:
            made = old.made if old.made is not None else old.wanted
            given[group] = replace(old, wanted=new.wanted, made=None if made == new.wanted else made)
        elif group in by_hand and group not in plan.keep:
            given[group] = replace(new, made=frozenset())
        else:
            given[group] = new
    return given


def _may_stay(
    shape: Shape,
    members: Mapping[str, Process],
    before: Shape | None,
    changed: bool,
    revisions: Mapping[str, str],
) -> bool:
    """Whether the group that runs can serve as the one that is wanted, process by process."""
    # More room than it was made with is taken up at its next replacement; less is simply not used.
    if not shape.wanted <= members.keys():
        return False
    marks = {revisions[p.full_name] for p in members.values() if p.full_name in revisions}
    if shape.revision and marks - {shape.revision}:
        return False
    if before is not None:
        return all(before.processes.get(name, digest) == digest for name, digest in shape.processes.items())
    # supervisord also calls a group changed when only the number is.
    return not changed or (bool(marks) and marks == {shape.revision})


def _is_down(state: ProcessState) -> bool:
    """A wanted process that nobody will start unless we do; one that still stops, once it has."""
    return state in (ProcessState.STOPPED, ProcessState.STOPPING, ProcessState.EXITED, ProcessState.FATAL)


def _digest(config: ProcessConfig) -> str:
    values = asdict(config)
    del values["autostart"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
