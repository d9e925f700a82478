"""Changing fleet.toml and leaving everything else in it as it was.  The only door to tomlkit."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from fleet.errors import Refused
from fleet.manifest.values import Manifest


def with_numprocs(manifest: Manifest, numbers: Mapping[str, int]) -> str:
    """
    The text of the manifest with another `numprocs` for each pipeline in *numbers*.

    Raises:
        Refused: the value is not in this file to change, or is made of a variable.
    """
    document: Any = tomlkit.parse(manifest.source.base.text)
    for name, number in numbers.items():
        table = document.get("pipelines", {}).get(name)
        if table is None:
            raise Refused(f"pipelines.{name} is not in {manifest.path.name}. Nothing was changed.")
        there = table.get("numprocs")
        if isinstance(there, str):
            raise Refused(
                f"numprocs of {name} is {there!r} in {manifest.path.name}: change it where it comes from."
            )
        if isinstance(there, dict):
            if manifest.host is None:
                raise Refused(f"numprocs of {name} is given per host: change it in {manifest.path.name}.")
            there[manifest.host] = number
        else:
            table["numprocs"] = number
    return str(tomlkit.dumps(document))


def write(path: Path, text: str) -> None:
    """
    Replace the file in one step; it keeps its owner and mode, and a link to it stays a link.

    Raises:
        Refused: it cannot be written; the old one is intact.
    """
    target = path.resolve()
    temp = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        before = target.stat() if target.exists() else None
        mode = before.st_mode & 0o777 if before is not None else 0o644
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                if before is not None and os.geteuid() == 0:
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, mode)
                file.write(text)
                file.flush()
                os.fsync(handle)
            temp.replace(target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}. The old file is intact.") from error
