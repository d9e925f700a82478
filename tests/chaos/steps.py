"""
Named steps of a worker, at which the injector can have it killed or stopped.

The injector makes a file `step-NAME-SIGNAL`; the first worker that reaches the
step renames it, which only one can, and sends itself the signal.  The renamed
file is the proof that the fault bit there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

STEPS = (
    "claim.asked",  # nothing leased yet
    "claim.answered",  # leased; nobody has been told
    "handler.begun",
    "handler.done",
    "settle.asked",  # the handler is over; the server does not know
    "settle.answered",  # settled; the worker does not know
)
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)


def arm(folder: Path, step: str, number: signal.Signals) -> Path:
    """From now on the next worker that reaches *step* gets the signal; the file that says so."""
    path = folder / f"step-{step}-{number.name}"
    path.touch()
    return path


def disarm(armed: Path) -> bool:
    """Take the order back; False when a worker has taken it already."""
    try:
        armed.unlink()
    except FileNotFoundError:
        return False
    return True


def bitten(folder: Path, armed: Path) -> int:
    """The pid of the worker that took the order, 0 while none has."""
    for path in folder.glob(f"bitten-{armed.name}-*"):
        pid = int(path.name.rpartition("-")[2])
        path.rename(folder / f"proven-{path.name}-{os.urandom(4).hex()}")
        return pid
    return 0


class Trap:
    """The worker's side of it; two failed renames a step."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fspath(folder)

    def reach(self, step: str) -> None:
        for number in SIGNALS:
            name = f"step-{step}-{number.name}"
            pid = os.getpid()
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._folder}/{name}", f"{self._folder}/bitten-{name}-{pid}")  # noqa: PTH104
                os.kill(pid, number)
