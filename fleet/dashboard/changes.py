"""What became different between two snapshots, as events for the time line.  Pure."""

from __future__ import annotations

from fleet.dashboard.facts import Health, PipelineRow, Snapshot
from fleet.manager.events import Event

FAILING, SLOW, WELL, AWAY = "failing", "slow", "well", "away"
_DOWN = frozenset(["FATAL", "BACKOFF", "EXITED"])
_ALSO_FOR_SLOW = frozenset([Health.SLOW, Health.STALE])


def changes(before: Snapshot | None, after: Snapshot) -> list[Event]:
    """Processes that went down, pipelines that turned bad or well, sources that fell silent or came back."""
    if before is None:
        return []
    at = after.taken_at
    found = []
    sources = [("the queue", before.queue, after.queue)]
    hosts = {host.name: host for host in before.hosts}
    sources += [(f"supervisord on {h.name}", hosts[h.name], h) for h in after.hosts if h.name in hosts]
    for what, was, now in sources:
        if was.ok and not now.ok:
            found.append(Event(at=at, kind=AWAY, text=f"{what} does not answer: {now.complaint}"))
        elif now.ok and not was.ok:
            found.append(Event(at=at, kind=WELL, text=f"{what} answers again"))
    states = {(row.host, row.full_name): row.state for row in before.processes}
    for row in after.processes:
        if row.age > 0:
            continue
        was_in = states.get((row.host, row.full_name))
        if row.state in _DOWN and was_in not in (None, row.state):
            text = f"{row.name} {row.state}" + (f" · {row.note}" if row.note else "")
            found.append(Event(at=at, kind=FAILING, text=text, pipelines=(row.pipeline,)))
    if before.queue.ok and after.queue.ok:
        rows = {row.name: row for row in before.pipelines}
        found += [event for row in after.pipelines if (event := _of(rows.get(row.name), row, at))]
    return found


def _of(before: PipelineRow | None, after: PipelineRow, at: float) -> Event | None:
    if before is None or before.health is after.health:
        return None
    text = f"{after.name} {after.reason}" if after.reason else after.name
    if after.health is Health.FAILING:
        return Event(at=at, kind=FAILING, text=text, pipelines=(after.name,))
    if after.health in _ALSO_FOR_SLOW:
        return Event(at=at, kind=SLOW, text=text, pipelines=(after.name,))
    if after.health is Health.OK and before.health.is_trouble:
        return Event(at=at, kind=WELL, text=f"{after.name} is well again", pipelines=(after.name,))
    return None
