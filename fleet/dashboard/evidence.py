"""What the rules of `why` look at, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from fleet.dashboard.facts import Cause, PipelineRow, ProcessRow, Snapshot
from fleet.manager.events import Event
from fleet.queue.minutes import Minute
from fleet.units import short_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the rules look at, about one pipeline."""

    snapshot: Snapshot
    row: PipelineRow
    processes: tuple[ProcessRow, ...] = ()
    minutes: tuple[Minute, ...] = ()  # as far back as they are kept
    causes: tuple[Cause, ...] = ()  # since `since`, the latest first
    events: tuple[Event, ...] = ()  # oldest first
    since: float = 3600.0  # seconds
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)  # process: its last lines
    newest: Mapping[int, str] = field(default_factory=dict)  # job id: payload and attempt, in words
    waiting: tuple[Any, ...] = ()  # payloads of some ready jobs, secrets masked
    oldest_alert: float | None = None
    timeout: float = 0.0
    concurrency: int = 1
    can_scale: bool = False
    private: bool = True  # the supervisord is fleet's own
    reasons: bool = True  # the queue can choose jobs by the reason of their burial
    timezone: tzinfo | None = None

    @property
    def name(self) -> str:
        return self.row.name

    def clock(self, at: float) -> str:
        return datetime.fromtimestamp(at, UTC).astimezone(self.timezone).strftime("%H:%M:%S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule found."""

    rule: str
    headline: str  # follows "reports is failing: "
    facts: tuple[tuple[str, str], ...] = ()  # label and text; a label of "" goes on with the one before
    do: tuple[str, ...] = ()


def last_event(evidence: Evidence, kinds: set[str] | None, before: float | None = None) -> Event | None:
    """The latest event of these kinds, or the latest deploy, that concerns the pipeline."""
    for event in reversed(evidence.events):
        fits = event.is_deploy if kinds is None else event.kind in kinds
        if fits and event.concerns(evidence.name) and (before is None or event.at <= before):
            return event
    return None


def deploy_text(evidence: Evidence, event: Event) -> str:
    words = ["the", event.kind, event.revision, f"at {evidence.clock(event.at)}"]
    return " ".join(filter(None, words)) + (f" ({event.by})" if event.by else "")


def precise(seconds: float) -> str:
    """Two digits for what is quick: "0.38 s", "4 ms"."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.95 else short_duration(seconds)
