"""
Groups that supervisord is not to start by itself.

It forks every autostart process of a group in one turn of its loop, and answers
nobody meanwhile: 500 take a second.  And it knows no number by hand: it would
start what fleet would have to drain again.  So it reads such files without
autostart, and fleet starts the processes, so many at a time.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager

from fleet.manager import files
from fleet.manager.actions import Shape
from fleet.manager.files import Access, Folder

# Processes: supervisord forks as many in 0.2 s.  A group without autostart costs more than that: a
# `supervisorctl update` by hand would replace it.
_MOST = 50
_AUTOSTART = "\nautostart=true\n"


def by_hand(texts: Mapping[str, str], wanted: Mapping[str, Shape], groups: Container[str]) -> dict[str, str]:
    """
    The files of those *groups* that fleet starts itself, by name, as they are without autostart.

    *texts* are the files as they are to be.  Those that are too large are meant,
    and those that are to have fewer processes than supervisord would start.
    """
    found = {}
    for group, shape in wanted.items():
        name = f"fleet.{group}.conf"
        text = texts.get(name, "")
        too_many = len(shape.wanted) > _MOST or (shape.made or frozenset()) - shape.wanted
        if group in groups and too_many and _AUTOSTART in text:
            found[name] = text.replace(_AUTOSTART, "\nautostart=false\n")
    return found


@contextmanager
def withheld(
    folder: Folder, texts: Mapping[str, str], access: Mapping[str, Access], instead: Mapping[str, str]
) -> Iterator[None]:
    """Let supervisord read *instead* in here; the real *texts*, which a reboot needs, are back afterwards."""
    files.write_all(folder, instead, access, instead, ())
    try:
        yield
    finally:
        # An error may have put older files back by now.
        left = [name for name, text in instead.items() if folder.read(name) == text]
        files.write_all(folder, texts, access, left, ())
