"""What a server can be trusted with: how durable its log is, whether it is still written, a known fault."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_CHECK_EVERY = 1.0  # seconds between two looks at the log's counter, while jobs are put
STOPPED = (
    "beanstalkd has stopped writing its log after a disk error: jobs put since then are gone when it stops. "
    "Repair the disk, let the workers finish, and restart it."
)
# conn_timeout() in prot.c puts a lease off when it looks in the very microsecond of its end, and never looks
# again until the connection says something.  With -O2 it hits that microsecond more often than not.
_LAST_OVERLOOKING = (1, 13)
_OVERLOOKS = (
    "This beanstalkd overlooks most leases that end while their connection is silent: the job of a worker "
    "that froze waits until its connection ends. A worker that dies or is killed ends it at once."
)
_OPEN = (
    "beanstalkd asks nobody for a password: whoever reaches it can read and delete every job. "
    "Let it listen on loopback, or on a network of your own."
)
_START_SLACK = 2.0  # seconds by which two ways to tell a process's start may differ


class LogWatch:
    """
    Whether the server still writes its log.

    After one disk error beanstalkd switches its log off and goes on answering
    INSERTED; those jobs are gone after a restart.  Nothing says so but
    `binlog-records-written`, which must grow by one a put at least.  The first
    put of a connection looks at it, then one put a second.
    """

    def __init__(self, stats: dict[str, str]) -> None:
        self.enabled = stats["binlog-current-index"] != "0"
        self.broken = False
        self._server = stats["id"]
        self._records = int(stats["binlog-records-written"])
        self.stored = 0  # jobs, by us since then
        self._look_at = 0.0

    def is_due(self) -> bool:
        return self.enabled and time.monotonic() >= self._look_at

    def look(self, stats: dict[str, str]) -> None:
        """Compare a `stats` answer that was asked for behind the latest put."""
        records = int(stats["binlog-records-written"])
        same = stats["id"] == self._server  # else it was restarted, and counts from 0
        self.broken = same and records - self._records < self.stored
        self._server = stats["id"]
        self._records, self.stored = records, 0
        self._look_at = time.monotonic() + _CHECK_EVERY


def overlooks_leases(version: str) -> bool:
    """Whether that version misses the end of a lease; the versions up to the latest known do."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) <= _LAST_OVERLOOKING


def judge(stats: dict[str, str], log_is_broken: bool, is_local: bool) -> tuple[str, list[str]]:
    """The durability level in force, and what a person should know about this server."""
    level, notes = _level_of(stats, log_is_broken, is_local)
    if not is_local:
        notes.append(_OPEN)
    if overlooks_leases(stats["version"]):
        notes.append(_OVERLOOKS)
    if stats["draining"] == "true":
        notes.append("It is draining (SIGUSR1) and takes no new jobs until it is restarted.")
    return level, notes


def _level_of(stats: dict[str, str], broken: bool, is_local: bool) -> tuple[str, list[str]]:
    if stats["binlog-current-index"] == "0":
        return "memory", [
            "No log (-b): every job is gone when beanstalkd stops.\nbeanstalkd -b /var/lib/beanstalkd -f 0"
        ]
    if broken:
        return "memory", [STOPPED]
    arguments = _arguments_of(stats) if is_local else None
    if arguments is None:
        return "server", [
            "Whether beanstalkd syncs its log before it answers (-f 0) cannot be asked for, so this is the "
            "default: a power cut can take the last jobs that put had accepted."
        ]
    if syncs_always(arguments):
        return "power", []
    return "server", [
        "beanstalkd runs without -f 0, so a power cut can take the last jobs that put had accepted.\n"
        'BEANSTALKD_EXTRA="-b /var/lib/beanstalkd -f 0"   # in /etc/default/beanstalkd, and a restart'
    ]


def syncs_always(arguments: list[str]) -> bool:
    """Whether a command line ends up with an fsync before every answer; reads it as beanstalkd does."""
    rest = iter(arguments)
    every = "50"  # milliseconds, the default
    for argument in rest:
        flags = argument[1:] if argument.startswith("-") else ""
        while flags:
            flag, flags = flags[0], flags[1:]
            if flag == "F":
                every = "never"
            elif flag in "bflpsuz":
                value, flags = flags or next(rest, ""), ""
                if flag == "f":
                    every = value
    return every.isdecimal() and int(every) == 0


def _arguments_of(stats: dict[str, str]) -> list[str] | None:
    """The server's command line, when the pid it tells is surely its own on this very host."""
    try:
        pid = int(stats["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    age = since_boot - started / os.sysconf("SC_CLK_TCK")
    # In a container the same number may name another process: its name and age would have to fit too.
    if (
        not command
        or Path(command[0]).name != "beanstalkd"
        or stats.get("hostname") != os.uname().nodename
        or abs(age - int(stats["uptime"])) > _START_SLACK
    ):
        return None
    return command[1:]
