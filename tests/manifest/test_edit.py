"""Changing the manifest's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.manifest import edit


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_whoever_changes_it_takes_it_from_nobody(tmp_path: Path) -> None:
    """`sudo fleet scale --save` in the folder of a person, who edits the file on."""
    path, link = tmp_path / "real.toml", tmp_path / "fleet.toml"
    path.write_text("old")
    path.chmod(0o640)
    os.chown(path, 12345, 23456)
    link.symlink_to(path)
    edit.write(link, "new")
    found = path.stat()
    assert (path.read_text(), link.is_symlink()) == ("new", True)
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 23456, 0o640)
