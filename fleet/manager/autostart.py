"""
Groups that are too large for supervisord to start at once.

It forks every autostart process of a group in one turn of its loop, and answers
nobody meanwhile: 500 take a second.  So it reads their files without autostart,
and fleet starts the processes, so many at a time.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager

from fleet.manager import files
from fleet.manager.actions import Shape
from fleet.manager.desired import Desired
from fleet.manager.files import Folder

# Processes: supervisord forks as many in 0.2 s.  A group without autostart costs more than that: a
# `supervisorctl update` by hand would replace it.
_MOST = 50
_AUTOSTART = "\nautostart=true\n"


def large(desired: Desired, wanted: Mapping[str, Shape], groups: Container[str]) -> dict[str, str]:
    """The files of those *groups* that are too large, by name, as they are without autostart."""
    found = {}
    for group in wanted:
        name = f"fleet.{group}.conf"
        text = desired.files.get(name, "")
        if group in groups and len(wanted[group].wanted) > _MOST and _AUTOSTART in text:
            found[name] = text.replace(_AUTOSTART, "\nautostart=false\n")
    return found


@contextmanager
def withheld(folder: Folder, desired: Desired, large: Mapping[str, str]) -> Iterator[None]:
    """Let supervisord read *large* in here; the real files, which a reboot needs, are back afterwards."""
    files.write_all(folder, large, desired.access, large, ())
    try:
        yield
    finally:
        # An error may have put older files back by now.
        left = [name for name, text in large.items() if folder.read(name) == text]
        files.write_all(folder, desired.files, desired.access, left, ())
