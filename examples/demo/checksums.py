"""SHA-256 of one file, as the line that `sha256sum -c` reads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from files import write_whole

from fleet import Job

OUT = Path("out/checksums")


def write(job: Job) -> None:
    """Payload: {"path": "/usr/lib/…/file.py"}."""
    path = job.data["path"]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_whole(OUT / f"{job.id}.sha256", os.fsencode(f"{digest}  {path}\n"))
