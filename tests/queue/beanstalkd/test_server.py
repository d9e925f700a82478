"""What the server says of itself: limits, addresses, durability."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    DsnError,
    NotSupported,
    PayloadTooLarge,
    PutUnknown,
)
from fleet.queue import Queue
from fleet.queue.backends.beanstalkd.server import judge, overlooks_leases, syncs_always
from fleet.queue.job import Pulse
from tests import servers
from tests.cli import command
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.server


def test_it_says_what_it_cannot_do(queue: Queue, pipeline: str):
    able = queue.capabilities
    assert able.filters
    assert not any(
        (
            able.subsecond,
            able.late_settle,
            able.unique,
            able.uid,
            able.reasons,
            able.fresh_budget,
            able.touch_ttr,
            able.transactions,
            able.tables,
        )
    )
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    pulse = Pulse(host="h", process="p", pid=1, pipeline=pipeline, state="idle")
    impossible: list[Callable[[], object]] = [
        lambda: queue.publish(pulse),
        queue.pulses,
        queue.migrate,
        lambda: queue.touch(job, 60),
        lambda: queue.discard(pipeline, "reserved"),
        lambda: queue.peek(pipeline, "reserved"),
        lambda: queue.kick(pipeline, reason="x%"),
        lambda: queue.backend.restore([job], "memo", "value"),
        lambda: queue.backend.recall("memo"),
    ]
    for verb in impossible:
        with pytest.raises(NotSupported):
            verb()
    job.delete()


def test_the_largest_payload_is_the_servers_own():
    """-z, read from the server, not the default of its manual."""
    with servers.beanstalkd("-z", "200000") as server, fleet.connect(server.dsn) as queue:
        assert queue.capabilities.max_payload == 200_000
        queue.put("big", b"x" * 200_000)
        with pytest.raises(PayloadTooLarge):
            queue.put("big", b"x" * 200_001)


def test_a_limit_that_shrank_is_noticed():
    """The server refuses in words, keeps in step, and the new limit is known from then on."""
    with servers.beanstalkd("-z", "200000") as server, fleet.connect(server.dsn) as queue:
        server.stop()
        server._command[server._command.index("200000")] = "1000"
        server.start()
        time.sleep(0.1)  # a silent connection is looked at before it is used
        with pytest.raises(PayloadTooLarge):
            queue.put("big", b"x" * 2000)
        assert queue.capabilities.max_payload == 1000
        queue.put("big", b"still in step")
        job = queue.reserve("big")
        assert job is not None
        assert job.payload == b"still in step"


def _listens(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0  # type: ignore[arg-type]


def test_a_unix_socket_will_do(tmp_path: Path):
    path = f"/tmp/fleet-bs-{os.getpid()}.sock"
    server = subprocess.Popen([servers._program("beanstalkd", "beanstalkd"), "-l", f"unix:{path}"])
    try:
        eventually(lambda: _listens(socket.AF_UNIX, path))  # the file is there before anybody listens at it
        with fleet.connect(f"beanstalkd://?unix_socket={path}") as queue:
            queue.put("local", 1)
            assert queue.info().location == f"beanstalkd://?unix_socket={path}"
    finally:
        server.terminate()
        server.wait()
        Path(path).unlink(missing_ok=True)


@pytest.mark.parametrize("value", ["-1", "0", "soon"])
def test_a_strange_time_out_is_refused(value: str):
    with pytest.raises(DsnError, match="connect_timeout"):
        fleet.connect(f"beanstalkd://127.0.0.1:1?connect_timeout={value}")


@pytest.mark.parametrize(
    ("flags", "level"),
    [((), "memory"), (("-b",), "server"), (("-b", "-F"), "server"), (("-b", "-f0"), "power")],
)
def test_the_level_in_force_is_told(flags: tuple[str, ...], level: str, tmp_path: Path):
    """P19: no log is memory; only -f 0 survives a power cut, and it is believed when it can be seen."""
    folder = tmp_path / "log"
    folder.mkdir()
    given = [part for flag in flags for part in ((flag, str(folder)) if flag == "-b" else (flag,))]
    with servers.beanstalkd(*given) as server, fleet.connect(server.dsn) as queue:
        info = queue.info()
        assert info.durability == level
        told = [note for note in info.notes if "overlooks" not in note]
        assert bool(told) == (level != "power")


@pytest.mark.parametrize(
    ("arguments", "always"),
    [
        ([], False),
        (["-b", "/d"], False),
        (["-b", "/d", "-f", "0"], True),
        (["-b/d", "-f0"], True),
        (["-Vf0", "-b/d"], True),
        (["-f0", "-f", "50"], False),
        (["-f0", "-F"], False),
        (["-F", "-f0"], True),
        (["-b", "-f0"], False),  # a folder of that name
        (["-f"], False),
    ],
    ids=str,
)
def test_its_command_line_is_read_as_it_reads_it_itself(arguments: list[str], always: bool):
    assert syncs_always(arguments) == always


@pytest.mark.parametrize("is_local", [True, False])
def test_a_server_of_another_host_is_told_to_be_open(is_local: bool):
    """S16: it asks nobody for a password, which matters once it is no longer reached over loopback."""
    stats = {"binlog-current-index": "0", "version": "1.12", "draining": "false"}
    _, notes = judge(stats, log_is_broken=False, is_local=is_local)
    assert any("asks nobody for a password" in note for note in notes) == (not is_local)


def test_doctor_tells_of_an_open_server(own: servers.Server, tmp_path: Path):
    """S16: one that is reached by another address than this end's own; a warning, with what to do."""
    with Proxy(own.port, ("127.0.0.2", 0)) as proxy:
        for address, is_told in ((f"127.0.0.1:{own.port}", False), (f"127.0.0.2:{proxy.port}", True)):
            queue = f'[queue]\ndsn = "beanstalkd://{address}"\n'
            (tmp_path / "fleet.toml").write_text(f'[pipelines.a]\ncommand = "/bin/cat"\n{queue}')
            ran = command.fleet("doctor", folder=tmp_path)
            said = " ".join(ran.stdout.split())
            assert ran.returncode == 0, ran.stdout
            assert ("▲ queue beanstalkd asks nobody for a password" in said) == is_told
            assert ("Let it listen on loopback" in said) == is_told
        assert [path.name for path in tmp_path.iterdir()] == ["fleet.toml"]


def test_the_fault_of_known_versions_is_told(queue: Queue):
    """Up to 1.13 the end of a lease is mostly overlooked while its connection is silent."""
    assert [overlooks_leases(v) for v in ("1.9", "1.12+8.g1", "1.13", "1.14", "2.0", "dev")] == [
        *(True, True, True),
        *(False, False, False),
    ]
    info = queue.info()
    assert any("overlooks" in note for note in info.notes) == overlooks_leases(info.version)


@pytest.fixture
def ailing(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server with a log, and a shell around it that lets it survive a file that may not grow."""
    program = servers._program("beanstalkd", "beanstalkd")
    with servers.free_port() as port:
        line = f'trap "" XFSZ; exec {program} -l 127.0.0.1 -p {port} -b {tmp_path} -f 0'
        server = subprocess.Popen(["sh", "-c", line], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: _listens(socket.AF_INET, ("127.0.0.1", port)))
            yield f"beanstalkd://127.0.0.1:{port}", psutil.Process(server.pid)
        finally:
            server.kill()
            server.wait()


def test_a_log_that_is_no_longer_written_is_noticed(ailing: tuple[str, psutil.Process]):
    """F31: after one write error beanstalkd goes on answering INSERTED, and those jobs die with it."""
    dsn, server = ailing
    with fleet.connect(dsn) as queue, fleet.connect(dsn) as worker:
        queue.put("kept", 1)
        server.rlimit(resource.RLIMIT_FSIZE, (64, 64))
        with pytest.raises(PutUnknown, match="stored buried"):
            queue.put("failing", 2)
        # From here on it answers INSERTED again.  A new producer notices with its first put.
        with fleet.connect(dsn) as fresh, pytest.raises(PutUnknown, match="stopped writing its log"):
            fresh.put("memory-only", 3)
        time.sleep(1.1)  # an old one with its first put of the next second
        with pytest.raises(PutUnknown, match="stopped writing its log"):
            queue.put_many("memory-only", [4, 5])
        with pytest.raises(BackendUnavailable, match="put is refused"):
            queue.put("memory-only", 6)
        info = queue.info()
        assert info.durability == "memory"
        assert "stopped writing its log" in info.notes[0]
        job = worker.reserve("kept")  # workers go on
        assert job is not None
        assert worker.stats("memory-only").ready == 3
