"""A memory group of the kernel, of either version, in which a process gets killed for its memory."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chaos.bite import wait_until

_LIMIT = 32 << 20  # bytes, of what a process takes after it has joined
_ROOTS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),  # version 1
    (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
)


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    folder: Path
    events: Path

    def kills(self) -> int:
        """How many processes the kernel has killed in it."""
        found = re.search(r"^oom_kill (\d+)$", self.events.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """
    A new group of 32 MiB, removed at the end.

    Raises:
        OSError: this machine lets nobody make one.
    """
    error: OSError | None = None
    for root, limit, events in _ROOTS:
        try:
            folder = Path(tempfile.mkdtemp(prefix="fleet-chaos-", dir=root))
            try:
                (folder / limit).write_text(f"{_LIMIT}")
            except OSError:
                folder.rmdir()
                raise
        except OSError as refused:
            error = refused
            continue
        try:
            yield MemoryGroup(folder, folder / events)
        finally:
            wait_until(partial(_is_removed, folder), within=5)
        return
    raise error or OSError("no memory group")


def _is_removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # who was killed in it has not quite ended
        folder.rmdir()
        return True
    return False
