"""What only reads changes nothing: no file, process, job or configuration, and leaves no file behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_t7_what_becomes_of_a_log_that_is_followed_is_said(tmp_path: Path) -> None:
    """T7: cut, removed, made anew: it goes on, and a line on stderr tells why lines are missing."""
    (tmp_path / "fleet.toml").write_text(
        '[pipelines.a]\ncommand = "/bin/cat"\nroom = 0\nlogs = { dir = "." }\n'
    )
    log = tmp_path / "a_00.log"
    log.write_text("one\n")
    fleet = [sys.executable, "-m", "fleet", "logs", "-f"]
    with subprocess.Popen(fleet, cwd=tmp_path, stdout=-1, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "one\n"
            log.write_text("2\n")
            assert [child.stdout.readline() for _ in "12"] == ["2\n", "a_00: the log was cut\n"]
            log.unlink()
            assert child.stdout.readline() == "a_00: the log is gone; waiting for a new one\n"
            log.write_text("three\n")
            said = [child.stdout.readline() for _ in "12"]
            assert said == ["three\n", "a_00: the log is a new file now\n"]
        finally:
            child.kill()
