"""How every handler here writes: whole files, renamed into place."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """
    Write *path* so that it is there whole or not at all, however many write it.

    A job is done at least once: if its worker dies before it could say "done",
    another does it again.  One file a job, named after the job, makes that
    harmless, and needs no lock between workers: the second write replaces the
    first with the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.rename(path)
