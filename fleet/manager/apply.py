"""
Make it so: files written, groups acted on, and waited for until they are healthy.

The order is what makes a run that is killed anywhere harmless, as long as
another one follows: the whole include set is tried first, files change in
single steps, the record of what a group was made from is taken back before the
group is touched, and every decision is made again from what is then true.

Foreign files and groups are never touched, and `update`, `reload` and
`restart` are never asked of supervisord.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time

from fleet.errors import (
    PartlyDone,
    Refused,
    RenderError,
    SupervisorError,
    SupervisorFault,
    SupervisorUnavailable,
)
from fleet.manager import autostart, daemon, files, history, record, world
from fleet.manager.actions import Actions, Shape, actions, given_to, shape, with_numbers
from fleet.manager.beside import Beside, needed
from fleet.manager.compare import edited, revision_of
from fleet.manager.desired import Desired
from fleet.manager.files import Folder
from fleet.manager.places import Place
from fleet.manager.record import Record
from fleet.manager.rollout import GroupResult, IsAlive, Tell, roll_out
from fleet.manager.stand_in import is_stand_in
from fleet.manager.written import Written
from fleet.supervisor import parser, pids, private
from fleet.supervisor.client import CANT_REREAD, Changes, DaemonState, Supervisor
from fleet.supervisor.lock import LOCK, locked
from fleet.supervisor.process import Process

__all__ = ["Applied", "Desired", "apply", "locked"]

# stdin, stdout and the log file of each process, with a little room for stderr and rotation.
_FILES_A_PROCESS = 4
_FILES_OF_ITS_OWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done.  `groups` holds every group, also those that were left alone."""

    daemon: DaemonState
    started: bool  # the private supervisord was started for this
    written: tuple[str, ...]  # file names
    removed: tuple[str, ...]
    groups: tuple[GroupResult, ...]
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    revision: str = ""  # of the files that were asked for
    undone: bool = False  # a group did not come up, and everything is again as it was

    @property
    def is_unchanged(self) -> bool:
        touched = any(group.action != "kept" for group in self.groups)
        return not (self.started or self.written or self.removed or touched)

    @property
    def failed(self) -> tuple[GroupResult, ...]:
        return tuple(group for group in self.groups if group.failures)


def apply(
    place: Place,
    desired: Desired,
    *,
    timeout: float = 60.0,
    lock_timeout: float = 120.0,
    tell: Tell | None = None,
    is_alive: IsAlive | None = None,
    undo: bool = False,
    expect: str = "",
    surge: bool = False,
) -> Applied:
    """
    Bring *place* to what is *desired*, and start its supervisord if it is a private one.

    *timeout* is seconds for processes to come up; drains take what their own
    `stopwaitsecs` allow.  *tell* gets each group as it is settled.  *is_alive*
    is asked about each process that is RUNNING, and says no until it has proved
    that it works.  With *undo*, a group that does not come up puts everything
    back as it was; without, the others stay as they are then.  *expect* is the
    fingerprint of a plan: a world that has changed since is refused.  *surge*
    replaces groups by surge whatever the manifest says.

    Raises:
        RenderError: supervisord would refuse the files, ours or others'; nothing was changed.
        Refused: a file or folder is not ours to write, another fleet command works here too
            long, or the world is not the one that was planned for.
        SupervisorError: supervisord did not start, or does not answer.
        PartlyDone: it stopped answering, or refused, in the middle; says what was done.
    """
    if place.home is not None:
        private.prepare(place.home)
    with (
        locked(place.conf_dir / LOCK, timeout=lock_timeout),
        files.opened(place.conf_dir, private=place.private) as folder,
    ):
        folder.sweep()
        work = _Apply(place, desired, folder, timeout, tell, is_alive, undo, surge)
        try:
            found = place.find()
            if expect and world.plan_in(folder, place, desired, found).fingerprint != expect:
                raise Refused("something has changed since the plan was made. Nothing was done; plan again.")
            return work.run(found)
        except SupervisorError as error:
            if not work.steps():
                raise
            raise PartlyDone(f"{error}\n{work.so_far()}") from error
        except KeyboardInterrupt as stop:
            stop.add_note(work.so_far())
            raise


class _Apply:
    """One run, under the lock."""

    def __init__(
        self,
        place: Place,
        desired: Desired,
        folder: Folder,
        timeout: float,
        tell: Tell | None,
        is_alive: IsAlive | None,
        undo: bool,
        surge: bool,
    ) -> None:
        self.place, self.desired, self.folder = place, desired, folder
        self.timeout, self.tell, self.is_alive = timeout, tell, is_alive
        self.may_undo, self.surge = undo, surge
        self.began = monotonic()
        self.files = Written(place, desired, folder)
        self.before = record.load(folder.read(record.file_name(desired.project)))
        self.done: list[str] = []  # in words, beside what was done to the files

    def steps(self) -> list[str]:
        return [*self.files.in_words(), *self.done]

    def so_far(self) -> str:
        """For somebody who is left in the middle."""
        steps = self.steps()
        if not steps:
            return "Nothing was changed."
        return f"Done before that: {'; '.join(steps)}. Run the same command again to finish."

    def run(self, running: DaemonState | None) -> Applied:
        wanted = self._wanted(running)
        open_files = _FILES_OF_ITS_OWN + _FILES_A_PROCESS * sum(len(s.processes) for s in wanted.values())
        if running is None or running.state == "SHUTDOWN":
            return self._from_nothing(wanted, open_files)
        client = self.place.client()
        present = client.processes()
        identity = record.identity(running)
        by_hand = edited(self.files.on_disk, self.before, self.desired.files)
        marks = world.revisions(present, self.folder.changed_at(by_hand))
        numbers = self.before.numbers(identity, self.desired.numprocs, time())
        wanted = with_numbers(wanted, numbers, present)
        known = {
            group: None if f"fleet.{group}.conf" in by_hand else found
            for group, found in self.before.for_daemon(identity).items()
        }

        def decide(changes: Changes) -> Actions:
            return actions(wanted, present, changes, known, revisions=marks, scaled=numbers)

        # What supervisord would answer: it has to read the files first, and they are not written yet.
        guess = decide(
            Changes(
                changed=tuple(
                    g for g in wanted if f"fleet.{g}.conf" in self.files.write and known.get(g) is None
                )
            )
        )
        beside = Beside(client, self.folder, self.is_alive, self.timeout)
        stand_ins = needed(self.desired, guess.replace, wanted, present, marks, surge=self.surge)
        if stand_ins:
            names = [stand_in.group for stand_in in stand_ins]
            self._keep(identity, {**known, **dict.fromkeys(names)}, numbers, self.before.files)
            self.done.append(f"temporary groups begun: {', '.join(names)}")
            refused = beside.begin(stand_ins)
            if refused:
                beside.end(stand_ins)
                self._keep(identity, known, numbers, self.before.files)
                return self._applied(running, refused, undone=True)
        by_fleet = autostart.by_hand(self.desired.files, wanted, {*guess.add, *guess.replace})
        plan = guess
        certain = all(known.get(group) for group in wanted)
        try:
            self.files.write_main_conf()
            self.files.write_new()
            # Reading 500 files takes supervisord a second in which it answers nobody.
            if self.files.write or self.files.remove or stand_ins or not certain or not plan.is_nothing:
                with autostart.withheld(self.folder, self.desired.files, self.desired.access, by_fleet):
                    plan = decide(self._reload(client))
        except (Refused, RenderError):
            with suppress(Refused):  # the disk that is full may be so for the old files, too
                self.files.write_back()
            if stand_ins:
                beside.end(stand_ins)
            raise
        warnings = daemon.room_for(self.place, running, open_files)
        begun = {*plan.add, *plan.replace, *(s.group for s in stand_ins)}
        uncertain = {g: None if g in begun else known.get(g) for g in {*known, *wanted, *begun}}
        self._keep(identity, uncertain, numbers)
        results = self._roll_out(client, plan, wanted, present)
        given = given_to(wanted, plan, known, by_hand=_groups(by_fleet))
        undone = False
        if self.may_undo and any(self._counts(result, plan) for result in results):
            touched = {*plan.add, *plan.replace, *plan.remove}
            self._undo(client, identity, {**given, **dict.fromkeys(plan.remove)}, numbers, touched)
            undone = True
        if stand_ins:
            beside.end(stand_ins)
        if not undone:
            self.files.remove_specs()
            self._keep(identity, given, numbers)
            self._remember()
        return self._applied(running, results, warnings=warnings, undone=undone)

    def _wanted(self, running: DaemonState | None) -> dict[str, Shape]:
        """The shape of each group that is asked for, as supervisord's own parser understands it."""
        self.files.check()
        environ = daemon.environ(self.place, running)
        found = parser.read(self._main_conf(running), self.files.overlay(), environ=environ)
        return daemon.check(found, self.place, self.desired)

    def _main_conf(self, running: DaemonState | None) -> Path:
        said = pids.main_conf(running.pid) if running and running.pid else None
        return said or self.place.main_conf

    def _from_nothing(self, wanted: Mapping[str, Shape], open_files: int) -> Applied:
        """
        No supervisord runs: the files, and then a new one, to which the groups are added.

        If it found them when it starts, it would fork all their processes in one
        turn of its loop, and answer nobody meanwhile: 500 take a second.
        """
        home = self.place.home
        self.files.write_new()
        if home is None:
            raise SupervisorUnavailable(
                f"supervisord at {self.place.url} shuts down. The files are in place."
            )
        self.files.write_main_conf()
        with daemon.without_groups(home):
            running, started = private.start(home, open_files=open_files)
        if not started:  # somebody else was faster
            return self.run(running)
        self.done.append("supervisord started")
        plan = Actions(add=tuple(wanted))
        warnings = daemon.room_for(self.place, running, open_files)
        identity = record.identity(running)
        self._keep(identity, dict.fromkeys({*self.before.groups, *wanted}), {})
        client = self.place.client()
        by_fleet = autostart.by_hand(self.desired.files, wanted, wanted)
        try:
            with autostart.withheld(self.folder, self.desired.files, self.desired.access, by_fleet):
                found = self._reload(client).added
        except RenderError:
            private.stop(home)
            raise
        client.add_groups(group for group in found if group not in wanted)  # somebody's own files there
        results = self._roll_out(client, plan, wanted, present=())
        undone = self.may_undo and any(self._counts(result, plan) for result in results)
        if undone:
            self.files.write_back()
            roll_out(client, Actions(remove=tuple(wanted)), {}, {}, client.processes(), timeout=self.timeout)
            private.stop(home)
        else:
            self.files.remove_specs()
            self._keep(identity, given_to(wanted, plan, {}, by_hand=_groups(by_fleet)), {})
            self._remember()
        return self._applied(running, results, started=not undone, warnings=warnings, undone=undone)

    def _roll_out(
        self,
        client: Supervisor,
        plan: Actions,
        wanted: Mapping[str, Shape],
        present: Iterable[Process],
    ) -> tuple[GroupResult, ...]:
        single = (name.partition(":")[0] for name in (*plan.start, *plan.drain))
        begun = dict.fromkeys((*plan.add, *plan.replace, *plan.remove, *single))
        if begun:
            names = (self.desired.groups.get(group, group) for group in begun)
            self.done.append(f"begun with {', '.join(names)}")
        return roll_out(
            client,
            plan,
            wanted,
            self.desired.groups,
            present,
            timeout=self.timeout,
            tell=self._settled,
            is_alive=self.is_alive,
        )

    def _settled(self, result: GroupResult) -> None:
        if result.action != "kept":
            self.done.append(f"{result.action} {result.pipeline}")
        if self.tell is not None:
            self.tell(result)

    def _counts(self, result: GroupResult, plan: Actions) -> bool:
        """A failure that this run brought about; one that was there before undoes nothing."""
        changed = (
            result.group in {*plan.add, *plan.replace} or f"fleet.{result.group}.conf" in self.files.write
        )
        return bool(result.failures) and changed

    def _reload(self, client: Supervisor) -> Changes:
        """Let the daemon read the files; if it refuses what its parser took, put the old ones back."""
        try:
            return client.reload_config()
        except SupervisorFault as fault:
            if fault.code != CANT_REREAD:
                raise
            self.files.write_back()
            # It has read nothing new; it may refuse once more for the sake of a file that is not ours.
            with suppress(SupervisorError):
                client.reload_config()
            raise RenderError(
                f"supervisord refuses the files: {fault}\nThe old files are back in place."
            ) from fault

    def _undo(
        self,
        client: Supervisor,
        identity: str,
        given: Mapping[str, Shape | None],
        numbers: Mapping[str, int],
        touched: Container[str],
    ) -> None:
        """Put back what was there, in files and in supervisord."""
        self._keep(identity, given, numbers, self.before.files)
        self.files.write_back()
        self.done.append("the old files are back in place")
        running = self.place.find()
        found = parser.read(self._main_conf(running), environ=daemon.environ(self.place, running))
        old = {g: shape(found.groups[g]) for g in _groups(self.files.on_disk) if g in found.groups}
        old = {g: was for g, was in old.items() if not is_stand_in(g)}
        present = client.processes()
        old = with_numbers(old, numbers, present)
        by_fleet = autostart.by_hand(self.files.on_disk, old, touched)
        with autostart.withheld(self.folder, self.files.on_disk, self.files.access, by_fleet):
            changes = client.reload_config()
        plan = actions(old, present, changes, given, revisions=world.revisions(present), scaled=numbers)
        roll_out(client, plan, old, self.desired.groups, present, timeout=self.timeout)
        back = given_to(old, plan, given, by_hand=_groups(by_fleet))
        self._keep(identity, back, numbers, self.before.files)

    def _keep(
        self,
        identity: str,
        groups: Mapping[str, Shape | None],
        numbers: Mapping[str, int],
        written: Mapping[str, str] | None = None,
    ) -> None:
        """Write down what is in force; *written* are the digests of the files, by default those asked for."""
        if written is None:
            written = {name: record.digest(text) for name, text in self.desired.files.items()}
        scaled = {g: s for g, s in self.before.scaled.items() if g in numbers}
        record.save(
            self.folder,
            self.desired.project,
            Record(daemon=identity, groups=groups, files=written, scaled=scaled),
        )

    def _remember(self) -> None:
        history.save(self.folder, self.desired, at=time())

    def _applied(
        self,
        running: DaemonState,
        results: tuple[GroupResult, ...],
        *,
        started: bool = False,
        warnings: tuple[str, ...] = (),
        undone: bool = False,
    ) -> Applied:
        return Applied(
            daemon=running,
            started=started,
            written=() if undone else self.files.write,
            removed=() if undone else self.files.remove,
            groups=results,
            warnings=warnings,
            seconds=monotonic() - self.began,
            revision=revision_of(self.desired.files),
            undone=undone,
        )


def _groups(confs: Iterable[str]) -> frozenset[str]:
    return frozenset(name.removeprefix("fleet.").removesuffix(".conf") for name in confs)
