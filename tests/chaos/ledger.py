"""
The files of a chaos run: append-only JSON lines, one writer a file.

Each line is one `write` to a descriptor opened with O_APPEND, so that kill -9
loses nothing that was written.  Instants are CLOCK_BOOTTIME in nanoseconds:
one machine, one clock, and no change of the time of day moves it.

    put-*.jsonl   producer      {t, uid, phase: try|accepted|rejected|unknown, …}
    run-*.jsonl   handler       {t, uid, token, pid, event: start|finish|raise|suicide, …}
    ack-*.jsonl   worker        {t0, [t1,] uid, token, op, result: sent|ok|lost|unknown|failed}
    res-*.jsonl   worker        {t0, [t1,] claim, result: waits|asked|jobs|unknown|failed, [jobs]}
    fault.jsonl   injector      {t0, t1, kind, target, pid, proof}
    census.json   census        what the store holds at the end
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def now() -> int:
    """Nanoseconds of the boot time clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Ledger:
    """Appends to one file of the folder; safe in several threads, because a line is one write."""

    def __init__(self, folder: Path, name: str) -> None:
        self._fd = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **record: Any) -> None:
        os.write(self._fd, json.dumps(record, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def read(folder: Path, kind: str) -> Iterator[Record]:
    """
    The records of every file of that kind, file by file.

    A last line that was cut off by kill -9 is left out; any other broken line
    is an error of the test itself.
    """
    for path in sorted(folder.glob(f"{kind}*.jsonl")):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[Record]:
    """The records of one file."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
