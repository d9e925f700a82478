"""
What fleet gave to a running supervisord: a small file in conf_dir, because supervisord cannot be asked.

It reports which groups differ from the files, never what a group was made
from.  A record that is lost or out of date costs a restart that was not
needed; it never hides one that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.manager.actions import Shape
from fleet.manager.files import Access, Folder

if TYPE_CHECKING:
    from fleet.supervisor.client import DaemonState

_SCHEMA = "fleet.applied/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A number of processes that somebody asked for by hand.  Holds until supervisord is started anew."""

    number: int
    manifest: int  # numprocs at that time; another one since then is the newer word
    until: float | None = None  # epoch seconds; None: no end

    def holds(self, numprocs: int, now: float) -> bool:
        return self.manifest == numprocs and not self.is_over(now)

    def is_over(self, now: float) -> bool:
        """Whether its time has come, at *now* (epoch seconds)."""
        return self.until is not None and now >= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    daemon: str = ""  # names one run of supervisord, as `identity` does
    groups: Mapping[str, Shape | None] = field(default_factory=dict)  # None: ours, its shape not certain
    files: Mapping[str, str] = field(default_factory=dict)  # file name: digest of what fleet wrote last
    scaled: Mapping[str, Scaled] = field(default_factory=dict)  # group: its number by hand

    def for_daemon(self, daemon: str) -> Mapping[str, Shape | None]:
        """Shapes hold for the run they were given to; that a group is ours holds for ever."""
        return self.groups if daemon == self.daemon else dict.fromkeys(self.groups)

    def numbers(self, daemon: str, numprocs: Mapping[str, int], now: float) -> dict[str, int]:
        """The numbers by hand that hold at *now* (epoch seconds), by group; *numprocs* is the manifest's."""
        if daemon != self.daemon:
            return {}
        return {
            group: scaled.number
            for group, scaled in self.scaled.items()
            if group in numprocs and scaled.holds(numprocs[group], now)
        }


def identity(daemon: DaemonState) -> str:
    """One run of one supervisord."""
    from fleet.supervisor import pids  # psutil, which most looks at a record do without

    return pids.identity(daemon.pid or 0)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_name(project: str) -> str:
    return f".fleet.{project or '-'}.applied.json"


def dump(record: Record) -> str:
    return json.dumps(
        {
            "schema": _SCHEMA,
            "daemon": record.daemon,
            "groups": {name: shape and _shape(shape) for name, shape in sorted(record.groups.items())},
            "files": dict(sorted(record.files.items())),
            "scaled": {name: asdict(scaled) for name, scaled in sorted(record.scaled.items())},
        }
    )


def load(text: str | None) -> Record:
    """The record in *text*; an empty one when there is none, or when it is damaged."""
    try:
        value: Any = json.loads(text or "")
        if value["schema"] != _SCHEMA:
            return Record()
        return Record(
            daemon=str(value["daemon"]),
            groups={str(name): shape and _read_shape(shape) for name, shape in value["groups"].items()},
            files={str(name): str(mark) for name, mark in value.get("files", {}).items()},
            scaled={str(name): Scaled(**scaled) for name, scaled in value.get("scaled", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Record()


def save(folder: Folder, project: str, new: Record) -> None:
    """Write it where it differs."""
    name, text = file_name(project), dump(new)
    if folder.read(name) != text:
        # It holds names and digests: who may look at the processes may read it.
        folder.write(name, text, Access())


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "processes": dict(shape.processes),
        "wanted": sorted(shape.wanted),
        "revision": shape.revision,
        "made": None if shape.made is None else sorted(shape.made),
    }


def _read_shape(value: Any) -> Shape:
    made = value.get("made")
    return Shape(
        processes=dict(value["processes"]),
        wanted=frozenset(value["wanted"]),
        revision=str(value.get("revision", "")),
        made=None if made is None else frozenset(made),
    )
