"""
supervisord's parser, in time that grows with its files and not with their square.

For each included file the stock one goes through every section of all files
before it, twice: 8 s for a thousand files, in which supervisord answers nobody.
Here a file is read alone, and then added to the others.

Imports nothing of fleet: `reader` runs it in any interpreter that has supervisor.
"""

from __future__ import annotations

from typing import Any

from supervisor import options

_Plain = options.UnhosedConfigParser


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
        found = _Plain()
        return found if found.read(filename, **more) else None

    def expand_here(self, here: str) -> None:
        """supervisord calls this after each file."""
        for section in self.sections() if self._latest is None else self._latest:
            for option, value in self.items(section):
                if "%(here)s" in value:
                    self.set(section, option, value.replace("%(here)s", here))

    def _add(self, other: Any, filename: str) -> None:
        # A default shows in every section.
        self._latest = None if other.defaults() else frozenset(other.sections())
        self._defaults.update(other.defaults())
        for section in other.sections():
            if not self.has_section(section):
                self.add_section(section)
                self.section_to_file[section] = filename
            self._sections[section].update(other._sections[section])
