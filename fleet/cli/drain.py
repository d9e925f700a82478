"""The line that says who is still waited for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fleet.cli import output
from fleet.dashboard.text import show
from fleet.supervisor.process import Process


class DrainLine:
    """A context that takes the processes that still go; one line, drawn again, and only on a terminal."""

    def __enter__(self) -> DrainLine:
        self._draws = output.is_terminal(sys.stderr) and not output.plain()
        self._width = 0
        return self

    def __call__(self, going: Sequence[Process]) -> None:
        if not self._draws:
            return
        names = ", ".join(process.name for process in going[:3]) + (" …" if len(going) > 3 else "")
        text = show(f"waiting for {len(going)}: {names}", 78) if going else ""
        # Back to the first column when nobody is waited for: the next line may be stdout's.
        sys.stderr.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
        sys.stderr.flush()
        self._width = len(text)

    def __exit__(self, *_: object) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
