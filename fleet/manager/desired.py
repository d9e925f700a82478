"""A manifest, planned and rendered for the place where it is to run."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.errors import RenderError
from fleet.manager.actions import Shape
from fleet.manager.files import Access, access_to
from fleet.manager.places import Place
from fleet.manager.plan import Group, programs
from fleet.manager.render import render, render_supervisord
from fleet.manager.stand_in import BESIDE
from fleet.manifest import Manifest

# supervisord's own default.  Room for more open files comes from the limit that it is started with:
# `minfds` would have every child close as many descriptors, one by one, before it begins.
_MINFDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A temporary group that runs beside another one while that is replaced."""

    group: str
    pipeline: str
    number: int  # processes
    whole: bool  # it does all the work meanwhile; False: one process that is tried first
    files: Mapping[str, str]
    access: Mapping[str, Access]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What is asked for, rendered."""

    project: str
    files: Mapping[str, str]  # file name: text
    groups: Mapping[str, str]  # group: pipeline, in the manifest's order
    main_conf: str | None = None  # the text of a private supervisord's own file
    log_dirs: tuple[Path, ...] = ()
    access: Mapping[str, Access] = field(default_factory=dict)  # file name: who may read it
    numprocs: Mapping[str, int] = field(default_factory=dict)  # group: the manifest's number
    shapes: Mapping[str, Shape] = field(default_factory=dict)  # as far as they are known without supervisord
    rollouts: Mapping[str, str] = field(default_factory=dict)  # group: surge, trial (one first) or plain
    # The group that runs beside another one meanwhile; made when it is needed, with a number of processes.
    stand_in: Callable[[str, int], StandIn] | None = None


def desired(manifest: Manifest, place: Place, *, templates: Path | None = None) -> Desired:
    """
    What `apply` makes true.  Reads the user database, and touches nothing.

    Raises:
        RenderError: a value that no configuration file can carry, or a user that does not exist.
        Refused: a worker spec that its worker's user could not be given safely.
    """
    groups = programs(manifest, conf_dir=place.conf_dir, worker=worker_path())
    rendered = render(groups, manifest, templates=templates)
    main_conf = None
    if place.home is not None:
        main_conf = render_supervisord(
            socket=place.home.socket,
            state_dir=place.home.state_dir,
            conf_dir=place.conf_dir,
            minfds=_MINFDS,
            user="root" if os.geteuid() == 0 else None,
            templates=templates,
        )
    pipelines = {group.name: group.pipeline for group in groups}

    def stand_in(group: str, number: int) -> StandIn:
        pipeline = pipelines[group]
        name = f"{group}{BESIDE}"
        raw = _own_log(pipeline.supervisor, name)
        beside = replace(pipeline, group=name, numprocs=number, room=0, supervisor=raw)
        alone = replace(manifest, pipelines={pipeline.name: beside})
        made = programs(alone, conf_dir=place.conf_dir, worker=worker_path())
        files = render(made, alone, templates=templates)
        whole = number >= pipeline.numprocs
        return StandIn(
            group=name,
            pipeline=pipeline.name,
            number=number,
            whole=whole,
            files=files,
            access=_access(made, files),
        )

    logs = (Path(file).parent for group in groups for file in group.log_files())
    return Desired(
        project=manifest.project,
        files=rendered,
        groups={group.name: group.pipeline.name for group in groups},
        main_conf=main_conf,
        log_dirs=tuple(dict.fromkeys(logs)),
        access=_access(groups, rendered),
        numprocs={group.name: group.pipeline.numprocs for group in groups},
        shapes={group.name: _shape(group) for group in groups},
        rollouts={group.name: _rollout(group) for group in groups},
        stand_in=stand_in,
    )


def _own_log(raw: Mapping[str, str], group: str) -> Mapping[str, str]:
    """The raw options of a stand-in: supervisord cannot rotate a file that two processes write."""
    kept = {name: text for name, text in raw.items() if name not in ("stderr_logfile", "redirect_stderr")}
    file = kept.get("stdout_logfile", "")
    if file.startswith("/") and not file.startswith("/dev/"):
        kept["stdout_logfile"] = str(Path(file).with_name(f"{group}_%(process_num)02d.log"))
    return kept


def _shape(group: Group) -> Shape:
    """The group as supervisord will see it; a revision stands for everything that a process is."""
    names = {
        program.text(program.process_name, number): program.autostart == "true"
        for program in group.programs
        for number in program.numbers()
    }
    return Shape(
        processes=dict.fromkeys(names, group.revision),
        wanted=frozenset(name for name, starts in names.items() if starts),
        revision=group.revision,
    )


def _rollout(group: Group) -> str:
    """
    How the group is replaced.

    A handler's worker shares its pipeline with any number of others, so one
    with new settings can be tried first.  A command may be the only one of its
    kind that may run: it gets company only if the manifest asks for surge.
    """
    if group.pipeline.rollout == "surge":
        return "surge"
    return "trial" if group.pipeline.handler is not None else "plain"


def _access(groups: Iterable[Group], rendered: Mapping[str, str]) -> dict[str, Access]:
    is_root = os.geteuid() == 0
    readers = {group.spec_name: _group_of(group.pipeline.user, group.name) for group in groups}
    return {
        name: access_to(name, text, readers.get(name), is_root=is_root) for name, text in rendered.items()
    }


def worker_path() -> str:
    """The fleet-worker of this very installation."""
    beside = Path(sys.executable).with_name("fleet-worker")
    return str(beside) if beside.exists() else shutil.which("fleet-worker") or str(beside)


def _group_of(user: str | None, group: str) -> int | None:
    """The gid of a worker that runs as another user; None when it runs as we do."""
    if user is None:
        return None
    try:
        found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError as error:
        raise RenderError(
            f"group {group}: this machine has no user {user!r}. Nothing was changed."
        ) from error
    return None if found.pw_uid == os.geteuid() else found.pw_gid
