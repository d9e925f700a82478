"""One row told in full: what enter shows.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.dashboard.facts import Cause, ProcessRow
from fleet.dashboard.look import Look, Overlay
from fleet.dashboard.panes import clock
from fleet.dashboard.text import quoted
from fleet.queue.causes import pattern
from fleet.units import short_duration, short_size


def about_cause(cause: Cause, look: Look) -> Overlay:
    """An error group, its newest job, and the command that kicks its jobs."""
    facts = {
        "cause": cause.cause,
        "place": cause.place or "–",
        "pipeline": cause.pipeline,
        "ended": ", ".join(f"{many} {kind}" for kind, many in cause.kinds),
        "first": clock(cause.first_at, look),
        "last": clock(cause.last_at, look),
        "newest": f"job #{cause.job}: fleet jobs show {cause.job}" if cause.job else "–",
        "message": cause.sample or "–",
    }
    lines = _listed(facts)
    if any(kind == "buried" for kind, _ in cause.kinds):
        kick = f"fleet jobs kick {quoted(cause.pipeline)} --error {quoted(pattern(cause.cause))}"
        lines += ["", f"after the fix:  {kick}"]
    return Overlay(title=f"{cause.count} × {cause.cause}", lines=tuple(lines))


def about_process(row: ProcessRow) -> Overlay:
    """A process as supervisord and its own pulse tell of it."""
    facts = {
        "name": row.full_name,
        "host": row.host,
        "state": row.state + (f": {row.note}" if row.note else ""),
        "pid": row.pid,
        "up": None if row.uptime is None else short_duration(row.uptime),
        "cpu": None if row.cpu is None else f"{row.cpu:.0%}",
        "memory": None if row.rss is None else short_size(row.rss),
        "done": row.done,
        "failed": row.failed,
        "does": row.doing or None,
        "job": None if row.job is None else f"#{row.job} for {short_duration(row.job_for)}",
        "pulse": None if row.pulse_age is None else f"{short_duration(row.pulse_age)} ago",
        "log": row.logfile or None,
        "last line": row.log or None,
    }
    lines = _listed({name: value for name, value in facts.items() if value is not None})
    lines += ["", f"its log:  fleet logs {quoted(row.name)} -f"]
    return Overlay(title=f"{row.name} · {row.pipeline}", lines=tuple(lines))


def _listed(facts: Mapping[str, object]) -> list[str]:
    return [f"{name:10}{value}" for name, value in facts.items()]
