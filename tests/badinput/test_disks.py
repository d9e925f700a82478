"""D8 and R4: a file system that is read-only or lies on another host, and files of somebody else."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import fleet
from fleet.errors import QueueError
from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says_where

NOBODY = 65534
PUT = ["--yes", "jobs", "put", "emails", "{}"]
# A mount of the type that sshfs has, whose other end has gone: nothing of it answers.
DEAD_SSHFS = """\
import ctypes, os, sys
libc, fd = ctypes.CDLL(None, use_errno=True), os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"host:/jobs", sys.argv[1].encode(), b"fuse.sshfs", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, and become somebody else")


def read_only(folder: Path) -> str:
    return f"mount --bind '{folder}' '{folder}'; mount -o remount,bind,ro '{folder}'"


@only_root
def test_r4_d8_nothing_is_half_written_on_a_read_only_disk(world: World) -> None:
    """R4, D8: as after a disk error; each command says which file, and that it is the disk."""
    world.manifest.write_text(f'{MANIFEST}[pipelines.x]\ncommand = "/bin/cat"\n')
    state = world.root / ".fleet"
    apply, put = fleet_says_where(read_only(state), ["--yes", "apply"], PUT)
    assert_refused(apply, 8, str(state), "ead-only")
    assert_refused(put, 6, f"{state}/queue.db", "mounted read-only")


@only_root
def test_d8_no_queue_is_made_on_another_hosts_disk(world: World) -> None:
    """D8: SQLite's locks and shared memory do not reach over a network; exit 4 with the ways out."""
    far = world.root / "far"
    far.mkdir()
    (world.root / "tmp" / "mount.py").write_text(DEAD_SSHFS)
    try:
        world.manifest.write_text(
            MANIFEST.replace("[defaults]", f'[queue]\ndsn = "sqlite:///{far}/jobs.db"\n[defaults]')
        )
        mount = f"'{sys.executable}' '{world.root}/tmp/mount.py' '{far}'"
        (put,) = fleet_says_where(mount, PUT)
    finally:
        far.rmdir()
        (world.root / "tmp" / "mount.py").unlink()
    assert_refused(put, 4, str(far), "fuse.sshfs", "Use a local disk, or a database server")


@only_root
@pytest.mark.parametrize("whose", ["queue.db", "queue.db-wal"])
def test_d8_a_file_of_somebody_else_is_named(whose: str) -> None:
    """D8: most often root has used the queue by hand; the one file in the way is said, with its owner."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to the other user
    try:
        folder.chmod(0o777)
        with fleet.connect(f"sqlite:///{folder}/queue.db") as roots:
            roots.put("emails", 1)
            for name in {"queue.db", "queue.db-wal", "queue.db-shm"} - {whose}:
                os.chown(folder / name, NOBODY, NOBODY)
            said = put_as_nobody(folder / "queue.db")
            assert f"may not write {folder}/{whose} (mode 0644, owner 0)" in said
            assert roots.stats("emails").ready == 1
    finally:
        shutil.rmtree(folder)


def put_as_nobody(file: Path) -> str:
    """What a put says to another user than root."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            fleet.connect(f"sqlite:///{file}").put("emails", 2)
        except QueueError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as said:
        return said.read()


DAMAGE = {
    "one byte of each page": lambda data: bytes(
        byte ^ 0xFF if n % 4096 == 0 and n else byte for n, byte in enumerate(data)
    ),
    "half of it is gone": lambda data: data[: len(data) // 2 + 100],
    "zeros after the first page": lambda data: data[:4096] + bytes(len(data) - 4096),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_queue_is_said_and_left_as_it_is(damage: str, tmp_path: Path) -> None:
    """Exit 6 with the file and how to look at it; nothing is repaired, emptied or made anew."""
    file = tmp_path / "queue.db"
    with fleet.connect(f"sqlite:///{file}") as queue:
        queue.put_many("emails", ["x" * 300] * 300)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    damaged = file.read_bytes()
    with pytest.raises(QueueError, match=r"queue\.db: .*malformed.*PRAGMA integrity_check") as caught:
        fleet.connect(f"sqlite:///{file}").put("emails", 1)
    assert caught.value.exit_code == 6
    assert file.read_bytes() == damaged
