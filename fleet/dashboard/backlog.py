"""The rule of `fleet why` about a backlog: more work, slower code, and how many workers would do.  Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fleet.dashboard.evidence import Evidence, Finding, precise
from fleet.dashboard.flow import Flow, flow, workers_for
from fleet.dashboard.text import quoted
from fleet.units import format_duration, short_duration

SLOWER = 1.3  # times the earlier service time: then it is the code, or what it waits for
_BACK = 2 * 3600.0  # seconds: as long as minutes are kept
_LATELY = 600.0  # seconds that do not count as "before"
_WITHIN = 600.0  # seconds in which a backlog should be gone


def backlog(evidence: Evidence) -> Finding | None:
    """More comes in than goes out; or the code has become slower; and how many workers would do."""
    row, now = evidence.row, evidence.row.flow
    oldest, ready = row.oldest_ready or 0.0, row.jobs.ready if row.jobs else 0
    limit = evidence.oldest_alert
    is_late = limit is not None and oldest > limit
    grows = row.drains_in == float("inf") and ready > 0 and oldest > 5
    if row.paused > 0 or not row.running or not (is_late or grows):
        return None
    before = flow(
        evidence.minutes,
        evidence.snapshot.taken_at,
        window=_BACK,
        until=evidence.snapshot.taken_at - _LATELY,
    )
    running = row.running or 0
    capped = row.jobs is not None and ready == row.jobs.cap > 0
    facts = [("arrives", _arrives(now, before, capped)), ("does", _does(evidence, now, before, running))]
    is_slower = _is_slower(now, before)
    facts.append(("so", _so(now, before, is_slower, row.drains_in)))
    if source := common(evidence.waiting):
        key, value, share = source
        facts.append(("source", f"{share:.0%} of {len(evidence.waiting)} ready jobs carry {key} = {value}"))
    do = [f"fleet logs {quoted(evidence.name)}"] if is_slower else []
    if now.arrivals is not None and now.run_mean:
        slots = evidence.concurrency
        keep_up = -(-workers_for(now.arrivals, now.run_mean) // slots)
        empty = -(-workers_for(now.arrivals, now.run_mean, backlog=ready, within=_WITHIN) // slots)
        keeps = "1 process keeps up" if keep_up == 1 else f"{keep_up} processes keep up"
        empties = f"{empty} empt{'ies' if empty == 1 else 'y'} the backlog"
        facts.append(("help", f"{keeps}; {empties} in about 10 minutes"))
        if empty > running:
            do.append(_scale(evidence, empty))
        elif now.busy is not None and running and now.busy < 0.5 * running * slots:
            facts.append(("idle", f"{now.busy:.1f} of {running * slots} slots are busy on average"))
    headline = f"the oldest ready job waits {short_duration(oldest)}"
    if limit is not None:
        headline += f" (alert at {format_duration(limit)})"
    return Finding(
        rule="backlog",
        headline=f"{headline}, {ready:,}{'+' if capped else ''} are ready",
        facts=tuple(facts),
        do=tuple(do) or (f"fleet status {quoted(evidence.name)}",),
    )


def _arrives(now: Flow, before: Flow, capped: bool) -> str:
    if now.arrivals is None:
        return "– (too many jobs to count)" if capped else "– (the workers run for less than a minute)"
    then = f"; before that {before.out:.1f}/s were done" if before.out is not None else ""
    return f"{now.arrivals:.1f}/s   {short_duration(now.span)} average{then}"


def _does(evidence: Evidence, now: Flow, before: Flow, running: int) -> str:
    if now.out is None:
        return "– (no worker says what it does)"
    parts = [f"{now.out:.1f}/s  ", f"{running} process{'es' if running != 1 else ''}"]
    if now.busy is not None and running:
        parts.append(f"{min(1.0, now.busy / (running * evidence.concurrency)):.0%} busy")
    if now.run_mean is not None:
        earlier = f" ({precise(before.run_mean)} before)" if before.run_mean is not None else ""
        parts.append(f"{precise(now.run_mean)} a job{earlier}")
    return f"{parts[0]} {', '.join(parts[1:])}"


def _is_slower(now: Flow, before: Flow) -> bool:
    return bool(now.run_mean and before.run_mean and now.run_mean > SLOWER * before.run_mean)


def _so(now: Flow, before: Flow, is_slower: bool, drains_in: float | None) -> str:
    if is_slower and now.run_mean and before.run_mean:
        times = now.run_mean / before.run_mean
        return f"a job takes {times:.1f} times as long as before: look at what it waits for"
    work = (
        "not slower code: more work" if before.run_mean and now.run_mean else "more work than the workers do"
    )
    if drains_in is not None and drains_in != float("inf"):
        return f"it is catching up: nothing is left in about {short_duration(drains_in)}"
    if now.arrivals is not None and now.out is not None:
        return f"{work}. {max(0.0, now.arrivals - now.out):.1f}/s piles up"
    return "unknown: arrivals cannot be had"


def _scale(evidence: Evidence, processes: int) -> str:
    if evidence.can_scale:
        return f"fleet scale {quoted(evidence.name)}={processes}"
    return f"set numprocs = {processes} in [pipelines.{evidence.name}], then: fleet up"


def common(payloads: Sequence[Any]) -> tuple[str, str, float] | None:
    """
    A key and value that most payloads share and not all: ("batch", '"import-2291"', 0.81).

    What all of them share tells nothing; neither does what few have.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for payload in payloads:
        if isinstance(payload, dict):
            for key, value in payload.items():
                if isinstance(value, str | int | bool) and len(str(value)) <= 60:
                    counts[(str(key), json.dumps(value, ensure_ascii=False))] += 1
    total = len(payloads)
    fitting = [(count, pair) for pair, count in counts.items() if 0.5 <= count / max(total, 1) < 1]
    if total < 10 or not fitting:
        return None
    count, (key, value) = max(fitting)
    return key, value, count / total
