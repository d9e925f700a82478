"""
Where a back end without tables keeps what workers say: one small file per process, renamed into place.

Writer and reader share one host and its clock.  A process that was started
again takes the minutes and errors of its forerunner over.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fleet.errors import QueueError
from fleet.queue import causes
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import Pulse
from fleet.queue.minutes import KEPT, MINUTE, Minute, minute_from_text, minute_to_text
from fleet.queue.pulse import PULSES_KEPT, PULSES_SHOWN, is_time_to_prune, pulse_from_text, pulse_to_text

SCHEMA = "fleet.run/1"
_MOST_GROUPS = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Everything that the processes of one run directory say."""

    pulses: tuple[Pulse, ...] = ()
    minutes: tuple[Minute, ...] = ()
    errors: tuple[ErrorGroup, ...] = ()


def write(folder: str | Path, pulse: Pulse, minutes: Sequence[Minute], errors: Sequence[ErrorGroup]) -> None:
    """
    Replace the file of one process; its earlier minutes and errors are kept as long as tables keep them.

    Raises:
        QueueError: the folder cannot be written.
    """
    now = time.time()
    path = Path(folder) / f"{_UNSAFE.sub('_', pulse.process)[:150]}.json"
    before = _load(path)
    # Rows stay text here: this runs every few seconds, and only the reader wants to know what they say.
    rows = {tuple(row[:3]): row for row in before.get("minutes", [])}
    rows |= {
        (row.pipeline, row.minute, row.process): [row.pipeline, row.minute, row.process, minute_to_text(row)]
        for row in minutes
    }
    oldest = (now - KEPT) // MINUTE
    groups = causes.merge([*_errors(before, now), *errors])
    text = json.dumps(
        {
            "schema": SCHEMA,
            "at": now,
            "pulse": pulse_to_text(pulse),
            "minutes": [row for row in rows.values() if row[1] >= oldest],
            "errors": [
                {**asdict(group), "first": now - group.first, "last": now - group.last}
                for group in sorted(groups, key=lambda group: group.last)[:_MOST_GROUPS]
                if group.last < causes.KEPT
            ],
        }
    )
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        beside = path.with_suffix(f".{pulse.pid}.new")
        beside.write_text(text)
        beside.rename(path)
        if is_time_to_prune():
            _sweep(path.parent, now)
    except OSError as error:
        raise QueueError(f"{path.parent}: {error.strerror}: the run directory cannot be written") from error


def read(folder: str | Path, *, seconds: float = KEPT) -> Told:
    """
    What the processes say, minutes and errors of the last *seconds*.

    A folder that is not there, or a file that is damaged, says nothing.
    """
    now = time.time()
    pulses, minutes, errors = [], [], []
    for path in sorted(Path(folder).glob("*.json")):
        found = _load(path)
        age = max(0.0, now - found.get("at", 0.0))
        with suppress(ValueError, KeyError, TypeError):
            if age <= PULSES_SHOWN:
                pulses.append(pulse_from_text(found["pulse"], age=age))
            oldest = (now - seconds) // MINUTE
            minutes += [row for row in _minutes(found) if row.minute >= oldest]
            errors += [group for group in _errors(found, now) if group.last < seconds]
    return Told(
        pulses=tuple(pulses),
        minutes=tuple(sorted(minutes, key=lambda row: row.minute)),
        errors=tuple(sorted(causes.merge(errors), key=lambda group: group.last)),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


def _minutes(found: dict[str, Any]) -> list[Minute]:
    return [minute_from_text(*row) for row in found.get("minutes", [])]


def _errors(found: dict[str, Any], now: float) -> list[ErrorGroup]:
    groups = [ErrorGroup(**group) for group in found.get("errors", [])]
    return [replace(group, first=now - group.first, last=now - group.last) for group in groups]


def _sweep(folder: Path, now: float) -> None:
    for path in folder.glob("*.json"):
        with suppress(FileNotFoundError):  # another process sweeps here, too
            if now - path.stat().st_mtime > PULSES_KEPT:
                path.unlink()
