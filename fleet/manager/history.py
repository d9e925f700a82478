"""
The revisions that were applied: hidden files beside those that they are about.

A revision holds every file and what is needed to apply it again, without the
manifest that it came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet.manager.actions import Shape
from fleet.manager.compare import revision_of
from fleet.manager.desired import Desired
from fleet.manager.files import Access, Folder

KEEP = 10
_SCHEMA = "fleet.revision/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    number: int  # counts up
    revision: str  # digest of the files
    at: float  # epoch seconds
    desired: Desired


def save(folder: Folder, desired: Desired, *, at: float) -> None:
    """Add *desired* as the newest revision, unless it is that already; forget the oldest."""
    known = _names(folder, desired.project)
    newest = _load(folder, known[-1][1], known[-1][0]) if known else None
    revision = revision_of(desired.files)
    if newest is not None and newest.revision == revision:
        return
    number = known[-1][0] + 1 if known else 1
    text = json.dumps({"schema": _SCHEMA, "revision": revision, "at": at, **_plain(desired)})
    # Worker specs are in it, with settings that are for their worker alone.
    folder.write(_name(desired.project, number), text, Access(mode=0o600))
    for _, name in known[: max(0, len(known) + 1 - KEEP)]:
        folder.remove(name)
    folder.sync()


def revisions(folder: Folder, project: str) -> tuple[Revision, ...]:
    """What is remembered, oldest first; a damaged one is passed over."""
    found = (_load(folder, name, number) for number, name in _names(folder, project))
    return tuple(revision for revision in found if revision is not None)


def _name(project: str, number: int) -> str:
    return f".fleet.{project or '-'}.revision.{number:06}.json"


def _names(folder: Folder, project: str) -> list[tuple[int, str]]:
    pattern = re.compile(rf"\.fleet\.{re.escape(project or '-')}\.revision\.(\d+)\.json")
    found = ((pattern.fullmatch(name), name) for name in folder.names())
    return sorted((int(match[1]), name) for match, name in found if match)


def _plain(desired: Desired) -> dict[str, Any]:
    return {
        "project": desired.project,
        "files": dict(desired.files),
        "groups": dict(desired.groups),
        "main_conf": desired.main_conf,
        "log_dirs": [str(path) for path in desired.log_dirs],
        "access": {name: asdict(access) for name, access in desired.access.items()},
        "numprocs": dict(desired.numprocs),
        "shapes": {
            group: {"processes": sorted(s.processes), "wanted": sorted(s.wanted), "revision": s.revision}
            for group, s in desired.shapes.items()
        },
    }


def _load(folder: Folder, name: str, number: int) -> Revision | None:
    try:
        value: Any = json.loads(folder.read(name) or "")
        if value["schema"] != _SCHEMA:
            return None
        desired = Desired(
            project=value["project"],
            files=value["files"],
            groups=value["groups"],
            main_conf=value["main_conf"],
            log_dirs=tuple(map(Path, value["log_dirs"])),
            access={n: Access(**access) for n, access in value["access"].items()},
            numprocs=value["numprocs"],
            shapes={group: _shape(shape) for group, shape in value["shapes"].items()},
        )
        return Revision(number=number, revision=value["revision"], at=float(value["at"]), desired=desired)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _shape(value: Mapping[str, Any]) -> Shape:
    return Shape(
        processes=dict.fromkeys(value["processes"], value["revision"]),
        wanted=frozenset(value["wanted"]),
        revision=value["revision"],
    )
