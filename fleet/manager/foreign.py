"""Files of others in a conf_dir, and whether `apply` would refuse because of them.  Changes nothing."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from fleet.manager import daemon, files
from fleet.manager.compare import Plan
from fleet.manager.desired import Desired
from fleet.manager.places import Place
from fleet.supervisor import parser, pids
from fleet.supervisor.parser import ConfigFile

_SECTION = re.compile(r"^\[([^\]]+)\]", re.MULTILINE)


def check(place: Place, desired: Desired, plan: Plan) -> None:
    """
    Whether *plan* could be carried out beside the files that others have put into conf_dir.

    supervisord's parser reads theirs alone: reading a thousand of ours, too,
    takes it two seconds, and needs log folders that only `apply` makes.

    Raises:
        RenderError: one of them is broken, or has a program or a group of ours.
        Refused: one of them lies where a file of ours is to be.
    """
    if plan.is_nothing or not place.conf_dir.is_dir():
        return
    with files.opened(place.conf_dir, private=place.private) as folder:
        for name in plan.write:
            folder.check_may_write(name, desired.project)
        ours = {*folder.ours(desired.project), *desired.files}
        if all(name in ours or not name.endswith(".conf") for name in folder.names()):
            return
    running = place.find()
    main = (pids.main_conf(running.pid) if running and running.pid else None) or place.main_conf
    overlay: dict[Path, str | None] = {place.conf_dir / name: None for name in ours}
    if desired.main_conf is not None:
        overlay[place.main_conf] = desired.main_conf
    if main not in overlay and not os.access(main, os.R_OK):
        return  # whoever may apply may read it
    found = parser.read(main, overlay, environ=daemon.environ(place, running))
    wanted = tuple(
        ConfigFile(path=place.conf_dir / name, sections=tuple(_SECTION.findall(text)))
        for name, text in desired.files.items()
        if name.endswith(".conf")
    )
    twice = found.twice | (desired.groups.keys() & found.groups.keys())
    problems = replace(found, files=(*found.files, *wanted), twice=twice).problems()
    if problems:
        raise daemon.refused(problems)
