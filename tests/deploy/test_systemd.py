"""The units of deploy/systemd: systemd takes them, and they drain everything at once."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.cli.app import COMMANDS

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


def commands(text: str, key: str) -> list[list[str]]:
    lines = [line.partition("=")[2].strip("-") for line in text.splitlines() if line.startswith(f"{key}=")]
    return [line.split() for line in lines if line]


def test_the_unit_of_a_project_starts_and_stops_with_fleet() -> None:
    """`fleet down` takes the longest drain; supervisord's own end takes the sum of them."""
    text = (UNITS / "fleet@.service").read_text()
    known = {command.name for command in COMMANDS}
    said = {key: commands(text, key)[0] for key in ("ExecStart", "ExecReload", "ExecStop")}
    assert {words[0] for words in said.values()} == {"/opt/fleet/bin/fleet"}
    assert [words[1] for words in said.values()] == ["up", "apply", "down"]
    assert {words[1] for words in said.values()} <= known


def test_the_drop_in_stops_fleets_groups_before_supervisord() -> None:
    """An empty ExecStop first, or both would come after the package's own."""
    text = (UNITS / "supervisor-drop-in.conf").read_text()
    lines = [line for line in text.splitlines() if line.startswith("ExecStop=")]
    assert lines[0] == "ExecStop="
    fleet, supervisorctl = commands(text, "ExecStop")
    assert fleet[3:] == ["stop", "all", "--yes"]
    assert supervisorctl[-1] == "shutdown"
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    assert parser["Service"]["TimeoutStopSec"] == "10min"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Its own check, with programs and users that this machine has."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "fleet@shop.service"
    text = (UNITS / "fleet@.service").read_text().replace("/opt/fleet/bin/fleet", sys.executable)
    unit.write_text(text.replace("User=%i", f"User={os.geteuid()}"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if "fleet@" in line] == []
