"""Which faults this machine cannot have, and why: a fault that is left out is never left out in silence."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.chaos.disk import Disk, Partition
from tests.chaos.memory import memory_group

_FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def why_not(kind: str) -> str:
    """Why a fault of that kind is not possible on this machine; "" when it is."""
    return _NEEDS[kind]() if kind in _NEEDS else ""


def faketime_library() -> str | None:
    """The path of libfaketime."""
    for pattern in _FAKETIME:
        for path in Path("/").glob(pattern[1:]):
            return str(path)
    return None


@functools.cache
def _no_disk() -> str:
    return _tried(lambda folder: Disk(folder, folder / "disk", 16 << 20))


@functools.cache
def _no_partition() -> str:
    return _tried(lambda folder: Partition(folder / "partition", 1 << 20))


def _tried(make: Callable[[Path], Partition]) -> str:
    folder = Path(tempfile.mkdtemp(prefix="fleet-probe-", dir="/tmp"))
    try:
        make(folder).close()
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ""


@functools.cache
def _no_strace() -> str:
    if not shutil.which("strace"):
        return "strace is not installed: apt-get install strace"
    done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], check=False, capture_output=True)
    return "" if done.returncode == 0 else "strace may not trace here"


def _no_faketime() -> str:
    return "" if faketime_library() else "libfaketime is not installed: apt-get install faketime"


@functools.cache
def _no_memory_group() -> str:
    try:
        with memory_group():
            return ""
    except OSError as error:
        return f"no memory group can be made: {error}"


_NEEDS: dict[str, Callable[[], str]] = {
    "power": _no_disk,
    "disk-full": _no_disk,
    "log-full": _no_partition,
    "fsync": _no_strace,
    "write": _no_strace,
    "clock": _no_faketime,
    "oom": _no_memory_group,
}
