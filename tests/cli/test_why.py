"""fleet why and the pages of fleet status, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.queue import connect
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import Pulse
from tests.cli.command import fleet

MANIFEST = """\
version = 1
project = "shop"
[queue]
dsn = "sqlite:///queue.db"
[pipelines.emails]
command = "sleep 1000"
redact = ["password"]
alerts = { buried = 1 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    with connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        queue.put("emails", {"to": "<script>alert(1)</script>", "password": "hunter2"})
        queue.reserve("emails").bury("KeyError: 'TZ' at a.py:14")
        pulse = Pulse(host="web1", process="x", pid=1, pipeline="emails", state="idle")
        cause = "KeyError: '<b>TZ</b>'"
        queue.publish(
            pulse,
            (),
            [ErrorGroup(pipeline="emails", kind="buried", cause=cause, place="a.py:14 build", job=1)],
        )
    return tmp_path


def test_why_tells_the_cause_and_the_command(folder):
    """Also while supervisord is away; secrets of the payload are masked."""
    ran = fleet("why", "emails", folder=folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("emails is failing: ")
    assert "1 ×      KeyError: '<b>TZ</b>'   a.py:14 build" in ran.stdout
    assert '"password": "***"' in ran.stdout
    assert "hunter2" not in ran.stdout
    assert """fleet jobs kick emails --error "KeyError: '<b>TZ</b>'\"""" in ran.stdout


def test_why_alone_is_about_all_that_are_not_well(folder):
    """At night nobody wants to type names first."""
    manifest = (folder / "fleet.toml").read_text()
    (folder / "fleet.toml").write_text(manifest + '[pipelines.thumbs]\ncommand = "sleep 1000"\n')
    said = fleet("why", folder=folder).stdout
    assert said.startswith("emails is failing: ")
    assert "\n\nthumbs is unknown: supervisord does not answer" in said
    assert len(fleet("why", "--json", folder=folder).stdout.splitlines()) == 2
    assert fleet("why", "nope", folder=folder).returncode == 2


def test_why_as_json(folder):
    """Rule, numbers and commands."""
    document = json.loads(fleet("why", "emails", "--json", folder=folder).stdout)
    assert document["schema"] == "fleet.why/1"
    assert [finding["rule"] for finding in document["findings"]] == ["supervisord-away", "buried"]
    assert all(finding["do"] for finding in document["findings"])


def test_a_wrong_name_or_time_is_wrong_usage(folder):
    """With the nearest match."""
    ran = fleet("why", "email", folder=folder)
    assert ran.returncode == 2
    assert 'Did you mean "emails"?' in ran.stderr
    assert fleet("why", "emails", "--since", "soon", folder=folder).returncode == 2


def test_a_page_for_an_incident_note(folder):
    """One file, nothing loaded from elsewhere, foreign text escaped."""
    ran = fleet("status", "--html", "page.html", folder=folder)
    assert ran.returncode == 0
    page = (folder / "page.html").read_text()
    assert "emails failing" in page
    assert "&lt;b&gt;TZ&lt;/b&gt;" in page
    assert "<b>TZ" not in page
    assert "src=" not in page and "href=" not in page and "<script" not in page
    assert fleet("status", "--html", "-", folder=folder).stdout.startswith("<!doctype html>")
    assert fleet("status", "--html", "nowhere/x.html", folder=folder).returncode == 2
