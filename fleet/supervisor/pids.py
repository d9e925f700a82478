"""
Operating-system processes by pid *and* start time: a number that is used again is another process.

psutil's door in this room.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
from psutil import NoSuchProcess as NoSuchProcess
from psutil import Process as Process

_PAUSE = 0.02
# Where supervisord looks, if it is not told; relative to its folder.
_SEARCHED = (
    "supervisord.conf",
    "etc/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
)


def mark(pids: Iterable[int]) -> tuple[Process, ...]:
    """Hold on to those of *pids* that exist now."""
    found = []
    for pid in pids:
        try:
            found.append(Process(pid))
        except psutil.NoSuchProcess:
            continue
    return tuple(found)


def running(pid: int, words: Sequence[str]) -> Process | None:
    """The process *pid* if all *words* are arguments of its command line."""
    try:
        found = Process(pid)
        command = found.cmdline()
    except (ValueError, psutil.Error):
        return None
    return found if alive(found) and all(word in command for word in words) else None


def main_conf(pid: int) -> Path | None:
    """The configuration file that the supervisord *pid* was started with; None when that cannot be seen."""
    try:
        process = Process(pid)
        words = process.cmdline()
        named = _named_conf(words)
        if named.startswith("/"):
            return Path(named)
        folder = Path(process.cwd())
    except psutil.Error:
        return None
    # It goes elsewhere if its [supervisord] names a `directory`, and then a relative path says nothing.
    candidates = [named] if named else [*_beside_program(words), *_SEARCHED]
    found = (folder / path for path in candidates)
    return next((path for path in found if os.path.isfile(path)), None)  # noqa: PTH113  (never raises)


def _named_conf(words: Sequence[str]) -> str:
    """What stands behind -c or --configuration, in each way that getopt takes; "" when nothing does."""
    for word, after in pairwise([*words, ""]):
        if word in ("-c", "--configuration"):
            return after
        for start in ("--configuration=", "-c"):
            if word.startswith(start):
                return word.removeprefix(start)
    return ""


def _beside_program(words: Sequence[str]) -> list[str]:
    """supervisord looks around its own program first, which an interpreter's command line has second."""
    program = next((word for word in words if Path(word).name == "supervisord"), "")
    above = Path(program).parent.parent
    return [str(above / "etc/supervisord.conf"), str(above / "supervisord.conf")] if program else []


def environ(pid: int) -> dict[str, str] | None:
    """The environment that *pid* was started with; None when this user may not see it."""
    try:
        return dict(Process(pid).environ())
    except psutil.Error:
        return None


def marks(named: Mapping[int, tuple[str, str]], variable: str) -> dict[int, str]:
    """
    *variable* in the environment of each pid, where this user may see it.

    *named* gives the group and process that supervisord calls the pid.  A pid
    of another machine, or one that is used again, is somebody else here.
    """
    found = {}
    for pid, (group, name) in named.items():
        try:
            data = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        pairs = dict(item.partition(b"=")[::2] for item in data.split(b"\0"))
        who = (pairs.get(b"SUPERVISOR_GROUP_NAME"), pairs.get(b"SUPERVISOR_PROCESS_NAME"))
        value = pairs.get(variable.encode())
        if value is not None and who == (os.fsencode(group), os.fsencode(name)):
            found[pid] = os.fsdecode(value)
    return found


def of_groups(groups: Container[str], url: str) -> list[int]:
    """Pids of what a supervisord at *url* once started in *groups*, as far as this user may look."""
    found = []
    for process in psutil.process_iter():
        try:
            pairs = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        told = dict(pair.partition(b"=")[::2] for pair in pairs if pair.startswith(b"SUPERVISOR_"))
        group = os.fsdecode(told.get(b"SUPERVISOR_GROUP_NAME", b""))
        # A worker's own children have its environment, and its fate.
        if group in groups and told.get(b"SUPERVISOR_SERVER_URL") == os.fsencode(url) and _leads(process.pid):
            found.append(process.pid)
    return found


def is_supervised(pid: int) -> bool:
    """Whether the supervisord that started it still lives: nobody else can be its parent."""
    try:
        parent = Process(pid).parent()
        return parent is not None and any("supervisord" in word for word in parent.cmdline())
    except psutil.Error:
        return False


def _leads(pid: int) -> bool:
    """supervisord makes each of its processes the leader of a group."""
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False


def is_a_fork(pid: int) -> bool:
    """Whether it still is a copy of its parent, which has not begun the program that it is to run."""
    try:
        parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1].decode()
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return bool(words) and words == Path(f"/proc/{parent}/cmdline").read_bytes()
    except (OSError, LookupError):
        return False


def born_at(pid: int) -> float:
    """
    When it was forked, in seconds of `boot_clock`; 0 when there is no such process.

    psutil adds the time of the boot in whole seconds, which is up to one too
    early, and another one after the clock was set.
    """
    try:
        if not hasattr(time, "CLOCK_BOOTTIME"):  # Linux only
            return float(Process(pid).create_time())
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (psutil.Error, OSError, LookupError):
        return 0.0


def boot_clock() -> float:
    """Seconds since the boot, with those of a sleep; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def identity(pid: int) -> str:
    """One run of one program on this machine, and no other: a pid is used again, also after a boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return f"{pid}@{born_at(pid):.2f}@{boot[:8]}"


def find(words: Sequence[str]) -> Process | None:
    """A process of this user whose command line holds all *words*; looks at every process there is."""
    for found in psutil.process_iter():
        try:
            if found.uids().effective != os.geteuid() or not all(word in found.cmdline() for word in words):
                continue
        except psutil.Error:
            continue
        if alive(found):
            return found
    return None


def alive(process: Process) -> bool:
    """Still the same process, and not a zombie that nobody has reaped."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: Iterable[Process], *, timeout: float) -> tuple[Process, ...]:
    """Those that are still there after *timeout* seconds; empty as soon as all are gone."""
    deadline = time.monotonic() + timeout
    left = tuple(process for process in processes if alive(process))
    while left and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        left = tuple(process for process in left if alive(process))
    return left


def raise_open_files(pid: int, wanted: int) -> int:
    """Lift the soft limit of open files of *pid* to *wanted*, as far as its hard limit goes; returns it."""
    if not hasattr(Process, "rlimit"):  # Linux only
        return wanted
    try:
        process = Process(pid)
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        new = wanted if hard == -1 else min(wanted, hard)
        if soft == -1 or soft >= new:
            return wanted if soft == -1 else soft
        process.rlimit(psutil.RLIMIT_NOFILE, (new, hard))
    except psutil.NoSuchProcess:
        return wanted  # it has ended, and opens none
    return new


@contextmanager
def open_files_for_children(wanted: int) -> Iterator[None]:
    """Start a process in here, and it may open *wanted* files; this process's own limit comes back."""
    if not wanted or not hasattr(Process, "rlimit"):
        yield
        return
    process = Process(os.getpid())
    before = process.rlimit(psutil.RLIMIT_NOFILE)
    raise_open_files(process.pid, wanted)
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, before)
