"""
Temporary groups beside those that are to be replaced: new processes that prove themselves first.

supervisord replaces a group only as a whole: stop all, forget it, make it anew.
A second group with the new settings bridges that, or shows that they do not
work while every old process is still there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fleet.errors import RenderError, SupervisorFault
from fleet.manager.actions import Shape
from fleet.manager.compare import rollout_of
from fleet.manager.desired import Desired, StandIn
from fleet.manager.files import Access, Folder
from fleet.manager.health import Health, advance, give_up
from fleet.manager.rollout import GroupResult, IsAlive
from fleet.manager.start import POLL, failure, quiet
from fleet.manager.stopper import Stopper
from fleet.supervisor.client import ALREADY_ADDED, BAD_NAME, CANT_REREAD, STILL_RUNNING, Supervisor
from fleet.supervisor.process import Process


def needed(
    desired: Desired,
    replaced: Iterable[str],
    wanted: Mapping[str, Shape],
    present: Sequence[Process],
    marks: Mapping[str, str],
    *,
    surge: bool,
) -> list[StandIn]:
    """
    The temporary groups for those that are *replaced*: of each that works now, as far as it may have company.

    *present* is what runs, *marks* are the revisions of that by full name.  With
    *surge* each gets as many as it has, whatever the manifest says.
    """
    if desired.stand_in is None:
        return []
    found = []
    for group in replaced:
        members = [process for process in present if process.group == group]
        rollout = "surge" if surge else rollout_of(group, desired, wanted[group], members, marks)
        number = {"surge": len(wanted[group].wanted), "trial": 1}.get(rollout, 0)
        if number and any(process.state.is_active for process in members):
            found.append(desired.stand_in(group, number))
    return found


class Beside:
    """Starts stand-ins and ends them; its caller keeps the lock and the record."""

    def __init__(self, client: Supervisor, folder: Folder, is_alive: IsAlive | None, timeout: float) -> None:
        self.client, self.folder, self.is_alive, self.timeout = client, folder, is_alive, timeout

    def begin(self, stand_ins: Sequence[StandIn]) -> tuple[GroupResult, ...]:
        """
        Start them and wait until they are healthy; the results of those that are not.

        Raises:
            RenderError: supervisord refuses their files, which are gone again then.
        """
        self._end_groups(stand_ins)  # left by a run that was killed
        for stand_in in stand_ins:
            for name, text in sorted(stand_in.files.items(), key=lambda item: item[0].endswith(".conf")):
                self.folder.write(name, text, stand_in.access.get(name, Access()))
        self.folder.sync()
        try:
            self.client.reload_config()
        except SupervisorFault as fault:
            if fault.code != CANT_REREAD:
                raise
            self._remove_files(stand_ins)
            raise RenderError(f"supervisord refuses the files: {fault}\nNothing was changed.") from fault
        for group, verdict in self.client.add_groups(s.group for s in stand_ins).items():
            if verdict is not None and verdict.code != ALREADY_ADDED:
                raise SupervisorFault(verdict.code, f"{group}: {verdict}")
        return self._wait(stand_ins)

    def end(self, stand_ins: Sequence[StandIn]) -> None:
        """Drain and forget them, and remove their files."""
        processes = self.client.processes()
        self._end_groups(stand_ins)
        self._remove_logs(processes, stand_ins)
        self._remove_files(stand_ins)
        self.client.reload_config()

    def _wait(self, stand_ins: Iterable[StandIn]) -> tuple[GroupResult, ...]:
        began = time.monotonic()
        groups = {stand_in.group: stand_in for stand_in in stand_ins}
        names = {p.full_name: p.group for p in self.client.processes() if p.group in groups}
        health = Health(waiting=frozenset(names))
        while True:
            asked = time.monotonic()
            processes = {p.full_name: p for p in self.client.processes()}
            health = advance(health, processes.values(), quiet(health, processes, self.is_alive))
            if time.monotonic() - began > self.timeout:
                health = give_up(health)
            # One that failed is reason enough; the others need not be waited for.
            if health.is_settled or health.failed:
                break
            time.sleep(max(POLL, time.monotonic() - asked))
        return tuple(
            GroupResult(
                pipeline=stand_in.pipeline,
                group=group,
                action="refused",
                wanted=stand_in.number,
                running=sum(names[name] == group for name in health.up),
                failures=tuple(
                    failure(name, processes.get(name))
                    for name in sorted(health.failed)
                    if names[name] == group
                ),
                seconds=time.monotonic() - began,
            )
            for group, stand_in in groups.items()
            if any(names[name] == group for name in health.failed)
        )

    def _end_groups(self, stand_ins: Iterable[StandIn]) -> None:
        left = {stand_in.group for stand_in in stand_ins}
        stopper = Stopper(self.client)
        while left:
            found = [p for p in self.client.processes() if p.group in left]
            stopper.again(found)
            stopper.stop(p.full_name for p in found if p.state.is_active)
            busy = {p.group for p in found if not p.state.is_stopped}
            for group, verdict in self.client.remove_groups(sorted(left - busy)).items():
                if verdict is None or verdict.code == BAD_NAME:
                    left.discard(group)
                elif verdict.code != STILL_RUNNING:
                    raise verdict
            if left:
                time.sleep(POLL)

    def _remove_logs(self, processes: Iterable[Process], stand_ins: Iterable[StandIn]) -> None:
        """Nobody would ever look at them again; only those that carry the temporary group's name."""
        groups = {stand_in.group for stand_in in stand_ins}
        for process in processes:
            path = Path(process.logfile)
            if process.group in groups and path.is_absolute() and path.name.startswith(f"{process.group}_"):
                with contextlib.suppress(OSError):  # of another user, who may keep it
                    path.unlink()

    def _remove_files(self, stand_ins: Iterable[StandIn]) -> None:
        for stand_in in stand_ins:
            for name in sorted(stand_in.files, key=lambda name: not name.endswith(".conf")):
                self.folder.remove(name)
        self.folder.sync()
