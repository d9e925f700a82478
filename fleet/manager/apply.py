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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from fleet.errors import Refused, RenderError, SupervisorFault, SupervisorUnavailable
from fleet.manager import files, record
from fleet.manager.actions import Actions, Shape, actions, shape
from fleet.manager.files import Access, Folder
from fleet.manager.places import Place
from fleet.manager.record import Record
from fleet.manager.rollout import GroupResult, Tell, roll_out
from fleet.supervisor import parser, pids, private
from fleet.supervisor.client import CANT_REREAD, Changes, DaemonState, Supervisor
from fleet.supervisor.lock import LOCK, locked
from fleet.supervisor.parser import IncludeSet
from fleet.supervisor.private import Home

# stdin, stdout and the log file of each process, with a little room for stderr and rotation.
_FILES_A_PROCESS = 4
_FILES_OF_ITS_OWN = 200
# Seconds for one answer: a group of 1,000 processes starts in one turn of supervisord's loop.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What is asked for, rendered."""

    project: str
    files: Mapping[str, str]  # file name: text
    groups: Mapping[str, str]  # group: pipeline, in the manifest's order
    main_conf: str | None = None  # the text of a private supervisord's own file
    log_dirs: tuple[Path, ...] = ()
    access: Mapping[str, Access] = field(default_factory=dict)  # file name: who may read it


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
) -> Applied:
    """
    Bring *place* to what is *desired*, and start its supervisord if it is a private one.

    *timeout* is seconds for processes to come up; drains take what their own
    `stopwaitsecs` allow.  *tell* gets each group as it is settled.

    Raises:
        RenderError: supervisord would refuse the files, ours or others'; nothing was changed.
        Refused: a file or folder is not ours to write, or another fleet command works here too long.
        SupervisorError: supervisord did not start, or does not answer.
        PartlyDone: it stopped answering in the middle; says what was done.
    """
    began = monotonic()
    if place.home is not None:
        private.prepare(place.home)
    with (
        locked(place.conf_dir / LOCK, timeout=lock_timeout),
        files.opened(place.conf_dir, private=place.private) as folder,
    ):
        folder.sweep()
        running = place.find()
        main_conf = (pids.option(running.pid, "-c") if running and running.pid else None) or place.main_conf
        on_disk = folder.ours(desired.project)
        write, remove = files.changes(desired.files, on_disk)
        for name in write:
            folder.check_may_write(name, desired.project)
        for path in desired.log_dirs:
            _make_log_dir(path)
        overlay: dict[Path, str | None] = {place.conf_dir / name: desired.files[name] for name in write}
        overlay |= {place.conf_dir / name: None for name in remove}
        if desired.main_conf is not None:
            overlay[place.main_conf] = desired.main_conf
        wanted = _check(parser.read(main_conf, overlay, environ=_environ(place, running)), place, desired)
        open_files = _FILES_OF_ITS_OWN + _FILES_A_PROCESS * sum(len(s.processes) for s in wanted.values())

        before = record.load(folder.read(record.file_name(desired.project)))
        if place.home is not None and desired.main_conf is not None:
            _write_main_conf(place.home, desired.main_conf)
        # A removed spec goes last: its workers may be started once more before they are told to stop.
        _write(folder, desired, write, [name for name in remove if name.endswith(".conf")])

        started = False
        if running is None or running.state == "SHUTDOWN":
            if place.home is None:
                raise SupervisorUnavailable(f"supervisord at {place.url} shuts down. The files are in place.")
            running, started = private.start(place.home, open_files=open_files)
        client = place.client(timeout=_PATIENCE)
        known = before.for_daemon(_identity(running))
        present = client.processes()
        if started:
            plan = Actions(add=tuple(wanted))
        else:
            plan = actions(wanted, present, Changes(), known)
            certain = all(known.get(group) for group in wanted)
            # Reading 500 files takes supervisord a second in which it answers nobody.
            if write or remove or not certain or not plan.is_nothing:
                changes = _reload(client, folder, desired, on_disk, write, remove)
                plan = actions(wanted, present, changes, known)
        warnings = _room_for(place, running, open_files)
        uncertain = {*plan.add, *plan.replace}
        known_now = {g: None if g in uncertain else known.get(g) for g in {*known, *wanted}}
        _keep_record(folder, desired.project, Record(daemon=_identity(running), groups=known_now))
        results = roll_out(
            client, plan, wanted, desired.groups, present, already_added=started, timeout=timeout, tell=tell
        )
        _write(folder, desired, (), [name for name in remove if not name.endswith(".conf")])
        given = _given(wanted, plan, known)
        _keep_record(folder, desired.project, Record(daemon=_identity(running), groups=given))
    return Applied(
        daemon=running,
        started=started,
        written=write,
        removed=remove,
        groups=results,
        warnings=warnings,
        seconds=monotonic() - began,
    )


def _check(found: IncludeSet, place: Place, desired: Desired) -> dict[str, Shape]:
    """The shape of each group that is asked for, or why the set cannot be used."""
    problems = list(found.problems())
    missing = [group for group in desired.groups if group not in found.groups]
    if not problems and missing:
        problems.append(
            f"{found.files[0].path} does not include {place.conf_dir}: "
            f"add {place.conf_dir}/*.conf to [include] files there, and restart that supervisord once"
        )
    if problems:
        raise RenderError(
            "supervisord would not take these files:\n" + "\n".join(problems) + "\nNothing was changed."
        )
    return {group: shape(found.groups[group]) for group in desired.groups}


def _environ(place: Place, running: DaemonState | None) -> Mapping[str, str] | None:
    """What %(ENV_X)s means to the daemon; with one that we cannot look into, what it means to us."""
    if place.private:
        return private.clean_environ()
    return (pids.environ(running.pid) if running and running.pid else None) or None


def _make_log_dir(path: Path) -> None:
    """supervisord refuses everything when the folder of one log file is missing."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the log folder {path} cannot be made: {error.strerror}. Make it, or set logs.dir."
        ) from error


def _write_main_conf(home: Home, text: str) -> None:
    with files.opened(home.state_dir, private=True) as folder:
        if folder.read(home.main_conf.name) != text:
            folder.write(home.main_conf.name, text, Access(mode=0o600))
            folder.sync()


def _write(folder: Folder, desired: Desired, write: Iterable[str], remove: Iterable[str]) -> None:
    write, remove = tuple(write), tuple(remove)
    for name in write:
        folder.write(name, desired.files[name], desired.access.get(name, Access()))
    for name in remove:
        folder.remove(name)
    if write or remove:
        folder.sync()


def _reload(
    client: Supervisor,
    folder: Folder,
    desired: Desired,
    on_disk: Mapping[str, str],
    write: tuple[str, ...],
    remove: tuple[str, ...],
) -> Changes:
    """Let the daemon read the files; if it refuses what its parser took, put the old ones back."""
    try:
        return client.reload_config()
    except SupervisorFault as fault:
        if fault.code != CANT_REREAD:
            raise
        for name in (*write, *remove):
            if name in on_disk:
                folder.write(name, on_disk[name], desired.access.get(name, Access()))
            else:
                folder.remove(name)
        folder.sync()
        client.reload_config()
        raise RenderError(
            f"supervisord refuses the files: {fault}\nThe old files are back in place."
        ) from fault


def _identity(daemon: DaemonState) -> str:
    """One run of one supervisord: a pid alone may be used again."""
    return f"{daemon.pid}@{pids.started_at(daemon.pid) if daemon.pid else 0:.2f}"


def _room_for(place: Place, daemon: DaemonState, open_files: int) -> tuple[str, ...]:
    if not place.private or daemon.pid is None:
        return ()
    limit = pids.raise_open_files(daemon.pid, open_files)
    if limit >= open_files:
        return ()
    return (
        f"supervisord may open {limit:,} files, and all processes together may need {open_files:,}: "
        f"some would not start. Raise the hard limit (ulimit -Hn) and run `fleet down` and `fleet up`.",
    )


def _given(
    wanted: Mapping[str, Shape], plan: Actions, before: Mapping[str, Shape | None]
) -> dict[str, Shape | None]:
    """The shapes that the groups were made from.  One that stayed has its old processes, and a new number."""
    given: dict[str, Shape | None] = {}
    for group, new in wanted.items():
        old = before.get(group) if group in plan.keep else None
        given[group] = new if old is None else Shape(processes=old.processes, wanted=new.wanted)
    return given


def _keep_record(folder: Folder, project: str, new: Record) -> None:
    name, text = record.file_name(project), record.dump(new)
    if folder.read(name) != text:
        folder.write(name, text, Access(mode=0o600))
