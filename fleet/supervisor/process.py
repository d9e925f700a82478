"""A process as supervisord reports it: one frozen value, every field checked at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.errors import BadReply
from fleet.supervisor.transport import printable


class ProcessState(StrEnum):
    """supervisord's own words."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"

    @property
    def is_stopped(self) -> bool:
        """No operating-system process is left.  An EXITED one may be started again by autorestart."""
        return self in _STOPPED

    @property
    def is_active(self) -> bool:
        """supervisord's RUNNING_STATES: what a stop call accepts and a start call refuses."""
        return self in _ACTIVE


_STOPPED = frozenset({ProcessState.STOPPED, ProcessState.EXITED, ProcessState.FATAL, ProcessState.UNKNOWN})
_ACTIVE = frozenset({ProcessState.STARTING, ProcessState.RUNNING, ProcessState.BACKOFF})
_CODES = {
    0: ProcessState.STOPPED,
    10: ProcessState.STARTING,
    20: ProcessState.RUNNING,
    30: ProcessState.BACKOFF,
    40: ProcessState.STOPPING,
    100: ProcessState.EXITED,
    200: ProcessState.FATAL,
    1000: ProcessState.UNKNOWN,
}
_MAX_PID = 2**22  # the largest pid_max that Linux takes
_MAX_TIME = 2**31 - 1  # supervisord caps its times at XML-RPC's integer
_MAX_TEXT = 64 * 1024  # characters; a path has 4,096


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Instants are epoch seconds of the daemon's clock, whole ones: supervisord sends no fractions."""

    group: str
    name: str
    state: ProcessState
    pid: int | None = None  # None unless an operating-system process exists
    started_at: int | None = None  # of the latest start; kept after the process ended
    stopped_at: int | None = None  # of the latest end
    now: int = 0  # when supervisord made this answer
    spawnerr: str = ""
    exitstatus: int = 0  # -1: ended by a signal.  0 also in BACKOFF and FATAL, where it says nothing
    logfile: str = ""  # "" when there is none

    @property
    def full_name(self) -> str:
        """What supervisord's calls take: `group:process`."""
        return f"{self.group}:{self.name}"

    @property
    def uptime(self) -> int | None:
        """Seconds since the start, never negative; None while no process exists."""
        if self.pid is None or self.started_at is None:
            return None
        return max(0, self.now - self.started_at)


def process(info: object) -> Process:
    """
    One entry of getAllProcessInfo.

    Raises:
        BadReply: names the field that is missing or of the wrong kind.
    """
    if not isinstance(info, Mapping):
        raise BadReply(f"supervisord describes a process by {type(info).__name__} instead of a struct.")
    code = _number(info, "state", 0, 1000)
    if code not in _CODES:
        raise BadReply(f"supervisord reports state {code}, which it does not know itself.")
    return Process(
        group=_text(info, "group"),
        name=_text(info, "name"),
        state=_CODES[code],
        pid=_number(info, "pid", 0, _MAX_PID) or None,
        started_at=_number(info, "start", 0, _MAX_TIME) or None,
        stopped_at=_number(info, "stop", 0, _MAX_TIME) or None,
        now=_number(info, "now", 0, _MAX_TIME),
        spawnerr=_text(info, "spawnerr"),
        exitstatus=_number(info, "exitstatus", -1, 255),
        logfile=_text(info, "stdout_logfile"),
    )


def _number(info: Mapping[str, object], field: str, low: int, high: int) -> int:
    value = info.get(field)
    if type(value) is not int or not low <= value <= high:  # bool is an int, and no number here
        raise BadReply(
            f"supervisord reports {field} as {printable(repr(value), 60)}: expected {low} to {high}."
        )
    return value


def _text(info: Mapping[str, object], field: str) -> str:
    value = info.get(field)
    if not isinstance(value, str):
        raise BadReply(f"supervisord reports {field} as {printable(repr(value), 60)}: expected text.")
    if len(value) > _MAX_TEXT:
        raise BadReply(f"supervisord reports {field} as a text of {len(value):,} characters.")
    return value
