"""
Another number of processes, now: single ones are started and stopped, and nobody else notices.

The number is written into fleet's record before anything happens, since
supervisord has no place for it, and holds until supervisord is started anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic, time

from fleet.errors import Refused, SupervisorUnavailable
from fleet.manager import files, record, world
from fleet.manager.actions import Shape
from fleet.manager.places import Place
from fleet.manager.record import Scaled
from fleet.manager.rollout import IsAlive
from fleet.manager.start import Started, start
from fleet.manager.stop import Stopped, stop
from fleet.manager.stop import Tell as TellDrain
from fleet.supervisor.lock import LOCK, locked
from fleet.supervisor.process import Process

# Seconds that a process has been at its job; 0 for an idle one.
BusyFor = Callable[[Process], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One group's way to its number, by full names."""

    group: str
    before: int  # processes that ran or were about to
    after: int
    start: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    targets: tuple[Target, ...]
    started: Started
    stopped: Stopped
    seconds: float = 0.0


class BeyondRoom(Refused):
    """More processes than the groups were made with; `room` maps each such group to what it can hold."""

    def __init__(self, room: Mapping[str, int]) -> None:
        self.room = room
        listed = ", ".join(f"{group} has room for {most}" for group, most in room.items())
        super().__init__(f"{listed}. Nothing was changed.")


def targets(
    numbers: Mapping[str, int],
    numprocs: Mapping[str, int],
    processes: Iterable[Process],
    busy_for: BusyFor | None = None,
) -> tuple[Target, ...]:
    """
    Which processes start and which drain, so that each group has its number.  Pure but for *busy_for*.

    Idle ones leave first, then those with the shortest job, high numbers
    before low ones.  The manifest's own number (*numprocs*) is made of its own
    processes, the lowest: those that a restart of supervisord would bring.

    Raises:
        BeyondRoom: a group has fewer processes than that.
    """
    by_group: dict[str, list[Process]] = {group: [] for group in numbers}
    for process in processes:
        if process.group in by_group:
            by_group[process.group].append(process)
    lacking = {g: len(by_group[g]) for g, number in numbers.items() if number > len(by_group[g])}
    if lacking:
        raise BeyondRoom(lacking)
    found = []
    for group, number in numbers.items():
        members = sorted(by_group[group], key=_order)
        active = [p for p in members if p.state.is_active]
        idle = [p for p in members if not p.state.is_active]
        if number == numprocs.get(group):
            starting = [p for p in members[:number] if not p.state.is_active]
            leaving = [p for p in members[number:] if p.state.is_active]
        else:
            starting = idle[: max(0, number - len(active))]
            spare = max(0, len(active) - number)
            busy = {p.full_name: busy_for(p) if busy_for and spare else 0.0 for p in active}
            by_ease = sorted(enumerate(active), key=lambda pair: (busy[pair[1].full_name], -pair[0]))
            leaving = [process for _, process in by_ease[:spare]]
        found.append(
            Target(
                group=group,
                before=len(active),
                after=number,
                start=tuple(p.full_name for p in starting),
                drain=tuple(p.full_name for p in leaving),
            )
        )
    return tuple(found)


def preview(
    place: Place, project: str, numbers: Mapping[str, int], numprocs: Mapping[str, int]
) -> tuple[Target, ...]:
    """What `scale` would do, without asking who is busy."""
    daemon = place.find()
    if daemon is None:
        raise _nothing_runs(place)
    with files.opened(place.conf_dir, private=place.private) as folder:
        kept = record.load(folder.read(record.file_name(project)))
    processes = place.client().processes()
    world.check_ours(place, project, numbers.keys() & {process.group for process in processes})
    over = _over(kept, record.identity(daemon), numprocs.keys() - numbers.keys(), processes)
    return targets({**over, **numbers}, {**numprocs, **over}, processes)


def scale(
    place: Place,
    project: str,
    numbers: Mapping[str, int],
    *,
    numprocs: Mapping[str, int],
    until: float | None = None,
    timeout: float = 60.0,
    busy_for: BusyFor | None = None,
    is_alive: IsAlive | None = None,
    tell: TellDrain | None = None,
) -> Scaling:
    """
    Give each group of *numbers* that many processes; end the numbers by hand whose time is over.

    *numprocs* are the manifest's numbers, *until* is epoch seconds.  New ones
    start before old ones leave, and whoever is in neither heap is not touched.

    Raises:
        BeyondRoom: nothing was done; supervisord cannot add to a group that runs.
        Refused: a group is somebody else's, or another fleet command works here too long.
        SupervisorUnavailable: nothing runs here.
    """
    began = monotonic()
    if not place.conf_dir.is_dir():
        raise _nothing_runs(place)
    with (
        locked(place.conf_dir / LOCK, timeout=120.0),
        files.opened(place.conf_dir, private=place.private) as folder,
    ):
        daemon = place.find()
        if daemon is None:
            raise _nothing_runs(place)
        identity = record.identity(daemon)
        kept = record.load(folder.read(record.file_name(project)))
        client = place.client()
        processes = client.processes()
        world.check_ours(place, project, numbers.keys() & {process.group for process in processes})
        over = _over(kept, identity, numprocs.keys() - numbers.keys(), processes)
        found = targets({**over, **numbers}, {**numprocs, **over}, processes, busy_for)
        scaled = dict(kept.scaled) if kept.daemon == identity else {}
        for target in found:
            scaled.pop(target.group, None)
            if target.group in numbers and target.after != numprocs[target.group]:
                scaled[target.group] = Scaled(
                    number=target.after, manifest=numprocs[target.group], until=until
                )
        active = {p.full_name for p in processes if p.state.is_active}
        arriving = {name for target in found for name in target.start}
        leaving = {name for target in found for name in target.drain}
        groups = kept.for_daemon(identity)
        # Those that leave count until they are down: should this be killed, an apply drains them.
        begun = _with_processes(groups, found, active | arriving)
        record.save(folder, project, replace(kept, daemon=identity, groups=begun, scaled=scaled))
        started = start(client, [n for t in found for n in t.start], timeout=timeout, is_alive=is_alive)
        stopped = stop(client, [n for t in found for n in t.drain], tell=tell)
        done = _with_processes(groups, found, (active | arriving) - leaving)
        record.save(folder, project, replace(kept, daemon=identity, groups=done, scaled=scaled))
    return Scaling(targets=found, started=started, stopped=stopped, seconds=monotonic() - began)


def _with_processes(
    groups: Mapping[str, Shape | None], found: Iterable[Target], names: Iterable[str]
) -> dict[str, Shape | None]:
    """*groups* as they are when, of those that are scaled, these processes (full names) are to run."""
    chosen: dict[str, set[str]] = {target.group: set() for target in found}
    for name in names:
        group, _, process = name.partition(":")
        if group in chosen:
            chosen[group].add(process)
    scaled = dict(groups)
    for group, processes in chosen.items():
        known = groups.get(group)
        if known is not None:
            made = known.made if known.made is not None else known.wanted
            wanted = frozenset(processes)
            scaled[group] = replace(known, wanted=wanted, made=None if made == wanted else made)
    return scaled


def by_hand(place: Place, project: str) -> Mapping[str, Scaled]:
    """The numbers that hold or whose time is over, by group; none of an earlier supervisord."""
    daemon = place.find()
    if daemon is None or not place.conf_dir.is_dir():
        return {}
    with files.opened(place.conf_dir, private=place.private) as folder:
        kept = record.load(folder.read(record.file_name(project)))
    return kept.scaled if kept.daemon == record.identity(daemon) else {}


def numbers(place: Place, project: str, numprocs: Mapping[str, int]) -> dict[str, int]:
    """Those of `by_hand` that hold, by group; *numprocs* are the manifest's."""
    found = by_hand(place, project)
    now = time()
    return {g: s.number for g, s in found.items() if g in numprocs and s.holds(numprocs[g], now)}


def _over(
    kept: record.Record, identity: str, groups: Container[str], processes: Iterable[Process]
) -> dict[str, int]:
    """
    Those of *groups* whose number by hand has had its time, with the one that comes back.

    That is the manifest's of then: a newer one, and more than there are, is for apply.
    """
    if kept.daemon != identity:
        return {}
    now, room = time(), Counter(process.group for process in processes)
    return {
        group: min(scaled.manifest, room[group])
        for group, scaled in kept.scaled.items()
        if group in groups and group in room and scaled.is_over(now)
    }


def _order(process: Process) -> tuple[int, str]:
    """_99 before _100."""
    return len(process.name), process.name


def _nothing_runs(place: Place) -> SupervisorUnavailable:
    return SupervisorUnavailable(f"nothing runs here: no supervisord at {place.url}. Start it: fleet up")
