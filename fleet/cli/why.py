"""fleet why: what is the matter with a pipeline, and what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleet.dashboard.evidence import Evidence, Finding
    from fleet.dashboard.facts import Snapshot
    from fleet.manifest import Manifest
    from fleet.queue.queue import Queue


def why(
    pipelines: Annotated[
        list[str] | None,
        typer.Argument(metavar="PIPELINE…", help="without any: all that are not well", show_default=False),
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="errors of that long")] = "1h",
) -> None:
    """
    Why a pipeline is slow, failing or idle, with the numbers that say so.

    Rules and arithmetic, no guessing; the last lines are the commands that help.

      fleet why
      fleet why reports --since 6h
      fleet why thumbs --json | jq .findings[0].do
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.cli.names import duration, unknown
    from fleet.cli.status import Eyes
    from fleet.dashboard.facts import Health
    from fleet.dashboard.why import lines

    seconds = duration("--since", since)
    manifest = load_manifest()
    for name in pipelines or ():
        if name not in manifest.pipelines:
            raise unknown("pipeline", name, manifest.pipelines)
    eyes = Eyes(manifest)
    snapshot = eyes.look(None)
    chosen = pipelines or [row.name for row in snapshot.pipelines if row.health is not Health.OK]
    for number, name in enumerate(chosen):
        evidence, findings = examine(manifest, eyes.queue, snapshot, name, seconds)
        if settings().json:
            output.document(_document(evidence, findings))
            continue
        if number:
            output.say("")
        _say(lines(evidence, findings))
    if not chosen and not settings().json:
        output.say(f"all is well: {', '.join(manifest.pipelines)}")


def _say(text: list[str]) -> None:
    from fleet.cli import output
    from fleet.dashboard.text import show

    begins = True
    for line in map(show, text):
        is_bold = line and (begins or line.startswith("do "))
        output.say(output.paint(line, "bold") if is_bold else line)
        begins = not line


def examine(
    manifest: Manifest, queue: Queue | None, snapshot: Snapshot, name: str, since: float
) -> tuple[Evidence, tuple[Finding, ...]]:
    """The evidence about a pipeline, and what the rules make of it."""
    from fleet.cli.app import COMMANDS
    from fleet.dashboard.gather import gather
    from fleet.dashboard.why import why as rules

    can_scale = any(command.name == "scale" for command in COMMANDS)
    evidence = gather(manifest, queue, snapshot, name, since=since, can_scale=can_scale)
    return evidence, rules(evidence)


def _document(evidence: Evidence, findings: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "schema": "fleet.why/1",
        "pipeline": evidence.name,
        "state": evidence.row.health.value,
        "findings": [
            {
                "rule": finding.rule,
                "headline": finding.headline,
                "facts": [{"label": label or None, "text": text} for label, text in finding.facts],
                "do": list(finding.do),
            }
            for finding in findings
        ],
    }
