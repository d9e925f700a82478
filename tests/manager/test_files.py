"""Files are written whole or not at all, where nobody else can reach."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.manager.files import Access, access_to, opened


def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    """A conf is read by supervisord, a spec only by its worker."""
    old = os.umask(0o077)
    try:
        with opened(tmp_path, private=True) as folder:
            folder.write("a.conf", "text", Access())
            folder.write("a.worker.json", "{}", Access(mode=0o600))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.conf").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "a.worker.json").stat().st_mode) == 0o600


def test_ctrl_c_just_after_the_rename_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no complaint about a temporary file that is not there any more."""
    rename = os.replace

    def renamed_then_interrupted(*args: str, **folders: int) -> None:
        rename(*args, **folders)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", renamed_then_interrupted)
    with opened(tmp_path, private=True) as folder, pytest.raises(KeyboardInterrupt):
        folder.write("a.conf", "text", Access())
    assert [path.name for path in tmp_path.iterdir()] == ["a.conf"]


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """A size limit of the process is the nearest thing to a full disk that needs no root."""
    path = tmp_path / "a.conf"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path, private=True) as folder:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            with pytest.raises(Refused, match=r"a\.conf cannot be written: File too large"):
                folder.write("a.conf", "x" * 1000, Access())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.conf"]


def test_a_folder_in_everybodys_reach_is_refused(tmp_path: Path) -> None:
    """Whoever can write there, or above it, chooses what supervisord runs."""
    conf_d = tmp_path / "conf.d"
    conf_d.mkdir()
    conf_d.chmod(0o777)
    with (
        pytest.raises(Refused, match=f"everybody may write in {conf_d}.*chmod o-w"),
        opened(conf_d, private=True),
    ):
        pass
    conf_d.chmod(0o755)
    # pytest's folders lie below /tmp, which is everybody's: sticky is not enough for a system's conf_dir.
    with (
        pytest.raises(Refused, match=r"everybody may write in /tmp .*Name a conf_dir"),
        opened(conf_d, private=False),
    ):
        pass


def test_a_folder_that_is_missing_or_a_link_is_refused(tmp_path: Path) -> None:
    """Its path is named."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for path in (link, tmp_path / "missing"):
        with pytest.raises(Refused, match=f"conf_dir {path}"), opened(path, private=True):
            pass


def test_a_spec_is_for_its_worker_alone() -> None:
    """Root hands it to the worker's group; without root, only a spec without settings may be read by all."""
    secret = '{"environment": {"TOKEN": "x"}}'
    assert access_to("a.conf", "", 5, is_root=False) == Access(mode=0o644)
    assert access_to("a.worker.json", secret, None, is_root=False) == Access(mode=0o600)
    assert access_to("a.worker.json", secret, 5, is_root=True) == Access(mode=0o640, gid=5)
    assert access_to("a.worker.json", '{"environment": {}}', 5, is_root=False) == Access(mode=0o644)
    with pytest.raises(Refused, match="run this as root"):
        access_to("a.worker.json", secret, 5, is_root=False)
