"""
What a chaos run happens in: a private server, a proxy before it, supervisord with real workers, producers.

Every process is started from the main thread and dies with it (PR_SET_PDEATHSIG
looks at the thread), so that nothing outlives a run that is itself killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fleet.supervisor.client import Supervisor
from tests import servers
from tests.chaos import planted
from tests.chaos.work import MAX_CRASHES, MAX_RETRIES, PIPELINE
from tests.proxy import Proxy
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
GRACE = 5.0  # seconds a worker may take after SIGTERM
BACKENDS = ("sqlite", "postgresql", "mariadb", "beanstalkd")
_SERVERS = {
    "postgresql": servers.postgres,
    "mariadb": servers.mariadb,
    "beanstalkd": servers.beanstalkd,
}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_CONF = """\
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
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
stdout_logfile={folder}/worker-%(process_num)02d.log
stdout_logfile_maxbytes=10000000
stdout_logfile_backups=1
"""


@dataclass(slots=True, kw_only=True)
class Arena:
    """
    Everything a fault may touch.

    folder       ledgers, configuration and logs
    dsn          the store itself, for the census
    dsn_outside  the same through the proxy, for workers and producers
    """

    backend: str
    folder: Path
    dsn: str
    dsn_outside: str
    ttr: float
    workers: int
    server: servers.Server | None = None
    proxy: Proxy | None = None
    supervisord: subprocess.Popen[bytes] | None = None
    producers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    orphans: list[psutil.Process] = field(default_factory=list)

    def start_supervisord(self) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", f"{self.folder}/supervisord.conf"]
        self.supervisord = self._popen(command, "supervisord.out")
        client = Supervisor(f"unix://{self.folder}/s.sock")
        eventually(lambda: _answers(client), within=20)

    def start_producers(self, count: int) -> None:
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

    def end(self) -> None:
        """End workers, supervisord and producers, politely first."""
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
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0),
            )


@contextlib.contextmanager
def arena(
    backend: str, folder: Path, *, ttr: float, workers: int, plan: dict[str, object], bug: str = ""
) -> Iterator[Arena]:
    """Set it up; supervisord and producers are started by the caller, and all are ended here."""
    with contextlib.ExitStack() as stack:
        server = proxy = None
        if backend == "sqlite":
            dsn = outside = f"sqlite:///{folder}/jobs.db"
        else:
            # Durable, because a server that is killed must keep what it has confirmed.
            server = stack.enter_context(_SERVERS[backend](durable=True))
            proxy = stack.enter_context(Proxy(server.port))
            dsn = server.dsn
            outside = dsn.replace(f":{server.port}", f":{proxy.port}")
        place = Arena(
            backend=backend,
            folder=folder,
            dsn=dsn,
            dsn_outside=outside,
            ttr=ttr,
            workers=workers,
            server=server,
            proxy=proxy,
        )
        _write_files(place, plan, bug)
        if bug:
            os.environ[planted.VARIABLE] = bug  # for the producers; the workers get it from their spec
            stack.callback(os.environ.pop, planted.VARIABLE)
        stack.callback(place.end)
        yield place


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


def _write_files(place: Arena, plan: dict[str, object], bug: str) -> None:
    folder = place.folder
    for name in ("steps", "once"):
        (folder / name).mkdir()
    (folder / "supervisord.conf").write_text(
        _CONF.format(
            folder=folder,
            user="user=root" if os.geteuid() == 0 else "",
            pipeline=PIPELINE,
            worker=Path(sys.executable).with_name("fleet-worker"),
            workers=place.workers,
            stop=GRACE + 5,
        )
    )
    environment = {"FLEET_CHAOS_DIR": str(folder), **({planted.VARIABLE: bug} if bug else {})}
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
