"""
A supervisord of one's own, beside the manifest: found, started and ended.

It lives in a state folder (`.fleet/`, mode 0700), comes from the same Python
environment as fleet, and outlives the terminal that started it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import BadReply, Refused, SupervisorError, SupervisorUnavailable
from fleet.supervisor.client import DaemonState, Supervisor
from fleet.supervisor.lock import locked
from fleet.supervisor.transport import owner_and_mode, printable

# `fleet status` only asks for the home: what starts, finds and ends the daemon imports psutil itself.
if TYPE_CHECKING:
    from fleet.supervisor import pids

# sockaddr_un holds 107 bytes and a NUL, and supervisord binds "<path>.<pid>" before it links that to
# <path>; Linux pids have up to 7 digits.
_LONGEST_SOCKET = 107 - len(".4194304")
_POLL = 0.02

# What a worker may need to know about the machine and the user; secrets of the shell stay outside,
# because supervisord hands its whole environment to every child.
_KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The state folder and what lies in it."""

    state_dir: Path
    socket: Path  # elsewhere when the folder's path is too long for a socket

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def main_conf(self) -> Path:
        return self.state_dir / "supervisord.conf"

    @property
    def conf_dir(self) -> Path:
        return self.state_dir / "conf.d"

    @property
    def pidfile(self) -> Path:
        return self.state_dir / "supervisord.pid"

    @property
    def logfile(self) -> Path:
        return self.state_dir / "supervisord.log"


def home(state_dir: Path, environ: Mapping[str, str] = os.environ) -> Home:
    """
    The home in *state_dir*, an absolute path.  Touches nothing.

    A socket that does not fit there goes to `$XDG_RUNTIME_DIR`, or to a folder
    of this user under /tmp.  The choice is kept in `.fleet/socket`, since the
    next command may run without that variable.

    Raises:
        Refused: somebody else holds the place of a socket that lies elsewhere.
    """
    near = state_dir / "supervisor.sock"
    if len(os.fsencode(near)) <= _LONGEST_SOCKET:
        return Home(state_dir=state_dir, socket=near)
    try:
        return _elsewhere(state_dir, Path((state_dir / "socket").read_text("utf-8").strip()))
    except OSError:
        pass
    import hashlib

    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_mine_alone(Path(runtime)):
        far = Path(runtime) / f"fleet-{digest}.sock"
        if len(os.fsencode(far)) <= _LONGEST_SOCKET:
            return Home(state_dir=state_dir, socket=far)
    # Not tempfile.gettempdir(): TMPDIR may differ in the next command, and may be deep itself.
    return _elsewhere(state_dir, Path(f"/tmp/fleet-{os.geteuid()}-{digest}/s.sock"))  # noqa: S108


def _elsewhere(state_dir: Path, socket: Path) -> Home:
    """Anybody can guess a name in /tmp, make that folder first and play supervisord in it."""
    try:
        found = socket.parent.lstat()
    except FileNotFoundError:
        return Home(state_dir=state_dir, socket=socket)
    try:
        owner = state_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid in (owner, os.geteuid())
    if not is_ours or found.st_mode & 0o077:
        raise Refused(
            f"{socket.parent}, the place of supervisord's socket, is not yours alone "
            f"({owner_and_mode(socket.parent)}). Move it away, or the manifest to a shorter path."
        )
    return Home(state_dir=state_dir, socket=socket)


def prepare(place: Home) -> None:
    """
    Make the state folder, private to this user and ignored by git.

    Raises:
        Refused: something else lies there, or it belongs to somebody else.
    """
    _private_folder(place.state_dir)
    for folder in (place.conf_dir, place.state_dir / "logs", place.state_dir / "run"):
        folder.mkdir(mode=0o755, exist_ok=True)
    ignore = place.state_dir / ".gitignore"
    if not ignore.exists():
        _write(ignore, "*\n")
    if place.socket.parent != place.state_dir:
        if place.socket.name == "s.sock":
            _private_folder(place.socket.parent)
        _write(place.state_dir / "socket", f"{place.socket}\n")


def _write(path: Path, text: str) -> None:
    """A small file that nobody else may write, whatever the umask allows."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)


def find(place: Home, *, timeout: float = 5.0) -> DaemonState | None:
    """
    The supervisord that answers at this home; None when nobody listens.

    Raises:
        SupervisorUnavailable: it listens but does not answer, or it runs and its socket is gone.
    """
    if _listens(place.socket):
        try:
            return Supervisor(place.url, timeout=timeout).state()
        except (SupervisorUnavailable, BadReply):  # the latter: it took the call, and hung up
            if _listens(place.socket):
                raise  # else it ended just when it was asked
    survivor = _by_pidfile(place)
    if survivor is not None:
        raise _socket_is_gone(place, survivor)
    return None


def start(
    place: Home, *, python: str = sys.executable, open_files: int = 0, timeout: float = 60.0
) -> tuple[DaemonState, bool]:
    """
    The supervisord of this home, and whether it was started just now.

    `supervisord.conf` must be in place.  Two callers at once start one daemon.
    A new one may open *open_files* files, if the hard limit allows.  Raising
    `minfds` instead would make each child close as many, one by one, at its start.

    Raises:
        SupervisorError: it did not start; the text holds its own words.
    """
    from fleet.supervisor import pids

    prepare(place)
    with locked(place.state_dir / "start.lock", timeout=timeout + 10):
        deadline = time.monotonic() + timeout
        running = find(place)
        while running is not None and running.state == "SHUTDOWN" and time.monotonic() < deadline:
            time.sleep(_POLL)
            running = find(place)
        if running is not None:
            return running, False
        survivor = _by_command(place)
        if survivor is not None:
            raise _socket_is_gone(place, survivor)
        # A daemon that was killed leaves its socket; supervisord would find that out by itself, 0.3 s later.
        place.socket.unlink(missing_ok=True)
        with pids.open_files_for_children(open_files):
            _spawn(place, python, timeout)
        while True:
            # Its first turn forks every autostart process, and answers nobody meanwhile.
            left = max(1.0, deadline - time.monotonic())
            found = find(place, timeout=left) if _listens(place.socket) else None
            if found is not None and found.state == "RUNNING":
                return found, True
            if time.monotonic() > deadline:
                raise SupervisorError(
                    f"the private supervisord was started but is silent. See {place.logfile}."
                )
            time.sleep(_POLL)


def stop(place: Home, *, timeout: float = 30.0) -> bool:
    """
    End the supervisord of this home and wait until its process is gone; False when none ran.

    Stop its processes first: by itself it stops one group after another.

    Raises:
        SupervisorError: it is still there after *timeout* seconds.
    """
    from fleet.supervisor import pids

    try:
        running = find(place)
    except SupervisorUnavailable:
        survivor = _by_pidfile(place)
        if survivor is None or _listens(place.socket):
            raise
        _end(survivor)
        waiting: tuple[pids.Process, ...] = (survivor,)
    else:
        survivor = _by_pidfile(place) or (_by_command(place) if running is None else None)
        if running is None:
            if survivor is None:
                _sweep(place)
                return False
            _end(survivor)
            waiting = (survivor,)
        else:
            waiting = pids.mark([running.pid]) if running.pid else (survivor,) if survivor else ()
            if running.state != "SHUTDOWN":
                Supervisor(place.url).shutdown()
    if pids.wait_gone(waiting, timeout=timeout):
        raise SupervisorError(
            f"supervisord (pid {waiting[0].pid}) was told to end and is still there after {timeout:g} s. "
            f"See {place.logfile}."
        )
    _sweep(place)
    return True


def _end(survivor: pids.Process) -> None:
    """psutil compares the start time before it signals; one that has ended meanwhile needs no signal."""
    from fleet.supervisor import pids

    with contextlib.suppress(pids.NoSuchProcess):
        survivor.send_signal(signal.SIGTERM)


def clean_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a private supervisord hands to its children: no more than a login would."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    kept.update({name: value for name, value in environ.items() if name.startswith("LC_")})
    # `python` in a manifest means the one that fleet runs in, with or without an activated environment.
    scripts = str(Path(sys.executable).parent)
    rest = [part for part in environ.get("PATH", os.defpath).split(os.pathsep) if part and part != scripts]
    kept["PATH"] = os.pathsep.join([scripts, *rest])
    return kept


def _spawn(place: Home, python: str, timeout: float) -> None:
    import tempfile

    # supervisord forks once its socket is bound, and the first process then ends with 0: whatever is
    # wrong before that arrives here as text.  A file and not a pipe, which children could keep open.
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                # utf8: its files are read in the locale's encoding otherwise.
                [python, "-X", "utf8", "-m", "supervisor.supervisord", "-c", str(place.main_conf)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=place.state_dir,
                env=clean_environ(),
                start_new_session=True,  # Ctrl-C in this terminal is not meant for it
                umask=0o022,  # its own setting comes after it has made its log file
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SupervisorError(f"the private supervisord did not start within {timeout:g} s.") from error
        output.seek(0)
        said = output.read(8192).decode("utf-8", "replace").strip()
    if done.returncode:
        reason = next((line for line in said.splitlines() if line.startswith("Error: ")), said[-400:])
        reason = printable(reason.removeprefix("Error: ")) or f"exit status {done.returncode}"
        raise SupervisorError(
            f"the private supervisord did not start: {reason} (configuration {place.main_conf})"
        )


def _listens(path: Path) -> bool:
    """Somebody accepts connections there.  A socket file alone says nothing."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{path} is not a socket ({owner_and_mode(path)}). Move it away and try again.")
    except FileNotFoundError:
        return False
    except PermissionError as error:
        folder = path.parent
        raise SupervisorUnavailable(
            f"this user may not look for the socket in {folder} ({owner_and_mode(folder)}). "
            "Run fleet as the user whose fleet it is."
        ) from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # a full backlog: it is there, and busy
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return False
            if error.errno == errno.EAGAIN:
                return True
            raise SupervisorUnavailable(
                f"the socket {path} cannot be used: {error.strerror} ({owner_and_mode(path)})."
            ) from error
    return True


def _by_pidfile(place: Home) -> pids.Process | None:
    """The daemon that the pid file names, if that pid is really it: the number may have been used again."""
    from fleet.supervisor import pids

    try:
        pid = int(place.pidfile.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return pids.running(pid, _command_words(place))


def _by_command(place: Home) -> pids.Process | None:
    """
    A daemon of this home that nothing in it tells of: somebody removed the folder under it.

    To start a second one would run every worker twice.
    """
    from fleet.supervisor import pids

    return pids.find(_command_words(place))


def _command_words(place: Home) -> tuple[str, str]:
    return "supervisor.supervisord", str(place.main_conf)


def _socket_is_gone(place: Home, survivor: pids.Process) -> SupervisorUnavailable:
    return SupervisorUnavailable(
        f"supervisord runs here (pid {survivor.pid}), but its socket {place.socket} is gone. "
        "`fleet down` ends it; then start again."
    )


def _sweep(place: Home) -> None:
    """What a daemon leaves when it was killed, and the folder in /tmp if its socket had to lie there."""
    place.socket.unlink(missing_ok=True)
    if place.socket.parent != place.state_dir and place.socket.name == "s.sock":
        with contextlib.suppress(OSError):
            place.socket.parent.rmdir()


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise Refused(f"the state folder {folder} cannot be made: {error.strerror}.") from error
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{folder} is not a folder ({owner_and_mode(folder)}). Move it away and try again.")
    if found.st_uid != os.geteuid():
        raise Refused(f"{folder} belongs to somebody else ({owner_and_mode(folder)}). Nothing was changed.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def _is_mine_alone(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
