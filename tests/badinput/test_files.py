"""
Bad things among the files, R1 to R11: what is not fleet's is never followed, opened or overwritten.

A full disk (R4), a crash between write and rename (R5), foreign sections (R7), hidden
temporary names (R8) and reused pids (R11) are in tests/manager and tests/supervisor:
see `tests.badinput.rows`.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says

NEW = f'{MANIFEST}[pipelines.x]\ncommand = "/bin/cat"\n'


@contextmanager
def in_the_way(path: Path, kind: str, victim: Path) -> Iterator[None]:
    match kind:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a symbolic link":
            path.symlink_to(victim)
        case "a hard link":
            path.hardlink_to(victim)
        case "a dangling link":
            path.symlink_to("/no/such/file")
        case "a socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "a foreign file":
            path.write_text("[program:x]\ncommand=/bin/cat\n")
        case "a large file":
            with open(path, "wb") as file:
                file.truncate(10**12)
        case "no text":
            path.write_bytes(b"\xff\xfe\x00")
    try:
        yield
    finally:
        shutil.rmtree(path) if kind == "a folder" else path.unlink()


KINDS = (
    "a folder",
    "a pipe",
    "a symbolic link",
    "a hard link",
    "a dangling link",
    "a socket",
    "a foreign file",
    "a large file",
    "no text",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_r1_whatever_lies_in_the_place_of_a_file_stays(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R1: exit 8 and its path; a pipe keeps nobody waiting, and a file without end is not read to it."""
    victim = world.root / "victim"
    victim.write_text("mine\n")
    path = world.root / ".fleet" / "conf.d" / "fleet.shop-x.conf"
    try:
        with in_the_way(path, kind, victim):
            world.manifest.write_text(NEW)
            said = fleet_says(capsys, "--yes", "apply")
            plan = fleet_says(capsys, "plan")
        assert victim.read_text() == "mine\n"
    finally:
        victim.unlink()
    assert_refused(said, 8, str(path))
    assert plan.code in (0, 8), plan.err


@pytest.mark.parametrize("kind", ["a symbolic link", "a dangling link", "a folder", "a pipe"])
def test_a_lock_that_is_no_file_is_refused(
    kind: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link in the lock's place would make fleet create or empty a file of somebody's choice."""
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    lock = world.root / ".fleet" / "conf.d" / ".fleet.lock"
    kept = lock.read_bytes()
    lock.unlink()
    try:
        with in_the_way(lock, kind, victim):
            world.manifest.write_text(NEW)
            said = fleet_says(capsys, "--yes", "apply")
    finally:
        lock.write_bytes(kept)
        lock.chmod(0o600)
    assert victim.read_text() == "mine\n"
    assert_refused(said, 8, str(lock))


def test_r2_a_folder_that_everybody_may_write_to_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """R2: exit 8 with the command that mends it."""
    conf_dir = world.root / ".fleet" / "conf.d"
    conf_dir.chmod(0o777)
    try:
        world.manifest.write_text(NEW)
        said = fleet_says(capsys, "--yes", "apply")
    finally:
        conf_dir.chmod(0o755)
    assert_refused(said, 8, f"chmod o-w {conf_dir}")


def test_r10_a_raw_option_cannot_name_the_daemon(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """R10: `identifier`, which supervisord uses as a pattern for files to delete, is none of a program's."""
    world.manifest.write_text(f'{MANIFEST}supervisor = {{ identifier = ".*" }}\n')
    assert_refused(fleet_says(capsys, "--yes", "apply"), 4, "fleet.toml:9:16 E008")
