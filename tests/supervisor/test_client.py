"""The client against real supervisords of both versions."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import BadReply, Refused, SupervisorFault, SupervisorUnavailable
from fleet.supervisor import pids, private
from fleet.supervisor.client import (
    ALREADY_STARTED,
    BAD_NAME,
    CANT_REREAD,
    CHUNK,
    NOT_RUNNING,
    STILL_RUNNING,
    Changes,
    Supervisor,
    fitting,
)
from fleet.supervisor.private import Home
from fleet.supervisor.process import ProcessState, process
from tests import servers
from tests.supervisord import PLUGIN, VERSIONS, main_conf, private_home, python_with
from tests.waiting import eventually

CONF = """\
[program:w]
command=/bin/sleep 1000
process_name=%(program_name)s_%(process_num)03d
numprocs={numprocs}
autostart=false
startsecs={startsecs}
redirect_stderr=true
stdout_logfile=%(here)s/../logs/%(program_name)s_%(process_num)03d.log
"""


@pytest.fixture(params=VERSIONS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    # Long enough for a busy machine to see STARTING.
    with private_home(tmp_path, {"w.conf": CONF.format(numprocs=3, startsecs=3)}) as home:
        private.start(home, python=python_with(request.param))
        yield home


def test_names_start_and_stop_with_a_verdict_each(home: Home) -> None:
    """One bad name spoils nothing; nothing is waited for."""
    client = Supervisor(home.url)
    first = client.start(["w:w_000", "w:w_001", "w:nobody", "nobody:w"])
    assert {name: fault and fault.code for name, fault in first.items()} == {
        "w:w_000": None,
        "w:w_001": None,
        "w:nobody": BAD_NAME,
        "nobody:w": BAD_NAME,
    }
    assert [p.state for p in client.processes()] == [ProcessState.STARTING] * 2 + [ProcessState.STOPPED]
    assert client.start(["w:w_000"])["w:w_000"].code == ALREADY_STARTED
    running = eventually(lambda: [p for p in client.processes() if p.state is ProcessState.RUNNING])
    assert running[0].pid
    assert running[0].uptime >= 3
    assert client.stop(["w:w_000", "w:w_002"])["w:w_002"].code == NOT_RUNNING
    eventually(lambda: client.processes()[0].state is ProcessState.STOPPED)


def test_more_names_than_a_chunk(home: Home) -> None:
    """They go out in several multicalls, and every name gets its verdict."""
    (home.conf_dir / "w.conf").write_text(CONF.format(numprocs=CHUNK + 5, startsecs=3))
    client = Supervisor(home.url)
    assert client.reload_config() == Changes(changed=("w",))
    client.remove_group("w")
    client.add_group("w")
    names = [process.full_name for process in client.processes()]
    assert len(names) == CHUNK + 5
    assert client.start([*names, *names]) == dict.fromkeys(names)
    assert set(client.stop_signals().values()) == {15}


def test_processes_are_found_by_name(home: Home) -> None:
    """Over several connections, as they are in the whole list; None for what nobody knows."""
    (home.conf_dir / "w.conf").write_text(CONF.format(numprocs=150, startsecs=1))
    client = Supervisor(home.url)
    client.reload_config()
    client.remove_group("w")
    client.add_group("w")
    client.start(["w:w_140"])
    # Its state is not to change between the two answers that are compared.
    eventually(lambda: client.lookup(["w:w_140"])["w:w_140"].state is ProcessState.RUNNING)
    names = [f"w:w_{number:03d}" for number in range(151)]
    found = client.lookup(names)
    assert list(found) == names
    assert found.pop("w:w_150") is None
    assert found["w:w_140"].pid
    assert [replace(p, now=0) for p in found.values()] == [replace(p, now=0) for p in client.processes()]
    assert client.lookup([]) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plugin_says_what_supervisord_says(version: str, tmp_path: Path) -> None:
    """Field by field, of one that runs, one that was never started and one that cannot be started."""
    lost = "[program:lost]\ncommand=/nowhere/é\nstartretries=0\n"
    with private_home(
        tmp_path, {"w.conf": CONF.format(numprocs=150, startsecs=1), "lost.conf": lost}
    ) as home:
        home.main_conf.write_text(main_conf(home) + PLUGIN)
        private.start(home, python=python_with(version))
        client = Supervisor(home.url)
        client.start(["w:w_140"])
        eventually(lambda: client.lookup(["w:w_140"])["w:w_140"].state is ProcessState.RUNNING)
        eventually(lambda: client.lookup(["lost:lost"])["lost:lost"].state is ProcessState.FATAL)
        stock = [replace(process(i), now=0) for i in client._transport.call("supervisor.getAllProcessInfo")]
        assert len(client._compact()) == len(stock) == 151
        assert [replace(p, now=0) for p in client.processes()] == stock
        assert "/nowhere/é" in stock[0].spawnerr
        names = [f"w:w_{number:03d}" for number in range(151)]
        found = client.lookup(names)
        assert list(found) == names
        assert found.pop("w:w_150") is None
        assert [replace(p, now=0) for p in found.values()] == stock[1:]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plugin_reads_what_supervisord_reads(version: str, tmp_path: Path) -> None:
    """The same three lists, and the same fault; nothing of a broken file stays."""
    with private_home(tmp_path, {"w.conf": CONF.format(numprocs=1, startsecs=1)}) as home:
        home.main_conf.write_text(main_conf(home) + PLUGIN)
        private.start(home, python=python_with(version))
        client = Supervisor(home.url)
        assert client.reload_config() == Changes()
        for number in range(300):
            text = CONF.replace("[program:w]", f"[program:v{number:03d}]")
            (home.conf_dir / f"v{number:03d}.conf").write_text(text.format(numprocs=1, startsecs=1))
        (home.conf_dir / "w.conf").write_text(CONF.format(numprocs=2, startsecs=1))
        quick = client.reload_config()
        assert "fleet.reloadConfig" not in client._lacks
        assert len(quick.added) == 300
        assert quick.changed == ("w",)
        client._lacks.add("fleet.reloadConfig")
        assert client.reload_config() == quick
        client._lacks.clear()
        broken = home.conf_dir / "v007.conf"
        for text in ("[program:x\n", "[program:x]\ncommand=x\nuser=no-such-user\n"):
            broken.write_text(text)
            with pytest.raises(SupervisorFault, match=r"v007\.conf") as caught:
                client.reload_config()
            assert caught.value.code == CANT_REREAD
        broken.unlink()
        assert len(client.reload_config().added) == 299


def test_a_slow_supervisord_gets_fewer_starts_at_once() -> None:
    """So that it answers others every tenth of a second or so, and no more than a chunk when it is fast."""
    assert fitting(25, 0.1) == 25
    assert fitting(25, 0.125) == 20
    assert fitting(10, 0.05) == 20
    assert fitting(25, 0.0) == 25
    assert fitting(25, 9.0) == 10


def test_groups_come_and_go(home: Home) -> None:
    """What the files say is told by reload_config, and made so group by group."""
    client = Supervisor(home.url)
    client.start(["w:w_000"])
    (home.conf_dir / "w.conf").unlink()
    (home.conf_dir / "v.conf").write_text("[program:v]\ncommand=/bin/sleep 1000\n")
    assert client.reload_config() == Changes(added=("v",), removed=("w",))
    assert client.add_groups(["v", "nobody"])["nobody"].code == BAD_NAME
    assert client.remove_groups(["w"])["w"].code == STILL_RUNNING
    client.signal(["w:w_000"], "KILL")

    def is_removed() -> bool:
        client.stop_all()  # again: one that has just been seen to end takes no stop, and is started anew
        return client.remove_groups(["w"])["w"] is None

    eventually(is_removed)
    assert [process.full_name for process in client.processes()] == ["v:v"]


def test_a_file_that_cannot_be_read_is_a_fault_with_its_text(home: Home) -> None:
    """Code 92, and nothing changed."""
    (home.conf_dir / "bad.conf").write_text("[program:x]\ncommand=x\nnumprocs=many\n")
    with pytest.raises(SupervisorFault, match="many") as caught:
        Supervisor(home.url).reload_config()
    assert caught.value.code == CANT_REREAD


def test_the_tail_of_a_log_and_the_one_that_xml_cannot_carry(home: Home) -> None:
    """An escape character in a log breaks the reply, and the error says what to do."""
    client = Supervisor(home.url)
    client.start(["w:w_000"])
    log = Path(client.processes()[0].logfile)
    log.write_text("first\nlast\n")
    assert client.tail("w:w_000", 5) == "last\n"
    log.write_text("\x1b[31mred\x1b[0m\n")
    with pytest.raises(BadReply, match=r"control characters.*read the log file itself"):
        client.tail("w:w_000", 100)


def test_a_stopped_supervisord_is_told_within_the_time_out(home: Home) -> None:
    """supervisorctl would wait for ever."""
    (daemon,) = pids.mark([Supervisor(home.url).state().pid])
    daemon.suspend()
    try:
        with pytest.raises(SupervisorUnavailable, match=r"within 0\.3 s"):
            Supervisor(home.url, timeout=0.3).processes()
    finally:
        daemon.resume()


def test_a_name_and_password_over_a_loopback_port(tmp_path: Path) -> None:
    """The wrong ones are told without repeating them."""
    with servers.free_port() as port:
        with private_home(tmp_path) as home:
            inet = f"[inet_http_server]\nport=127.0.0.1:{port}\nusername=fleet\npassword=s3cret\n"
            home.main_conf.write_text(main_conf(home) + inet)
            private.start(home)
            url = f"http://127.0.0.1:{port}"
            assert Supervisor(url, "fleet", "s3cret").state().state == "RUNNING"
            with pytest.raises(SupervisorUnavailable, match="wants a user name and a password"):
                Supervisor(url).state()
            with pytest.raises(
                SupervisorUnavailable, match="refuses the user name or the password"
            ) as caught:
                Supervisor(url, "fleet", "wr0ng").state()
            assert "wr0ng" not in str(caught.value)
        with pytest.raises(SupervisorUnavailable, match="Start it"):
            Supervisor(url).state()


def test_what_lies_at_the_path_is_named(tmp_path: Path) -> None:
    """Missing, left behind, a file, a link: each has its own text."""
    path = tmp_path / "s.sock"
    client = Supervisor(f"unix://{path}")
    with pytest.raises(SupervisorUnavailable, match=r"no such socket.*fleet up"):
        client.state()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(SupervisorUnavailable, match="nobody listens"):
        client.state()
    path.rename(tmp_path / "other")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(SupervisorUnavailable, match="symbolic link"):
        client.state()
    path.unlink()
    path.write_text("")
    with pytest.raises(SupervisorUnavailable, match=r"not a socket \(0"):
        client.state()


ASK = """\
import os, sys
from fleet.supervisor.client import Supervisor
os.setgid(65534); os.setuid(65534)  # after the imports: that user may not be able to read them
try:
    Supervisor("unix://" + sys.argv[1]).state()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_no_permission_names_owner_and_mode(tmp_path: Path) -> None:
    """And what to set in which section."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-test-", dir="/tmp"))
    folder.chmod(0o755)
    path = folder / "s.sock"
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            path.chmod(0o700)
            done = subprocess.run([sys.executable, "-c", ASK, str(path)], capture_output=True, text=True)
            assert "SupervisorUnavailable" in done.stdout, done.stderr
            assert "permission denied (0700, root:root)" in done.stdout
            assert "[unix_http_server]" in done.stdout
            folder.chmod(0o700)
            done = subprocess.run([sys.executable, "-c", ASK, str(path)], capture_output=True, text=True)
            assert "may not look into its folder (0700, root:root)" in done.stdout
    finally:
        path.unlink()
        folder.rmdir()


LISTEN = """\
import os, socket, sys, time
server = socket.socket(socket.AF_UNIX)
os.setgid(65534); os.setuid(65534)
server.bind(sys.argv[1]); server.listen(); os.chmod(sys.argv[1], 0o777)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_strangers_socket_gets_no_password() -> None:
    """In a folder that others may write to, somebody can play supervisord."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-test-", dir="/tmp"))
    folder.chmod(0o1777)
    path = folder / "s.sock"
    with subprocess.Popen([sys.executable, "-c", LISTEN, str(path)]) as stranger:
        try:
            eventually(path.exists)
            eventually(lambda: path.stat().st_mode & 0o777 == 0o777)
            with pytest.raises(Refused, match=r"neither you, nor root.*Nothing was sent"):
                Supervisor(f"unix://{path}", "fleet", "s3cret").state()
        finally:
            stranger.kill()
            stranger.wait()
            path.unlink(missing_ok=True)
            folder.rmdir()
