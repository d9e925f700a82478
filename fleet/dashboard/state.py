"""The rules that give a row its word: pure, and the only place that knows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fleet.dashboard.facts import ABSENT, Alert, Health, Jobs, ProcessRow
from fleet.units import format_duration, short_duration

STALE_PULSE = 15.0  # seconds: three pulses in a row did not come
SLOW_JOB = 10  # times the run p95, and
_SLOW_AT_LEAST = 30.0  # seconds: ten times nothing is still quick

# Said once for each row; the source's own error is said once for all.
QUEUE_AWAY = "the queue does not answer"
SUPERVISORD_AWAY = "supervisord does not answer"
_FOR_GOOD = 90 * 86400.0  # seconds; back ends want an end, and `fleet pause` names one far away

_BROKEN = frozenset(["FATAL", "BACKOFF", "EXITED", "UNKNOWN"])
_HEALTH_OF = {
    "RUNNING": Health.OK,
    "STARTING": Health.STARTING,
    "STOPPING": Health.DRAINING,
    "STOPPED": Health.STOPPED,
    "OUTSIDE": Health.OK,
    ABSENT: Health.STOPPED,
}


def process_health(state: str, pulse_age: float | None, doing: str = "") -> Health:
    """A process by supervisord's word for it and the age of its pulse."""
    if state in _BROKEN:
        return Health.FAILING
    health = _HEALTH_OF.get(state, Health.UNKNOWN)
    if health is Health.OK:
        if doing == "waiting":
            return Health.FAILING
        if pulse_age is not None and pulse_age > STALE_PULSE:
            return Health.STALE
    return health


def with_slow_job(row: ProcessRow, run_p95: float | None) -> ProcessRow:
    """The process, marked slow when its job takes far longer than others of its pipeline."""
    if run_p95 is None or row.job is None or row.health is not Health.OK:
        return row
    if row.job_for <= max(SLOW_JOB * run_p95, _SLOW_AT_LEAST):
        return row
    note = f"job #{row.job} runs for {short_duration(row.job_for)}, p95 is {short_duration(run_p95)}"
    return replace(row, health=Health.SLOW, note=note)


def alerts(
    jobs: Jobs | None, oldest_ready: float | None, oldest: float | None, buried: int | None
) -> tuple[Alert, ...]:
    """
    The manifest's limits that are exceeded.

    `buried = 1` means "tell me of the first one"; `oldest` is a wait that is
    still all right.
    """
    found = []
    if buried is not None and jobs is not None and jobs.buried >= buried:
        found.append(Alert(code="buried", limit=buried, value=jobs.buried))
    if oldest is not None and oldest_ready is not None and oldest_ready > oldest:
        found.append(Alert(code="oldest", limit=oldest, value=oldest_ready))
    return tuple(found)


def pipeline_health(
    *,
    queue_answers: bool,
    supervisord_answers: bool,
    processes: Sequence[ProcessRow],
    jobs: Jobs | None,
    exceeded: Iterable[Alert],
    paused: float,
    by_hand: int | None = None,
) -> tuple[Health, str]:
    """
    The worst word that fits one pipeline, and the sentence that says why.

    *processes* are the wanted ones, *by_hand* is their number if somebody set
    it.  The order is the order of trouble; only a
    pause comes before slowness, because a paused pipeline is meant to wait.
    """
    limits = {alert.code: alert for alert in exceeded}
    by_health: dict[Health, list[ProcessRow]] = {}
    for row in processes:
        by_health.setdefault(row.health, []).append(row)

    absent = [row for row in processes if row.state == ABSENT]
    if not queue_answers:
        return Health.FAILING, QUEUE_AWAY
    if failing := by_health.get(Health.FAILING):
        return Health.FAILING, _about(failing)
    if 0 < len(absent) < len(processes):
        return Health.FAILING, f"{len(absent)} of {len(processes)} not known to supervisord"
    if "buried" in limits:
        count, limit = int(limits["buried"].value), int(limits["buried"].limit)
        return Health.FAILING, f"{count} buried (alert at {limit})"
    if not supervisord_answers:
        return Health.UNKNOWN, SUPERVISORD_AWAY
    if paused > 0:
        for_good = paused > _FOR_GOOD
        return (
            Health.PAUSED,
            "paused until resumed" if for_good else f"paused for another {short_duration(paused)}",
        )
    if "oldest" in limits:
        alert = limits["oldest"]
        waits, limit_text = short_duration(alert.value), format_duration(alert.limit)
        return Health.SLOW, f"oldest ready job waits {waits} (alert at {limit_text})"
    if slow := by_health.get(Health.SLOW):
        more = f" and {len(slow) - 1} more" if len(slow) > 1 else ""
        return Health.SLOW, f"{slow[0].name}: {slow[0].note}{more}"
    if stale := by_health.get(Health.STALE):
        return Health.STALE, f"{stale[0].name} sent no pulse for {short_duration(stale[0].pulse_age or 0)}"
    if jobs is not None and jobs.stale:
        return Health.STALE, f"{jobs.stale} reserved jobs whose lease is over"
    for moving in (Health.STARTING, Health.DRAINING):
        if rows := by_health.get(moving):
            return moving, f"{len(rows)} {moving.value}"
    if down := by_health.get(Health.STOPPED):
        what = "none is known to supervisord" if absent else f"{len(down)} of {len(processes)} stopped"
        return Health.STOPPED, what
    if by_hand is not None:
        return Health.OK if by_hand else Health.STOPPED, f"scaled to {by_hand} by hand"
    return Health.OK, ""


def _about(rows: Sequence[ProcessRow]) -> str:
    first = rows[0]
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    word = "waits for the queue" if first.doing == "waiting" and first.state == "RUNNING" else first.state
    return f"{first.name} {word}{more}" + (f": {first.note}" if first.note else "")
