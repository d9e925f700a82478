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
        self._going: Sequence[Process] = ()
        return self

    def __call__(self, going: Sequence[Process]) -> None:
        self._going = going
        if not self._draws:
            return
        text = show(f"waiting for {len(going)}: {self._names()}", 78) if going else ""
        # Back to the first column when nobody is waited for: the next line may be stdout's.
        sys.stderr.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
        sys.stderr.flush()
        self._width = len(text)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * (self._width + len("^C")) + "\r")
        if isinstance(error, KeyboardInterrupt) and self._going:
            error.add_note(show(f"Told to stop, and still busy: {self._names()}"))

    def _names(self) -> str:
        names = ", ".join(process.name for process in self._going[:3])
        return f"{names} …" if len(self._going) > 3 else names
