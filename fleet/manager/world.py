"""Looking at a place: the files that lie there and what runs.  Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from time import time

from fleet.errors import Refused
from fleet.manager import files, record
from fleet.manager.actions import REVISION
from fleet.manager.compare import Plan, Running, compare, edited
from fleet.manager.desired import Desired
from fleet.manager.files import Folder
from fleet.manager.places import Place
from fleet.manager.plan import spec_name
from fleet.manager.record import Record
from fleet.supervisor import pids
from fleet.supervisor.client import DaemonState
from fleet.supervisor.process import Process

EDITED = "edited"  # the mark of no revision


def plan(place: Place, desired: Desired) -> Plan:
    """
    What `apply` would do now.

    Raises:
        Refused: conf_dir cannot be used.
        SupervisorError: a supervisord that is not fleet's own does not answer.
    """
    if place.private and not place.conf_dir.is_dir():
        return compare(desired, {}, Running(), now=time())
    with files.opened(place.conf_dir, private=place.private) as folder:
        return plan_in(folder, place, desired, place.find())


def plan_in(folder: Folder, place: Place, desired: Desired, daemon: DaemonState | None) -> Plan:
    """The same with the folder open, and the daemon found."""
    on_disk = folder.ours(desired.project)
    kept = record.load(folder.read(record.file_name(desired.project)))
    edits = folder.changed_at(edited(on_disk, kept, desired.files))
    found = compare(desired, on_disk, look(place, daemon, kept, edits), now=time())
    return replace(found, notes=(*found.notes, *_strangers(folder, place, desired)))


def _strangers(folder: Folder, place: Place, desired: Desired) -> Iterator[str]:
    """In a supervisord of one's own, another project is most likely this one before it was renamed."""
    projects: dict[str, list[str]] = {}
    for name in folder.names() if place.private else ():
        if name.startswith("fleet.") and name.endswith(".conf") and name not in desired.files:
            project = files.project_of(name, folder.read(name) or "")
            if project is not None and project != desired.project:
                projects.setdefault(project, []).append(name)
    for project, names in projects.items():
        listed = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        yield (
            f"{place.conf_dir} also holds the project {project!r} ({listed}), which goes on as it is. If "
            "that is this project under its old name: fleet down, remove those files, fleet up"
        )


def check_ours(place: Place, project: str, groups: Iterable[str]) -> None:
    """
    A supervisord that others use, too, may have groups of these names that fleet did not make.

    Raises:
        Refused: neither the record nor a file of *project* tells of one of *groups*.
    """
    if place.private:
        return
    with files.opened(place.conf_dir, private=False) as folder:
        known = record.load(folder.read(record.file_name(project))).groups
        for group in sorted(set(groups) - known.keys()):
            name = f"fleet.{group}.conf"
            text = folder.read(name)
            if text is None or files.project_of(name, text) != project:
                raise Refused(
                    f"{group} at {place.url} was not made by fleet: there is no {name} of this project in "
                    f"{place.conf_dir}. Nothing was changed. See: fleet plan"
                )


def look(place: Place, daemon: DaemonState | None, kept: Record, edits: Mapping[str, float]) -> Running:
    """*edits* are our files that somebody else has written, and when."""
    if daemon is None or daemon.state == "SHUTDOWN":
        return Running(record=kept)
    processes = place.client().processes()
    seen = revisions(processes, edits)
    return Running(daemon=record.identity(daemon), processes=processes, revisions=seen, record=kept)


def revisions(processes: Iterable[Process], edits: Mapping[str, float] | None = None) -> Mapping[str, str]:
    """
    The mark that each running process carries, by full name; those that cannot be seen are left out.

    A process that may have been made from a file that was edited by hand
    (*edits*: when) carries `EDITED`, whatever the edit left of its mark.
    """
    alive = {p.pid: p for p in processes if p.pid is not None}
    found = pids.marks({pid: (p.group, p.name) for pid, p in alive.items()}, REVISION)
    marks = {alive[pid].full_name: mark for pid, mark in found.items()}
    return marks | dict.fromkeys(made_from_edits(alive.values(), edits or {}), EDITED)


def made_from_edits(processes: Iterable[Process], edits: Mapping[str, float]) -> set[str]:
    """
    Full names of the running processes that were started from one of the files *edits*.  Pure.

    A conf is read for the whole group, and by then all of it has been stopped: if
    one process is older than the edit, none was made from it.  A spec is read by
    each worker as it starts.
    """
    by_group: dict[str, list[Process]] = {}
    for process in processes:
        by_group.setdefault(process.group, []).append(process)
    found: set[str] = set()
    for group, members in by_group.items():
        conf = _since(members, edits.get(f"fleet.{group}.conf"))
        found |= conf if len(conf) == len(members) else set()
        found |= _since(members, edits.get(spec_name(group)))
    return found


def _since(members: Iterable[Process], edited_at: float | None) -> set[str]:
    """Those that were started at that time or later; supervisord tells whole seconds."""
    if edited_at is None:
        return set()
    return {p.full_name for p in members if p.started_at is not None and p.started_at >= int(edited_at)}
