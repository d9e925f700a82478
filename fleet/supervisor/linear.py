"""
supervisord's parser, in time that grows with its files and not with their square.

For each included file the stock one goes through every section of all files
before it, twice: 8 s for a thousand files, in which supervisord answers nobody.
Here a file is read alone, and then added to the others.  So it can be read some
time before: `read_ahead`.

Imports nothing of fleet: `reader` runs it in any interpreter that has supervisor.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from configparser import NoOptionError
from contextlib import suppress
from typing import Any

from supervisor import options

_Plain = options.UnhosedConfigParser
_Signature = tuple[int, ...]
_ahead: dict[str, tuple[_Signature, Any]] = {}  # filename -> how the file was, and what it held


# Names of files are texts here, as they are to supervisord.
# ruff: noqa: PTH100, PTH116, PTH118, PTH120, PTH207


def included(main: str, expansions: dict[str, str]) -> list[str]:
    """
    The files that the main file *main* includes, by the names that supervisord reads them by.

    *expansions* are those of `include.files`.  Where something is wrong, which supervisord will tell, none.
    """
    here = os.path.abspath(os.path.dirname(main))
    parser = _Plain()
    parser.expansions = expansions
    try:
        parser.read(main)
        parser.expand_here(here)
        files = options.expand(parser.get("include", "files"), {**expansions, "here": here}, "include.files")
    except Exception:
        return []
    return [name for pattern in files.split() for name in glob.glob(os.path.join(here, pattern))]


def read_ahead(filenames: list[str]) -> Iterator[None]:
    """
    Read a file at each step; `Parser` takes what was read, unless the file has changed since.

    Until `forget`.
    """
    for filename in filenames:
        with suppress(Exception):  # raised again where supervisord waits for it
            signature, found = _signature(filename), _Plain()
            if found.read(filename):
                _ahead[filename] = signature, found
        yield


def forget() -> None:
    _ahead.clear()


def _ready(filename: str) -> Any:
    signature, found = _ahead.get(filename, (None, None))
    with suppress(OSError):  # it is gone
        if found is not None and signature == _signature(filename):
            return found
    return None


def _signature(filename: str) -> _Signature:
    found = os.stat(filename)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Parser(_Plain):  # type: ignore[misc, valid-type]
    """The same sections, options, sources and errors."""

    _latest: frozenset[str] | None = None  # sections that may hold an unexpanded %(here)s; None: all may

    def read(self, filenames: Any, **more: Any) -> list[str]:
        """Later files win, option by option; one that cannot be opened is passed over."""
        done: list[str] = []
        for filename in [filenames] if isinstance(filenames, str) else filenames:
            alone = self.alone(filename, **more)
            if alone is not None:
                self._add(alone, filename)
                done.append(filename)
        return done

    def alone(self, filename: str, **more: Any) -> Any:
        """What is in this file only; None if it cannot be opened."""
        if not more and (ready := _ready(filename)) is not None:
            return ready
        found = _Plain()
        return found if found.read(filename, **more) else None

    def expand_here(self, here: str) -> None:
        """supervisord calls this after each file."""
        for section in self.sections() if self._latest is None else self._latest:
            for option, value in self.items(section):
                if "%(here)s" in value:
                    self.set(section, option, value.replace("%(here)s", here))

    def get(self, section: str, option: str, **more: Any) -> Any:
        """Of a program it is asked for thirty options, most of which are missing."""
        here = self._sections.get(section)
        if more or here is None:
            return super().get(section, option, **more)
        name = self.optionxform(option)
        for found in (here, self._defaults):
            if name in found:
                return found[name]
        raise NoOptionError(name, section)

    def _add(self, other: Any, filename: str) -> None:
        # A default shows in every section.
        self._latest = None if other.defaults() else frozenset(other.sections())
        self._defaults.update(other.defaults())
        for section in other.sections():
            if not self.has_section(section):
                self.add_section(section)
                self.section_to_file[section] = filename
            self._sections[section].update(other._sections[section])
