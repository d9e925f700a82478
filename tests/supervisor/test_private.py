"""The private supervisord: started once, found again, ended without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from fleet.errors import Refused, SupervisorError, SupervisorUnavailable
from fleet.supervisor import pids, private
from fleet.supervisor.client import Supervisor
from fleet.supervisor.process import ProcessState
from tests.supervisord import VERSIONS, private_home, python_with
from tests.waiting import eventually

SLEEPER = """\
[program:w]
command={command}
process_name=%(program_name)s_%(process_num)02d
numprocs=2
redirect_stderr=true
stdout_logfile=%(here)s/../logs/%(program_name)s_%(process_num)02d.log
"""
SLEEP = SLEEPER.format(command="/bin/sleep 1000")


@pytest.mark.parametrize("version", VERSIONS)
def test_start_serves_stop_ends(version: str, tmp_path: Path) -> None:
    """Both versions start, run what conf.d holds, and leave no process behind."""
    with private_home(tmp_path, {"w.conf": SLEEP}) as home:
        daemon, fresh = private.start(home, python=python_with(version))
        client = Supervisor(home.url)

        assert fresh
        assert daemon.version == version
        running = eventually(lambda: all_in(client, ProcessState.RUNNING))
        assert [process.full_name for process in running] == ["w:w_00", "w:w_01"]
        marked = pids.mark([daemon.pid, *(process.pid for process in running)])
        assert os.getsid(daemon.pid) != os.getsid(0)

        client.stop_all()
        assert private.stop(home)
        assert not any(pids.alive(process) for process in marked)
        assert private.find(home) is None
        assert not private.stop(home)


def all_in(client: Supervisor, state: ProcessState) -> list:
    found = client.processes()
    return list(found) if all(process.state is state for process in found) else []


def test_starting_twice_is_the_same_as_once(tmp_path: Path) -> None:
    """The second start finds the first daemon, and touches nothing."""
    with private_home(tmp_path) as home:
        first, _ = private.start(home)
        second, fresh = private.start(home)
    assert first == second
    assert not fresh


def test_two_starts_at_the_same_time_make_one_daemon(tmp_path: Path) -> None:
    """A lock makes the later one wait for the earlier one's daemon."""
    with private_home(tmp_path) as home:
        results: list[tuple] = []
        threads = [threading.Thread(target=lambda: results.append(private.start(home))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({daemon.pid for daemon, _ in results}) == 1
    assert [fresh for _, fresh in results].count(True) == 1
    assert len(results) == 4


def test_a_killed_supervisord_is_started_again(tmp_path: Path) -> None:
    """kill -9 leaves a socket and a pid file; both are recognised as stale."""
    with private_home(tmp_path) as home:
        first, _ = private.start(home)
        killed = pids.mark([first.pid])
        os.kill(first.pid, signal.SIGKILL)
        assert not pids.wait_gone(killed, timeout=30)
        assert home.socket.exists()
        assert private.find(home) is None
        second, fresh = private.start(home)
    assert fresh
    assert second.pid != first.pid


def test_one_that_ends_while_it_is_asked_does_not_run(tmp_path: Path) -> None:
    """It has taken the call and gives no answer: that is no strange program in its place."""
    with private_home(tmp_path) as home, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
        listener.listen()

        def serve() -> None:
            listener.accept()[0].close()  # somebody looks whether it listens
            asked, _ = listener.accept()
            with asked:
                asked.recv(65536)
                listener.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert private.find(home) is None
        thread.join(30)


def test_one_that_ends_before_it_is_told_to_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its pid and the signal."""
    with private_home(tmp_path) as home:
        with subprocess.Popen(["sleep", "1000"]) as daemon:
            found = pids.mark([daemon.pid])
            daemon.kill()
        with monkeypatch.context() as patched:
            patched.setattr(private, "_by_pidfile", lambda _: found[0])
            assert private.stop(home)


def test_a_pid_file_that_names_another_program_is_not_believed(tmp_path: Path) -> None:
    """The number may have been used again: that process is neither signalled nor mistaken for ours."""
    with private_home(tmp_path) as home, subprocess.Popen(["sleep", "1000"]) as stranger:
        home.pidfile.write_text(f"{stranger.pid}\n")
        try:
            assert private.find(home) is None
            assert not private.stop(home)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_daemon_without_its_socket_is_named_and_can_be_ended(tmp_path: Path) -> None:
    """Starting a second one beside it would run every worker twice."""
    with private_home(tmp_path) as home:
        daemon, _ = private.start(home)
        (marked,) = pids.mark([daemon.pid])
        home.socket.unlink()
        with pytest.raises(SupervisorUnavailable, match=rf"pid {daemon.pid}.*socket .* is gone"):
            private.start(home)
        assert private.stop(home)
        assert not pids.alive(marked)


def test_a_daemon_whose_folder_was_removed_is_not_doubled(tmp_path: Path) -> None:
    """Nothing in the new folder tells of it; its command line does."""
    with private_home(tmp_path) as home:
        daemon, _ = private.start(home)
        (marked,) = pids.mark([daemon.pid])
        shutil.rmtree(home.state_dir)
        with pytest.raises(SupervisorUnavailable, match=rf"pid {daemon.pid}.*is gone"):
            private.start(home)
        shutil.rmtree(home.state_dir)
        assert private.stop(home)
        assert not pids.alive(marked)
        assert not private.stop(home)


def test_a_wrong_configuration_is_told_in_supervisords_words(tmp_path: Path) -> None:
    """Its reason is shown, not only an exit status."""
    with private_home(tmp_path, {"bad.conf": "[program:x]\ncommand=x\nuser=nobody-at-all\n"}) as home:
        with pytest.raises(SupervisorError, match=r"Invalid user name nobody-at-all .*bad\.conf"):
            private.start(home)
        assert private.find(home) is None


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_something_else_in_the_sockets_place_is_left_alone(kind: str, tmp_path: Path) -> None:
    """Its path, owner and mode are named; nothing is followed or removed."""
    with private_home(tmp_path) as home:
        if kind == "file":
            home.socket.write_text("precious")
        elif kind == "link":
            home.socket.symlink_to(tmp_path / "elsewhere")
        else:
            home.socket.mkdir()
        with pytest.raises(Refused, match=r"supervisor\.sock is not a socket"):
            private.start(home)
        assert kind != "file" or home.socket.read_text() == "precious"
        home.socket.rmdir() if kind == "folder" else home.socket.unlink()


def test_the_state_folder_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    """Whoever reaches the socket owns everything behind it."""
    with private_home(tmp_path) as home:
        assert stat.S_IMODE(home.state_dir.stat().st_mode) == 0o700
        assert (home.state_dir / ".gitignore").read_text() == "*\n"
        home.state_dir.chmod(0o755)
        private.prepare(home)
        assert stat.S_IMODE(home.state_dir.stat().st_mode) == 0o700


def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    """supervisord binds "<path>.<pid>" first, so there is less room; the choice is remembered."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with private_home(deep) as home:
        assert len(os.fsencode(f"{home.socket}.4194304")) <= 107
        assert not home.socket.is_relative_to(deep)
        assert stat.S_IMODE(home.socket.parent.stat().st_mode) == 0o700
        assert private.home(deep / ".fleet", {"XDG_RUNTIME_DIR": str(tmp_path)}) == home
        daemon, _ = private.start(home)
        assert Supervisor(home.url).state() == daemon
    assert not home.socket.parent.exists()


def test_a_runtime_folder_is_used_if_it_is_private(tmp_path: Path) -> None:
    """$XDG_RUNTIME_DIR is only as good as its owner and mode."""
    deep = tmp_path / ("d" * 99) / ".fleet"
    runtime = Path(tempfile.mkdtemp(prefix="fleet-test-", dir="/tmp"))
    try:
        assert private.home(deep, {"XDG_RUNTIME_DIR": str(runtime)}).socket.parent == runtime
        runtime.chmod(0o755)
        assert private.home(deep, {"XDG_RUNTIME_DIR": str(runtime)}).socket.name == "s.sock"
    finally:
        runtime.rmdir()


def test_children_get_a_clean_environment() -> None:
    """supervisord hands its whole environment to every child: no secret of the shell may be in it."""
    found = private.clean_environ({"AWS_SECRET": "x", "HOME": "/h", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin"})
    assert found == {
        "HOME": "/h",
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
    }


def test_a_daemon_gets_room_for_open_files(tmp_path: Path) -> None:
    """1,024 descriptors are 338 processes with a log; raising minfds would slow every start."""
    mine = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    wanted = mine[0] + 10 if mine[1] == -1 else min(mine[0] + 10, mine[1])
    with private_home(tmp_path) as home:
        daemon, _ = private.start(home, open_files=wanted)
        assert psutil.Process(daemon.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == wanted
        assert psutil.Process().rlimit(psutil.RLIMIT_NOFILE) == mine
        assert pids.raise_open_files(daemon.pid, 10) == wanted  # never lowered
