"""What only reads changes nothing: no file, process, job or configuration, and leaves no file behind."""

from __future__ import annotations

import pytest

from tests.badinput.world import World, fleet_says

LINES = [
    "check",
    "check --json",
    "check --explain pipelines.emails.numprocs",
    "plan --diff",
    "plan --json",
    "render",
    "render --check",
    "status --once --procs",
    "status --once --json",
    "status --check",
    "status --html -",
    "why emails",
    "logs",
    "events",
    "doctor",
    "doctor --json",
    "jobs list emails",
    "jobs list thumbs --state buried --json",
    "jobs show 1",
    "jobs export emails",
    "queue info",
    "queue migrate --sql",
    "rollback --list",
    "schema manifest",
    "version",
]


@pytest.mark.parametrize("line", LINES)
def test_what_only_reads_changes_nothing(
    line: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing may be changed at all; only doctor finds fault with a machine, by 3."""
    monkeypatch.setenv("FLEET_READ_ONLY", "1")
    said = fleet_says(capsys, *line.split())
    assert said.code == 0 or (said.code == 3 and "doctor" in line), said.err
    assert "Traceback" not in said.err
