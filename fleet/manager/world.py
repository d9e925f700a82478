"""Looking at a place: the files that lie there and what runs.  Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time

from fleet.manager import files, record
from fleet.manager.actions import REVISION
from fleet.manager.compare import Plan, Running, compare
from fleet.manager.desired import Desired
from fleet.manager.files import Folder
from fleet.manager.places import Place
from fleet.manager.record import Record
from fleet.supervisor import pids
from fleet.supervisor.client import DaemonState
from fleet.supervisor.process import Process


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
    return compare(desired, on_disk, look(place, daemon, kept), now=time())


def look(place: Place, daemon: DaemonState | None, kept: Record) -> Running:
    if daemon is None or daemon.state == "SHUTDOWN":
        return Running(record=kept)
    processes = place.client().processes()
    return Running(daemon=identity(daemon), processes=processes, revisions=revisions(processes), record=kept)


def revisions(processes: Iterable[Process]) -> Mapping[str, str]:
    """The mark that each running process carries, by full name; those that cannot be seen are left out."""
    alive = {p.pid: p for p in processes if p.pid is not None}
    found = pids.marks({pid: (p.group, p.name) for pid, p in alive.items()}, REVISION)
    return {alive[pid].full_name: mark for pid, mark in found.items()}


def identity(daemon: DaemonState) -> str:
    """One run of one supervisord: a pid alone may be used again."""
    return f"{daemon.pid}@{pids.started_at(daemon.pid) if daemon.pid else 0:.2f}"
