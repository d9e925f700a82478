"""
Private servers for the tests: PostgreSQL, PgBouncer, MariaDB and beanstalkd.

Each is a context manager that starts a throw-away server on a free loopback
port and yields a `Server`; leaving the block ends it by pid and removes its
folder.  Should the test run itself be killed, the kernel ends the server
(PR_SET_PDEATHSIG): no process outlives it, only the folder in /tmp stays.

    with postgres() as server:
        fleet.connect(server.dsn)

Without `durable=True` nothing is synced to disk: right for every test except
those about power cuts.  *disk* is a mounted file system to put the data on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

START_WITHIN = 60.0  # seconds; a busy machine needs a few, an idle one half a second
STOP_WITHIN = 15.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NotInstalled(Exception):
    """The server's program is not on this machine; the message says how to get it."""


class Server:
    """
    One private server that can be stopped, killed and started again on the same port and data.

    dsn     URL for `fleet.connect`
    port    loopback port
    folder  data, socket and log; removed at the end
    pid     of its main process; 0 while it is down

    environment  what it gets besides ours from its next start on
    """

    def __init__(
        self,
        *,
        dsn: str,
        port: int,
        folder: Path,
        command: Sequence[str],
        user: str | None,
        stop_signal: signal.Signals,
        is_ready: Callable[[Server], bool],
    ) -> None:
        self.dsn = dsn
        self.port = port
        self.folder = folder
        self._command = list(command)
        self._user = user
        self._stop_signal = stop_signal
        self._is_ready = is_ready
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        """Whether its main process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C is for the test run, which then ends its servers in order
                preexec_fn=self._die_with_parent,
                **_identity(self._user),
            )
        deadline = time.monotonic() + START_WITHIN
        while not self._is_ready(self):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not come up:\n{self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self, number: signal.Signals | None = None) -> None:
        """End it as an operator would, or by another signal; harmless when it is down already."""
        if self._process is None:
            return
        self._process.send_signal(number or self._stop_signal)
        try:
            self._process.wait(STOP_WITHIN)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL to the main process and to all its children."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return
        family = [psutil.Process(self._process.pid)]
        family[0].suspend()  # so that it starts nobody whom we do not know
        family += family[0].children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        # PostgreSQL refuses its data folder while a process of the old server is alive.
        psutil.wait_procs(family[1:], timeout=STOP_WITHIN)
        self._process = None

    def _die_with_parent(self) -> None:
        # Runs in the child, after its user was changed (a change of user clears the setting).
        _libc.prctl(_PR_SET_PDEATHSIG, int(self._stop_signal), 0, 0, 0)


@contextlib.contextmanager
def postgres(*settings: str, durable: bool = False, disk: Path | None = None) -> Iterator[Server]:
    """
    A PostgreSQL server with one superuser, `fleet`, who needs no password.

    *settings* are its own, such as ``"max_connections=300"``.
    """
    bin_dir = _postgres_bin()
    relaxed = () if durable else ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
    with _folder("pg", owner="postgres") as (folder, user), free_port() as port:
        data = _data(folder, disk, user)
        _run(
            [
                *(f"{bin_dir}/initdb", "-D", f"{data}", "-U", "fleet", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "-N", "--no-instructions"),
            ],
            folder,
            user,
        )
        command = [f"{bin_dir}/postgres", "-D", f"{data}", "-k", f"{folder}", "-p", f"{port}"]
        for setting in ("listen_addresses=127.0.0.1", "shared_buffers=32MB", *relaxed, *settings):
            command += ["-c", setting]

        def is_ready(server: Server) -> bool:
            asked = [f"{bin_dir}/pg_isready", "-q", "-h", f"{server.folder}", "-p", f"{server.port}"]
            return subprocess.run(asked, check=False).returncode == 0

        server = Server(
            dsn=f"postgresql://fleet@127.0.0.1:{port}/postgres",
            port=port,
            folder=folder,
            command=command,
            user=user,
            stop_signal=signal.SIGQUIT,  # "immediate": its data is thrown away anyhow
            is_ready=is_ready,
        )
        with _running(server):
            yield server


@contextlib.contextmanager
def mariadb(*flags: str, durable: bool = False, disk: Path | None = None) -> Iterator[Server]:
    """
    A MariaDB server with an empty database `fleet` and a user `fleet` who may do everything.

    *flags* are mariadbd's own, such as ``"--max-connections=300"``.
    """
    install = _program("mariadb-install-db", "mariadb-server")
    daemon = _program("mariadbd", "mariadb-server")
    relaxed = () if durable else ("--innodb-flush-log-at-trx-commit=0", "--innodb-fast-shutdown=2")
    with _folder("my", owner="mysql") as (folder, user), free_port() as port:
        data = _data(folder, disk, user)
        as_user = [f"--user={user}"] if user else []
        # In a shared one each server that starts removes the temporary tables of all others.
        (folder / "tmp").mkdir()
        shutil.chown(folder / "tmp", user or os.getuid())
        _run(
            [
                *(install, "--no-defaults", *as_user, f"--datadir={data}", "--skip-test-db"),
                *("--auth-root-authentication-method=normal", "--skip-name-resolve"),
                f"--tmpdir={folder}/tmp",
            ],
            folder,
            user,
        )
        # Read at every start, before the first connection is greeted.
        (folder / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS fleet;\n"
            "CREATE USER IF NOT EXISTS fleet@'127.0.0.1';\n"
            "GRANT ALL ON *.* TO fleet@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        (folder / "init.sql").chmod(0o644)
        server = Server(
            dsn=f"mysql://fleet@127.0.0.1:{port}/fleet",
            port=port,
            folder=folder,
            command=[
                *(daemon, "--no-defaults", f"--datadir={data}", f"--tmpdir={folder}/tmp"),
                *(f"--socket={folder}/s.sock", f"--pid-file={folder}/pid", f"--init-file={folder}/init.sql"),
                *("--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve"),
                # Debian's own default; the compiled-in one is latin1.
                *("--character-set-server=utf8mb4", "--innodb-buffer-pool-size=64M"),
                *relaxed,
                *flags,
            ],
            user=user,
            stop_signal=signal.SIGTERM,
            is_ready=_greets,
        )
        with _running(server):
            yield server


@contextlib.contextmanager
def beanstalkd(*flags: str, durable: bool = False, disk: Path | None = None) -> Iterator[Server]:
    """
    A beanstalkd server; *flags* are its own, such as ``"-z", "1048576"``.

    With *durable* its log is on disk and synced before every answer
    (``-b DIR -f 0``); otherwise jobs live in its memory only.
    """
    program = _program("beanstalkd", "beanstalkd")
    with _folder("bs", owner=None) as (folder, user), free_port() as port:
        log = []
        if durable:
            data = _data(folder, disk, user)
            data.mkdir()
            log = ["-b", f"{data}", "-f", "0"]
        server = Server(
            dsn=f"beanstalkd://127.0.0.1:{port}",
            port=port,
            folder=folder,
            command=[program, "-l", "127.0.0.1", "-p", f"{port}", *log, *flags],
            user=user,
            stop_signal=signal.SIGTERM,
            is_ready=_listens,
        )
        with _running(server):
            yield server


@contextlib.contextmanager
def pgbouncer(behind: Server, *settings: str) -> Iterator[Server]:
    """
    A PgBouncer in transaction mode in front of *behind*, a server of `postgres()`.

    *settings* are its own, such as ``"default_pool_size=3"``.
    """
    program = _program("pgbouncer", "pgbouncer")
    with _folder("pb", owner="postgres") as (folder, user), free_port() as port:
        lines = [
            "[databases]",
            f"postgres = host=127.0.0.1 port={behind.port} user=fleet",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            "pool_mode = transaction",
            "default_pool_size = 3",
            *settings,
        ]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (folder / "pgbouncer.ini").chmod(0o644)
        server = Server(
            dsn=f"postgresql://fleet@127.0.0.1:{port}/postgres",
            port=port,
            folder=folder,
            command=[program, f"{folder}/pgbouncer.ini"],
            user=user,
            stop_signal=signal.SIGTERM,  # at once: it waits for nobody
            is_ready=_listens,
        )
        with _running(server):
            yield server


@contextlib.contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _folder(prefix: str, *, owner: str | None) -> Iterator[tuple[Path, str | None]]:
    """
    A short folder under /tmp and the user to run as.

    Short because a socket's path must stay under 108 bytes.  PostgreSQL and
    MariaDB refuse to run as root, so root hands the folder to *owner*, who must
    have it before the data is made; anybody else runs the server as himself.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fleet-{prefix}-", dir="/tmp"))
    user = owner if os.geteuid() == 0 else None
    try:
        if user:
            shutil.chown(folder, user)
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _data(folder: Path, disk: Path | None, user: str | None) -> Path:
    """Where the data shall lie, which is not there yet."""
    if disk is None:
        return folder / "data"
    shutil.chown(disk, user or os.getuid())
    return disk / "data"


def _identity(user: str | None) -> dict[str, object]:
    """Popen's arguments for running as *user*, without root's groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _run(command: Sequence[str], folder: Path, user: str | None) -> None:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **_identity(user),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}")


def _program(name: str, package: str) -> str:
    # Debian keeps daemons in /usr/sbin, which is not in everybody's PATH.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise NotInstalled(f"{name} is not installed: apt-get install {package}")
    return found


def _postgres_bin() -> Path:
    """The folder of the newest PostgreSQL; Debian keeps each version's programs out of PATH."""
    versions = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda bin_dir: float(bin_dir.parent.name))
    found = shutil.which("initdb")
    if not found:
        raise NotInstalled("initdb is not installed: apt-get install postgresql")
    return Path(found).resolve().parent


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """
    A loopback port that nobody uses, below the kernel's ephemeral range, and that is ours inside the block.

    Inside that range a client that keeps calling a stopped server can be given
    the server's own port as its local one, and then talks to itself.

    Ours, because a socket of ours stays bound to it: nobody else who looks for
    a free port gets it, not even while our server is down.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as holder:
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                continue
            # Not before: it lets in the server, which sets it too, and not those who look as we just did.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            yield port
            return
    raise RuntimeError("no free loopback port between 20000 and 32000")


def _listens(server: Server) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
        return True
    return False


def _greets(server: Server) -> bool:
    """MariaDB speaks first, once it takes connections."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), timeout=1) as link,
    ):
        return bool(link.recv(1))
    return False
