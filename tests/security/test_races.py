"""S25 to S27: links and strangers in the way of sockets, locks and folders, also while fleet writes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.manager import files
from fleet.manager.files import Access
from fleet.supervisor import private
from fleet.supervisor.lock import locked
from tests.supervisord import private_home

MARK = "; managed by fleet | project p | pipeline x | rev 1 | edits are overwritten\n"
SOMEBODY = 65534


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A state folder too deep for a socket, and the folder in /tmp that its socket would get."""
    state = tmp_path / ("d" * 90)
    state.mkdir(mode=0o700)
    folder = private.home(state, {}).socket.parent
    assert folder.parent == Path("/tmp")
    yield state, folder
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.rmdir()


@pytest.mark.parametrize("trap", ["a link", "open to others", "a file"])
def test_a_place_for_a_socket_that_somebody_made_first_is_refused(
    trap: str, deep: tuple[Path, Path], tmp_path: Path
) -> None:
    """Before a byte is sent: nobody else plays supervisord to us."""
    state, folder = deep
    if trap == "a link":
        (tmp_path / "mine").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "mine")
    elif trap == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.write_text("")
    try:
        with pytest.raises(Refused, match="not yours alone"):
            private.home(state, {})
    finally:
        if trap == "a file":
            folder.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_nobody_else_reaches_the_socket_of_a_private_supervisord(tmp_path: Path) -> None:
    """S1: 0700 and ours, in a folder that is 0700 and ours; each keeps a stranger out by itself."""
    with tempfile.TemporaryDirectory(prefix="fleet-s1-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with private_home(Path(folder)) as home:
            private.start(home)
            for path in (home.socket, home.socket.parent):
                found = path.stat()
                assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, os.geteuid()), path
            assert connects_as_somebody(home.socket) == "PermissionError"
            home.socket.parent.chmod(0o755)
            assert connects_as_somebody(home.socket) == "PermissionError"
            assert private.find(home) is not None


def connects_as_somebody(path: Path) -> str:
    """What another user gets to see."""
    script = (
        "import os, socket, sys\n"
        f"os.setgid({SOMEBODY}); os.setuid({SOMEBODY})\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except OSError as error: print(type(error).__name__)\n"
        "else: print('connected')\n"
    )
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    done = subprocess.run([python, "-c", script, str(path)], capture_output=True, text=True, timeout=30)
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_strangers_folder_is_no_place_for_a_socket(deep: tuple[Path, Path]) -> None:
    """Private as it may look, it is private to somebody else."""
    state, folder = deep
    folder.mkdir(mode=0o700)
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(Refused, match="not yours alone"):
        private.home(state, {})


def test_ones_own_folder_is_used_again(deep: tuple[Path, Path]) -> None:
    """The usual case goes on working."""
    state, folder = deep
    private.prepare(private.home(state, {}))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private.home(state, {}).socket.parent == folder


def test_a_folder_that_is_swapped_while_fleet_writes_stays_the_one_it_was(tmp_path: Path) -> None:
    """The conf_dir is held by its descriptor: what is put in its place gets nothing."""
    conf_dir, victim = tmp_path / "conf.d", tmp_path / "victim"
    conf_dir.mkdir()
    victim.mkdir()
    with files.opened(conf_dir, private=True) as folder:
        conf_dir.rename(tmp_path / "moved")
        conf_dir.symlink_to(victim)
        folder.write("fleet.x.conf", MARK, Access())
        folder.sync()
    assert list(victim.iterdir()) == []
    assert (tmp_path / "moved" / "fleet.x.conf").read_text() == MARK
    with pytest.raises(Refused, match="symbolic link"), files.opened(conf_dir, private=True):
        pass


def test_a_link_that_flickers_in_a_files_place_is_never_followed(tmp_path: Path) -> None:
    """rename replaces the link itself; its target is intact however often it comes back."""
    conf_dir, victim = tmp_path / "conf.d", tmp_path / "victim"
    conf_dir.mkdir()
    victim.write_text("mine")
    mode = victim.stat().st_mode
    ended = threading.Event()

    def attack() -> None:
        bait = conf_dir / "bait"
        while not ended.is_set():
            bait.symlink_to(victim)
            bait.rename(conf_dir / "fleet.x.conf")

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    try:
        with files.opened(conf_dir, private=True) as folder:
            for _ in range(100):
                folder.write("fleet.x.conf", MARK, Access(mode=0o600))
                assert folder.read("fleet.x.conf") in (MARK, None)
    finally:
        ended.set()
        attacker.join(10)
    assert victim.read_text() == "mine"
    assert victim.stat().st_mode == mode


def test_a_lock_behind_a_link_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    """Its first act would be to empty the file."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(Refused, match="symbolic link"), locked(tmp_path / "lock", timeout=0):
        pass
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(umask: int, tmp_path: Path) -> None:
    """From the first moment on, and whatever the shell's setting is."""
    old = os.umask(umask)
    try:
        with files.opened(tmp_path, private=True) as folder:
            for name, mode in (("fleet.a.conf", 0o644), ("fleet.a.worker.json", 0o600)):
                folder.write(name, MARK, Access(mode=mode))
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"fleet.a.conf": 0o644, "fleet.a.worker.json": 0o600}
