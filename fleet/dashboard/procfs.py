"""Memory and processor time of a program that says nothing about itself, where it runs on this host."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> tuple[int, float] | None:
    """
    Bytes in RAM and seconds of processor time so far; None when it is gone, or not ours to look at.

    /proc is read directly: psutil takes five times as long, and its import as
    long as twenty looks.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything; utime, stime and rss are fields 14, 15 and 24.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[21]) * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS
    except FileNotFoundError:
        return None if os.path.isdir("/proc/self") else _by_psutil(pid)  # noqa: PTH112 - a hundred a second
    except (OSError, ValueError, IndexError):
        return None


def _by_psutil(pid: int) -> tuple[int, float] | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return int(process.memory_info().rss), float(times.user + times.system)
    except psutil.Error:
        return None
