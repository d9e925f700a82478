"""Starting a command again whenever a source file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from fleet.cli import output

_LOOK_EVERY = 0.5  # seconds
_SKIP = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
_MOST_FILES = 20_000


def run_again_on_change(folder: str) -> int:
    """
    Run this very command without --reload; SIGTERM and a new start when a .py file below *folder* changes.

    Returns the exit code of the run that ended by itself, or 130 after Ctrl-C.
    """
    words = [word for word in sys.argv[1:] if word != "--reload"]
    again = [sys.executable, "-c", "import sys; from fleet.cli import main; sys.exit(main())", *words]
    signal.signal(signal.SIGTERM, _terminate)
    while True:
        seen = dict(_changes(folder))
        child = subprocess.Popen(again)
        try:
            while child.poll() is None:
                time.sleep(_LOOK_EVERY)
                now = dict(_changes(folder))
                changed = sorted(name for name in {*seen, *now} if seen.get(name) != now.get(name))
                if changed:
                    output.note(f"{os.path.relpath(changed[0], folder)} changed: starting again")
                    child.send_signal(signal.SIGTERM)
                    child.wait()
                    break
            else:
                if child.returncode == 0:
                    return 0
                output.note("waiting for a change")
                while dict(_changes(folder)) == seen:
                    time.sleep(_LOOK_EVERY)
        except KeyboardInterrupt:  # the terminal told the child too: it leaves after its job
            with suppress(KeyboardInterrupt):
                child.wait()
            return 130
        except _Terminated:
            child.send_signal(signal.SIGTERM)
            return child.wait()


class _Terminated(BaseException):
    """Somebody ended this process, and not the child."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _changes(folder: str) -> Iterator[tuple[str, int]]:
    """Every .py file with the time of its last change."""
    count = 0
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIP]
        for name in names:
            if name.endswith(".py"):
                with suppress(OSError):
                    yield str(Path(path, name)), (Path(path) / name).stat().st_mtime_ns
                count += 1
                if count >= _MOST_FILES:
                    return
