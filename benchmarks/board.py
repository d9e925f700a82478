"""Numbers that processes share: a file of doubles in memory, so that any interpreter can open it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

COUNT, BEGAN, LAST = range(3)  # of one worker: jobs done, and when, by time.monotonic()
FIELDS = 3


class Board:
    """A row of doubles in *path*, all 0 at first."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open the file; with *length* make it first."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if length else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if length:
                os.ftruncate(fd, length * 8)
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        self.cells = memoryview(self._map).cast("d")

    def close(self) -> None:
        self.cells.release()
        self._map.close()
