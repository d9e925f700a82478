"""Log files that supervisord writes: their last lines, and what is added to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_BLOCK = 64 * 1024
_STAMP = r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)"
_TIME = re.compile(rf"\[?{_STAMP}")
_JSON_TIME = re.compile(rf'"(?:at|time|timestamp)": ?"{_STAMP}"')
LONGEST_LINE = 4096  # bytes; what is longer is cut, so that no line can fill the memory


def last_lines(path: Path, count: int, *, before: int | None = None) -> list[str]:
    """The last *count* lines of the first *before* bytes, oldest first; none when there is no file."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            end = end if before is None else min(end, before)
            data = b""
            # One newline more than lines: the first piece may be the tail of a longer line.
            while end > 0 and data.count(b"\n") <= count and len(data) < count * LONGEST_LINE + _BLOCK:
                size = min(_BLOCK, end)
                end -= size
                file.seek(end)
                data = file.read(size) + data
    except OSError:
        return []
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return [_text(line) for line in lines[-count:]] if count > 0 else []


def newer(lines: Sequence[str], since: float, path: Path) -> list[str]:
    """
    Those of the *lines* of *path* that were written at *since* (epoch seconds) or later.

    A line without a time belongs to the one before it.  Where no line has a
    time, all count if the file was written since.
    """
    at = [time_of(line) for line in lines]
    first = next((i for i, found in enumerate(at) if found is not None and found >= since), None)
    if first is not None:
        return list(lines[first:])
    if any(found is not None for found in at):
        return []
    try:
        return list(lines) if path.stat().st_mtime >= since else []
    except OSError:
        return []


def time_of(line: str) -> float | None:
    """Epoch seconds that a line begins with or, as JSON, holds under "at" or "time"; UTC without a zone."""
    found = _TIME.match(line) or (_JSON_TIME.search(line) if line.startswith("{") else None)
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found[1].replace(",", "."))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


class Follower:
    """
    Hands out the lines that are added to a file, through rotation, truncation and removal.

    supervisord rotates by renaming and making a new file, and clears a log by
    removing it.  The old file is held open, so that its last lines are read
    before the new one, and so that its inode number is not used again meanwhile.
    """

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self.path = path
        self.position = 0  # bytes told so far
        self.change = ""  # what became of the file, as far as the last `lines` saw it: "was cut"
        self._rest = b""
        self._file = self._open()
        self._is_gone = self._file is None
        if self._file is not None and not from_start:
            self.position = self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        """Whole lines that are new since the last call; `change` says where they do not go on as before."""
        self.change = ""
        yield from self._read()
        if self._file is None or not self._is_current():
            found = self._open()
            if found is None:  # removed, or between the two steps of a rotation
                self.change = "" if self._is_gone else "is gone; waiting for a new one"
                self._is_gone = True
                return
            yield from self._flush()
            self.change = "is a new file now" if self._file is not None else ""
            self.close()
            self._file, self.position, self._is_gone = found, 0, False
            yield from self._read()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> IO[bytes] | None:
        try:
            # Nobody can read what went to /dev/stdout and the like.
            return open(self.path, "rb") if self.path.is_file() else None
        except OSError:
            return None

    def _is_current(self) -> bool:
        assert self._file is not None  # noqa: S101
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _read(self) -> Iterator[str]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self.position:
            yield from self._flush()
            self.position = 0
            self.change = "was cut"
        self._file.seek(self.position)
        while block := self._file.read(_BLOCK):
            self.position += len(block)
            *whole, self._rest = (self._rest + block).split(b"\n")
            yield from map(_text, whole)
            if len(self._rest) > LONGEST_LINE:
                yield from self._flush()

    def _flush(self) -> Iterator[str]:
        if self._rest:
            yield _text(self._rest)
            self._rest = b""


def _text(line: bytes) -> str:
    cut = line[:LONGEST_LINE]
    return cut.rstrip(b"\r").decode("utf-8", "backslashreplace") + ("…" if len(line) > LONGEST_LINE else "")
