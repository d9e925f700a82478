"""
What fleet gave to a running supervisord: a small file in conf_dir, because supervisord cannot be asked.

It reports which groups differ from the files, never what a group was made
from.  A record that is lost or out of date costs a restart that was not
needed; it never hides one that is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.manager.actions import Shape

_SCHEMA = "fleet.applied/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    daemon: str = ""  # names one run of supervisord: its pid and start time
    groups: Mapping[str, Shape | None] = field(default_factory=dict)  # None: ours, its shape not certain

    def for_daemon(self, daemon: str) -> Mapping[str, Shape | None]:
        """Shapes hold for the run they were given to; that a group is ours holds for ever."""
        return self.groups if daemon == self.daemon else dict.fromkeys(self.groups)


def file_name(project: str) -> str:
    return f".fleet.{project or '-'}.applied.json"


def dump(record: Record) -> str:
    return json.dumps(
        {
            "schema": _SCHEMA,
            "daemon": record.daemon,
            "groups": {
                name: shape and {"processes": dict(shape.processes), "wanted": sorted(shape.wanted)}
                for name, shape in sorted(record.groups.items())
            },
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
            groups={
                str(name): shape
                and Shape(processes=dict(shape["processes"]), wanted=frozenset(shape["wanted"]))
                for name, shape in value["groups"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Record()
