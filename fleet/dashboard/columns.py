"""The columns of every table, and how a number looks in one."""

from __future__ import annotations

import re
from dataclasses import replace

from fleet.dashboard.facts import Health, PipelineRow, ProcessRow
from fleet.dashboard.lines import Column
from fleet.dashboard.spark import resample, spark
from fleet.dashboard.text import cut, show
from fleet.units import short_duration, short_size

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*(?:Z|[+-]\d\d:?\d\d)?\s*")
UNKNOWN = "–"  # a number that cannot be had; never 0

ICONS = {
    Health.FAILING: "✖",
    Health.SLOW: "▲",
    Health.STALE: "▲",
    Health.UNKNOWN: "?",
    Health.STARTING: "◐",
    Health.DRAINING: "◐",
    Health.OK: "●",
    Health.PAUSED: "◌",
    Health.STOPPED: "○",
}
# For icons.  Yellow, green and cyan are hard to read as text on a light background.
STYLES = {
    Health.FAILING: "bold red",
    Health.SLOW: "yellow",
    Health.STALE: "yellow",
    Health.UNKNOWN: "yellow",
    Health.STARTING: "cyan",
    Health.DRAINING: "cyan",
    Health.OK: "green",
    Health.PAUSED: "dim",
    Health.STOPPED: "dim",
}
# For words: red is readable on any background, and the rest is said without colour.
WORDS = {
    health: style if "red" in style or style == "dim" else "" if health is Health.OK else "bold"
    for health, style in STYLES.items()
}


def count(number: int | None, cap: int = 0) -> str:
    """At most six characters: "1,270", "99,999", "100k+" where counting stopped, "1.2M"."""
    if number is None:
        return UNKNOWN
    if cap and number >= cap:
        return f"{cap // 1000}k+" if cap >= 1000 else f"{cap}+"
    if number < 100_000:
        return f"{number:,}"
    return f"{number // 1000}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"


def rate(number: float | None) -> str:
    """At most six characters: "0.3", "41.2", "1,204"."""
    if number is None:
        return UNKNOWN
    return f"{number:.1f}" if number < 999.95 else count(round(number))


def share(number: float | None) -> str:
    """At most four characters: "0.4%", "31%"."""
    if number is None:
        return UNKNOWN
    return f"{number:.1%}" if number < 0.0995 else f"{number:.0%}"


def seconds(number: float | None) -> str:
    return UNKNOWN if number is None else short_duration(number)


def _jobs(row: PipelineRow, state: str) -> str:
    if row.jobs is None:
        return UNKNOWN
    return count(getattr(row.jobs, state), row.jobs.cap)


def _procs(row: PipelineRow) -> str:
    return f"{UNKNOWN if row.running is None else row.running}/{row.wanted}"


def _rate(row: PipelineRow) -> str:
    return "paused" if row.paused > 0 else rate(row.rate)


def _health(row: PipelineRow | ProcessRow) -> str:
    return WORDS[row.health]


def _jobs_style(row: PipelineRow) -> str:
    return "dim" if row.jobs_age > 0 else ""


def _procs_style(row: PipelineRow) -> str:
    if row.procs_age > 0:
        return "dim"
    return (
        "bold red" if row.running is not None and row.running < row.wanted and row.health.is_trouble else ""
    )


def _oldest_style(row: PipelineRow) -> str:
    if row.jobs_age > 0:
        return "dim"
    return "bold" if any(alert.code == "oldest" for alert in row.alerts) else ""


def _buried_style(row: PipelineRow) -> str:
    if row.jobs_age > 0:
        return "dim"
    return "bold red" if any(alert.code == "buried" for alert in row.alerts) else ""


def _process_style(row: ProcessRow) -> str:
    return "dim" if row.age > 0 else ""


def _scale(row: PipelineRow) -> str:
    return str(row.floor) if row.most == row.floor else f"{row.floor}-{row.most}"


def _drains(row: PipelineRow) -> str:
    """What becomes of the backlog if all goes on as now."""
    if row.drains_in is None or row.paused > 0:
        return UNKNOWN
    if row.drains_in == float("inf"):
        return f"never at {row.running}" if row.running else "never"
    return "now" if row.drains_in < 1 else short_duration(row.drains_in)


def _drains_style(row: PipelineRow) -> str:
    return "bold" if row.drains_in == float("inf") and row.health.is_trouble else ""


def _trail(row: PipelineRow) -> str:
    last = row.trail[-1][0] if row.trail else 0.0
    return spark(resample(row.trail, last, row.flow.window))


def _errors_style(row: PipelineRow) -> str:
    return "red" if (row.flow.errors or 0) >= 0.1 else ""


def _log(row: ProcessRow) -> str:
    """The last line without the time that workers write in front: it is from just now, or the row says so."""
    return show(_STAMP.sub("", row.log), 300)


def _current(row: ProcessRow) -> str:
    """What a process does now, in the words of the one who knows."""
    if row.age > 0:
        return f"seen {short_duration(row.age)} ago"
    if row.state not in ("RUNNING", "OUTSIDE"):
        return show(row.note, 200) or UNKNOWN
    if row.health is Health.SLOW:
        return f"#{row.job} {short_duration(row.job_for)} slow"
    if row.health is Health.STALE:
        return f"silent {short_duration(row.pulse_age or 0)}"
    if row.job is not None:
        return f"#{row.job} {short_duration(row.job_for)}"
    words = show(row.doing, 20) or UNKNOWN
    return f"{words}: {show(row.note, 200)}" if row.note else words


_NAME = Column[PipelineRow](head="PIPELINE", cell=lambda row: show(row.name, 60), least=8, grows=True)
_STATE = Column[PipelineRow](head="STATE", cell=lambda row: row.health.value, style=_health, least=8)
_PROCS = Column[PipelineRow](head="PROCS", cell=_procs, style=_procs_style, right=True, least=5)
_READY = Column[PipelineRow](
    head="READY", cell=lambda row: _jobs(row, "ready"), style=_jobs_style, right=True, least=6
)
_DELAY = Column[PipelineRow](
    head="DELAY", cell=lambda row: _jobs(row, "delayed"), style=_jobs_style, right=True, least=5
)
_RSVD = Column[PipelineRow](
    head="RSVD", cell=lambda row: _jobs(row, "reserved"), style=_jobs_style, right=True, least=4
)
_BURIED = Column[PipelineRow](
    head="BURIED", cell=lambda row: _jobs(row, "buried"), style=_buried_style, right=True, least=6
)
_RATE = Column[PipelineRow](head="JOBS/s", cell=_rate, right=True, least=6)
_OLDEST = Column[PipelineRow](
    head="OLDEST", cell=lambda row: seconds(row.oldest_ready), style=_oldest_style, right=True, least=6
)

_P50 = Column[PipelineRow](head="p50", cell=lambda row: seconds(row.flow.wait_p50), right=True, least=5)
_P95 = Column[PipelineRow](head="p95", cell=lambda row: seconds(row.flow.wait_p95), right=True, least=5)

PIPELINES = (_NAME, _PROCS, _READY, _DELAY, _RSVD, _BURIED, _RATE, _P50, _P95, _OLDEST)

NARROW_PIPELINES = (
    _NAME,
    _PROCS,
    _READY,
    replace(_DELAY, drop=9),
    replace(_RSVD, drop=8),
    replace(_BURIED, drop=4),
    replace(_RATE, drop=6),
    replace(_P50, drop=10),
    replace(_P95, drop=7),
    replace(_OLDEST, drop=5),
)

TRAIL = Column[PipelineRow](head="5 MIN", cell=_trail, style=_jobs_style, least=8)
_HOSTS = Column[PipelineRow](head="HOSTS", cell=lambda row: show(",".join(row.hosts), 20), least=6)
WIDE_PIPELINES = (
    Column[PipelineRow](head="PIPELINE", cell=lambda row: show(row.name, 30), least=12),
    _HOSTS,
    _PROCS,
    Column[PipelineRow](head="SCALE", cell=_scale, least=5),
    _READY,
    TRAIL,
    _DELAY,
    _RSVD,
    _BURIED,
    Column[PipelineRow](head="IN/s", cell=lambda row: rate(row.flow.arrivals), right=True, least=6),
    Column[PipelineRow](
        head="OUT/s", cell=lambda row: "paused" if row.paused > 0 else rate(row.out), right=True, least=6
    ),
    Column[PipelineRow](
        head="ERR", cell=lambda row: share(row.flow.errors), style=_errors_style, right=True, least=4
    ),
    _P50,
    _P95,
    Column[PipelineRow](head="RUN p95", cell=lambda row: seconds(row.flow.run_p95), right=True, least=7),
    _OLDEST,
    Column[PipelineRow](head="DRAINS IN", cell=_drains, style=_drains_style, least=10, grows=True),
)


_PROCESS = Column[ProcessRow](
    head="PROCESS", cell=lambda row: show(row.name, 24), style=_process_style, least=15
)
_PROCESS_STATE = Column[ProcessRow](head="STATE", cell=lambda row: row.state, style=_health, least=8)
_PID = Column[ProcessRow](
    head="PID",
    cell=lambda row: UNKNOWN if row.pid is None else str(row.pid),
    style=_process_style,
    right=True,
    least=7,
)
_UP = Column[ProcessRow](
    head="UP", cell=lambda row: seconds(row.uptime), style=_process_style, right=True, least=5
)
_CPU = Column[ProcessRow](
    head="CPU",
    cell=lambda row: UNKNOWN if row.cpu is None else f"{row.cpu:.0%}",
    style=_process_style,
    right=True,
    least=4,
)
_RSS = Column[ProcessRow](
    head="RSS",
    cell=lambda row: UNKNOWN if row.rss is None else short_size(row.rss),
    style=_process_style,
    right=True,
    least=5,
)
_DONE = Column[ProcessRow](
    head="DONE", cell=lambda row: count(row.done), style=_process_style, right=True, least=6
)
_FAIL = Column[ProcessRow](
    head="FAIL", cell=lambda row: count(row.failed), style=_process_style, right=True, least=4
)
_JOB = Column[ProcessRow](head="JOB", cell=_current, style=_process_style, least=6, grows=True)

PROCESSES = (_PROCESS, _PROCESS_STATE, _PID, _UP, _CPU, _RSS, _DONE, _JOB)
_HOST = Column[ProcessRow](head="HOST", cell=lambda row: show(row.host, 20), style=_process_style, least=6)
WIDE_PROCESSES = (
    Column[ProcessRow](head="PROCESS", cell=lambda row: show(row.name, 40), style=_process_style, least=15),
    _HOST,
    _PROCESS_STATE,
    _PID,
    _UP,
    _CPU,
    _RSS,
    _DONE,
    _FAIL,
    Column[ProcessRow](
        head="CURRENT JOB", cell=lambda row: cut(_current(row), 40), style=_process_style, least=24
    ),
    Column[ProcessRow](head="LAST LOG LINE", cell=_log, style=_process_style, least=6, grows=True),
)


def _whole(number: int | None, cap: int = 0) -> str:
    if number is None:
        return UNKNOWN
    return f"{number}+" if cap and number >= cap else str(number)


def _whole_jobs(head: str, state: str) -> Column[PipelineRow]:
    def cell(row: PipelineRow) -> str:
        return UNKNOWN if row.jobs is None else _whole(getattr(row.jobs, state), row.jobs.cap)

    return Column[PipelineRow](head=head, cell=cell, right=True)


PLAIN_PIPELINES = (
    Column[PipelineRow](head="PIPELINE", cell=lambda row: show(row.name)),
    Column[PipelineRow](head="STATE", cell=lambda row: row.health.value),
    Column[PipelineRow](head="PROCS", cell=_procs, right=True),
    _whole_jobs("READY", "ready"),
    _whole_jobs("DELAYED", "delayed"),
    _whole_jobs("RESERVED", "reserved"),
    _whole_jobs("BURIED", "buried"),
    Column[PipelineRow](head="DONE", cell=lambda row: _whole(row.done), right=True),
    Column[PipelineRow](
        head="JOBS/s", cell=lambda row: UNKNOWN if row.rate is None else f"{row.rate:.1f}", right=True
    ),
    Column[PipelineRow](head="P50", cell=lambda row: seconds(row.flow.wait_p50), right=True),
    Column[PipelineRow](head="P95", cell=lambda row: seconds(row.flow.wait_p95), right=True),
    Column[PipelineRow](head="OLDEST", cell=lambda row: seconds(row.oldest_ready), right=True),
    Column[PipelineRow](head="WHY", cell=lambda row: show(row.reason) or UNKNOWN),
)
PLAIN_PROCESSES = (
    Column[ProcessRow](head="PROCESS", cell=lambda row: show(row.name)),
    Column[ProcessRow](head="HOST", cell=lambda row: show(row.host)),
    Column[ProcessRow](head="STATE", cell=lambda row: row.state),
    Column[ProcessRow](head="PID", cell=_PID.cell, right=True),
    Column[ProcessRow](head="UP", cell=_UP.cell, right=True),
    Column[ProcessRow](head="CPU", cell=_CPU.cell, right=True),
    Column[ProcessRow](head="RSS", cell=_RSS.cell, right=True),
    Column[ProcessRow](head="DONE", cell=lambda row: _whole(row.done), right=True),
    Column[ProcessRow](head="FAIL", cell=lambda row: _whole(row.failed), right=True),
    Column[ProcessRow](head="JOB", cell=_current),
)
