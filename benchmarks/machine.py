"""What the run stands on: the machine, the interpreter, the drivers, the disk."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path


def facts(runs: int, scale: float) -> list[tuple[str, str]]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        ("run", f"{now}, {runs} runs of each in turn, scale {scale:g}; **median** (min … max)"),
        ("machine", f"{_processor()}, {os.cpu_count()} cores, {_memory()} GiB, Linux {platform.release()}"),
        ("load at the start", load()),
        ("disk", f"one durable write of 512 bytes takes {_sync() * 1e6:,.0f} µs"),
        ("Python", platform.python_version()),
        *((name, importlib.metadata.version(name)) for name in ("supervisor-fleet", "psycopg", "pymysql")),
    ]


def load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _sync() -> float:
    """Seconds of one fdatasync, the ceiling of everything that commits job by job."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 512, 0)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)
