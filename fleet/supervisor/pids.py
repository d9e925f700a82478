"""
Operating-system processes by pid *and* start time: a number that is used again is another process.

psutil's door in this room.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import psutil
from psutil import Process as Process

_PAUSE = 0.02


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
    process = Process(pid)
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    new = wanted if hard == -1 else min(wanted, hard)
    if soft == -1 or soft >= new:
        return wanted if soft == -1 else soft
    process.rlimit(psutil.RLIMIT_NOFILE, (new, hard))
    return new
