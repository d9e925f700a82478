"""A manifest, planned and rendered for the place where it is to run."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path

from fleet.errors import RenderError
from fleet.manager.apply import Desired
from fleet.manager.files import access_to
from fleet.manager.places import Place
from fleet.manager.plan import programs
from fleet.manager.render import render, render_supervisord
from fleet.manifest import Manifest

# supervisord's own default.  Room for more open files comes from the limit that it is started with:
# `minfds` would have every child close as many descriptors, one by one, before it begins.
_MINFDS = 1024


def desired(manifest: Manifest, place: Place, *, templates: Path | None = None) -> Desired:
    """
    What `apply` makes true.  Reads the user database, and touches nothing.

    Raises:
        RenderError: a value that no configuration file can carry, or a user that does not exist.
        Refused: a worker spec that its worker's user could not be given safely.
    """
    groups = programs(manifest, conf_dir=place.conf_dir, worker=worker_path())
    rendered = render(groups, manifest, templates=templates)
    is_root = os.geteuid() == 0
    readers = {group.spec_name: _group_of(group.pipeline.user, group.name) for group in groups}
    main_conf = None
    if place.home is not None:
        main_conf = render_supervisord(
            socket=place.home.socket,
            state_dir=place.home.state_dir,
            conf_dir=place.conf_dir,
            minfds=_MINFDS,
            user="root" if is_root else None,
            templates=templates,
        )
    logs = (Path(file).parent for group in groups for file in group.log_files())
    return Desired(
        project=manifest.project,
        files=rendered,
        groups={group.name: group.pipeline.name for group in groups},
        main_conf=main_conf,
        log_dirs=tuple(dict.fromkeys(logs)),
        access={
            name: access_to(name, text, readers.get(name), is_root=is_root) for name, text in rendered.items()
        },
    )


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
