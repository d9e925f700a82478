"""
Why a pipeline is as it is: rules and arithmetic over what is known, no guessing.  Pure.

The first rule that finds something names the trouble; the others are told too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet.dashboard.backlog import backlog
from fleet.dashboard.evidence import Evidence, Finding
from fleet.dashboard.facts import Health
from fleet.dashboard.rules import (
    buried,
    clocks,
    failing,
    leases,
    not_running,
    paused,
    queue_away,
    slow_job,
    well,
    workers_wait,
)

RULES: tuple[Callable[[Evidence], Finding | None], ...] = (
    queue_away,
    not_running,
    paused,
    workers_wait,
    buried,
    failing,
    backlog,
    slow_job,
    leases,
    clocks,
)


def why(evidence: Evidence) -> tuple[Finding, ...]:
    """What the rules found, in their order; never empty."""
    found = [finding for rule in RULES if (finding := rule(evidence)) is not None]
    return tuple(found) or (well(evidence),)


def lines(evidence: Evidence, findings: Sequence[Finding]) -> list[str]:
    """The answer as text: a headline, the numbers, and what to do."""
    out = []
    for number, finding in enumerate(findings):
        if number == 0:
            state = evidence.row.health
            but = ", but" if state is Health.OK and finding.rule != "well" else ":"
            out.append(f"{evidence.name} is {state.value}{but} {finding.headline}")
        else:
            out += ["", f"also: {finding.headline}"]
        out += [f"  {label:9}{text}" for label, text in finding.facts]
        out += [f"{'do' if index == 0 else '':5}{command}" for index, command in enumerate(finding.do)]
    return out
