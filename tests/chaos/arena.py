"""
What a chaos run happens in: a private server, a proxy before it, supervisord with real workers, producers.

Every process is started from the main thread and dies with it (PR_SET_PDEATHSIG
looks at the thread), so that nothing outlives a run that is itself killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fleet.supervisor.client import Supervisor
from tests import servers
from tests.chaos import clock, planted
from tests.chaos.disk import Disk, Partition
from tests.chaos.possible import faketime_library
from tests.chaos.work import MAX_CRASHES, MAX_RETRIES, PIPELINE
from tests.proxy import Proxy
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.apply_faults import Fleet

ROOT = Path(__file__).parents[2]
GRACE = 5.0  # seconds a worker may take after SIGTERM
BACKENDS = ("sqlite", "postgresql", "mariadb", "beanstalkd")
PROFILES = (*BACKENDS, "pgbouncer")  # the last one is postgresql behind a pooler
# Few connections, so that they can be used up, and small logs, so that a small disk is enough.
_SERVERS = {
    "postgresql": (
        servers.postgres,
        ("max_connections=60", "superuser_reserved_connections=0", "max_wal_size=96MB", "min_wal_size=32MB"),
    ),
    "mariadb": (servers.mariadb, ("--max-connections=60", "--innodb-log-file-size=32M")),
    "beanstalkd": (servers.beanstalkd, ("-s", f"{1 << 20}")),
}
# By itself it does not connect for 15 seconds after a server that was away.
_POOLER = ("default_pool_size = 8", "server_login_retry = 1")
_DISK = 640 << 20  # bytes, of which a sparse image takes what is used
_LOGS = 8 << 20
_IN_MEMORY = Path("/dev/shm")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_CONF = """\
[supervisord]
logfile={logs}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={logs}
nodaemon=true
{user}
[unix_http_server]
file={folder}/s.sock
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:{pipeline}]
command={worker} {folder}/spec.json
numprocs={workers}
process_name=%(program_name)s_%(process_num)02d
autorestart=true
startsecs=1
startretries=100000
stopwaitsecs={stop:.0f}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/worker-%(process_num)02d.log
stdout_logfile_maxbytes=1000000
stdout_logfile_backups=1
"""


@dataclass(slots=True, kw_only=True)
class Arena:
    """
    Everything a fault may touch.

    folder       ledgers, configuration and logs
    dsn          the store itself, for the census
    dsn_outside  the same through the proxy, for workers and producers
    pooler       PgBouncer between proxy and server
    disk, logs   the file systems of the store and of what workers print, where a fault needs their own
    fleet        a manifest with workers of its own, where a fault is about fleet apply
    clock        what libfaketime reads, by which the server's time of day is off
    unsynced     until when (monotonic) a beanstalkd whose clock went back syncs nothing
    still        held while the disk is copied: a process that one fault has frozen is not woken by another
    """

    backend: str
    folder: Path
    dsn: str
    dsn_outside: str
    ttr: float
    workers: int
    server: servers.Server | None = None
    proxy: Proxy | None = None
    pooler: servers.Server | None = None
    disk: Disk | None = None
    logs: Partition | None = None
    clock: Path | None = None
    unsynced: float = 0.0
    fleet: Fleet | None = None
    supervisord: subprocess.Popen[bytes] | None = None
    producers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    orphans: list[psutil.Process] = field(default_factory=list)
    still: threading.Lock = field(default_factory=threading.Lock)

    def wake(self, process: psutil.Process) -> None:
        with self.still, contextlib.suppress(psutil.NoSuchProcess):
            process.resume()

    def start_supervisord(self) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", f"{self.folder}/supervisord.conf"]
        self.supervisord = self._popen(command, "supervisord.out")
        client = Supervisor(f"unix://{self.folder}/s.sock")
        eventually(lambda: _answers(client), within=20)

    def start_producers(self, count: int) -> None:
        """Each goes on where an earlier one of its number was killed."""
        self.producers = []
        for number in range(count):
            command = [sys.executable, "-m", "tests.chaos.workload", f"{self.folder}/plan.json", f"{number}"]
            self.producers.append(self._popen(command, f"producer-{number}.out"))

    def crew(self) -> list[psutil.Process]:
        """The workers that supervisord runs now, in the order of their start."""
        if self.supervisord is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.supervisord.pid).children()
            return sorted((child for child in children if is_alive(child)), key=lambda child: child.pid)
        return []

    def other_supervisords(self) -> list[psutil.Process]:
        daemon = self.fleet.supervisord if self.fleet is not None else None
        return [daemon] if daemon is not None else []

    def end(self) -> None:
        """End workers, supervisord and producers, politely first."""
        if self.fleet is not None:
            self.fleet.end()
        crew = [*self.crew(), *self.orphans]
        started = [*self.producers, *([self.supervisord] if self.supervisord else [])]
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(GRACE + 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _, alive = psutil.wait_procs(crew, timeout=GRACE + 5)
        for worker in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    def _popen(self, command: Sequence[str], output: str) -> subprocess.Popen[bytes]:
        with open(self.folder / output, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=functools.partial(die_with, os.getpid()),
            )


@contextlib.contextmanager
def arena(
    profile: str,
    folder: Path,
    *,
    ttr: float,
    workers: int,
    plan: dict[str, object],
    faults: Collection[str] = (),
    bug: str = "",
) -> Iterator[Arena]:
    """
    Set it up, with what *faults* need; the caller starts supervisord and producers, and all are ended here.
    """
    backend = "postgresql" if profile == "pgbouncer" else profile
    folder.chmod(0o711)  # the server's user passes through to its disk and its clock
    with contextlib.ExitStack() as stack:
        place = Arena(backend=backend, folder=folder, dsn="", dsn_outside="", ttr=ttr, workers=workers)
        if {"power", "disk-full"} & set(faults):
            images = Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=_images(), prefix="fleet-disk-"))
            )
            place.disk = Disk(images, folder / "disk", _DISK)
            stack.callback(place.disk.close)
        if "log-full" in faults:
            place.logs = Partition(folder / "logs", _LOGS)
            stack.callback(place.logs.close)
        if "clock" in faults:
            place.clock = folder / "clock"
            place.clock.write_text("+0\n")
        if backend == "sqlite":
            place.dsn = place.dsn_outside = (
                f"sqlite:///{folder if place.disk is None else place.disk.mount}/jobs.db"
            )
        else:
            _start_server(place, profile, stack)
        _write_files(place, plan, bug, moving="worker-clock" in faults)
        if bug:
            os.environ[planted.VARIABLE] = bug  # for the producers; the workers get it from their spec
            stack.callback(os.environ.pop, planted.VARIABLE)
        stack.callback(place.end)
        yield place


def _start_server(place: Arena, profile: str, stack: contextlib.ExitStack) -> None:
    # Durable, because a server that is killed must keep what it has confirmed.
    make, settings = _SERVERS[place.backend]
    disk = place.disk.mount if place.disk is not None else None
    place.server = stack.enter_context(make(*settings, durable=True, disk=disk))
    if place.clock is not None:
        place.server.stop()
        place.server.environment = _clocked(place.clock)
        place.server.start()
    behind = place.server
    if profile == "pgbouncer":
        behind = place.pooler = stack.enter_context(servers.pgbouncer(place.server, *_POOLER))
    place.proxy = stack.enter_context(Proxy(behind.port))
    place.dsn = place.server.dsn
    place.dsn_outside = place.dsn.replace(f":{place.server.port}", f":{place.proxy.port}")


def _clocked(stamp: Path) -> dict[str, str]:
    """The environment of a process whose time of day follows the file *stamp*."""
    return {
        "LD_PRELOAD": faketime_library() or "",
        "FAKETIME_TIMESTAMP_FILE": f"{stamp}",
        "FAKETIME_CACHE_DURATION": "1",  # second
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _images() -> Path:
    """Where images of disks are kept: in memory where there is room, so that a sync costs nothing."""
    if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > 4 * _DISK:
        return _IN_MEMORY
    return Path("/tmp")


def die_with(parent: int) -> None:
    """Have the kernel end this process by SIGTERM when *parent* ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could ask
        os.kill(os.getpid(), signal.SIGTERM)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_gone(process: psutil.Process, within: float) -> float | None:
    """Seconds until the process had ended, None when it has not."""
    start = time.monotonic()
    while is_alive(process):
        if time.monotonic() - start > within:
            return None
        time.sleep(0.01)
    return time.monotonic() - start


def _write_files(place: Arena, plan: dict[str, object], bug: str, *, moving: bool) -> None:
    folder = place.folder
    for name in ("steps", "once"):
        (folder / name).mkdir()
    (folder / "supervisord.conf").write_text(
        _CONF.format(
            folder=folder,
            logs=folder if place.logs is None else place.logs.mount,
            user="user=root" if os.geteuid() == 0 else "",
            pipeline=PIPELINE,
            worker=Path(sys.executable).with_name("fleet-worker"),
            workers=place.workers,
            stop=GRACE + 5,
        )
    )
    environment = {
        "CHAOS_DIR": str(folder),
        **({planted.VARIABLE: bug} if bug else {}),
        **({clock.VARIABLE: "1"} if moving else {}),
    }
    spec = {
        "schema": "fleet.worker/1",
        "pipeline": PIPELINE,
        "queue_name": PIPELINE,
        "queue": {"dsn": place.dsn_outside},
        "handler": "tests.chaos.handler:handle",
        "directory": str(folder),
        "path": [str(ROOT)],
        "timeout": 30,
        "grace": GRACE,
        "retries": {"max": MAX_RETRIES, "first": 0.1, "factor": 2, "cap": 0.5},
        "max_crashes": MAX_CRASHES,
        "environment": environment,
    }
    (folder / "spec.json").write_text(json.dumps(spec, indent=1))
    values = {"dsn": place.dsn_outside, "folder": str(folder), "ttr": place.ttr, **plan}
    (folder / "plan.json").write_text(json.dumps(values, indent=1))


def _answers(client: Supervisor) -> bool:
    with contextlib.suppress(Exception):
        return client.state().state == "RUNNING"
    return False
