"""Limits on the files that a command, or the supervisord that it starts, may open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.supervisor import private
from tests.badinput.world import MANIFEST, Said, World

# The limit comes after the imports, which need more than the command.
_RUN = """\
import os, resource, sys
from fleet.cli.app import run
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sys.exit(run(sys.argv[2:]))
"""


def says_with(files: int, *words: str) -> Said:
    """What a command says that may open so many files."""
    command = [sys.executable, "-c", _RUN, f"{files}", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("files", [4, 5, 7, 10])
def test_an_apply_that_may_open_too_few_files_changes_nothing(files: int, world: World) -> None:
    """F50: it names the limit; files, processes and jobs are as they were."""
    world.manifest.write_text(f'{MANIFEST}[pipelines.x]\ncommand = "/bin/sleep 997"\n')
    lock = world.root / ".fleet" / "conf.d" / ".fleet.lock"
    before = lock.read_bytes()
    said = says_with(files, "--yes", "apply")
    lock.write_bytes(before)  # who held it last is no part of the state
    assert said.code == 1, said
    assert f"may not open more than {files} files (ulimit -n)" in said.err
    assert "Traceback" not in said.err and "a bug" not in said.err


def test_a_supervisord_that_may_open_too_few_files_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F50: its own words, and nobody is left running."""
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    said = says_with(60, "up")
    assert said.code == 7, said
    assert "The minimum number of file descriptors required" in said.err
    assert "Done before that: wrote fleet.shop-emails.conf" in said.err
    assert private.find(private.home(tmp_path / ".fleet")) is None
