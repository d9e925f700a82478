"""The README keeps up with the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleet.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_in_the_table_of_the_readme(name):
    """A command that the README does not name does not exist for a newcomer."""
    table = [
        line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("| `fleet ")
    ]
    assert any(f"`fleet {name}`" in line or f"`fleet {name} " in line for line in table)


def test_the_readme_names_no_command_that_is_not_there():
    """A table that promises more than the program does is worse than none."""
    table = re.findall(r"^\| (`fleet .*?) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    promised = {name for cell in table for name in re.findall(r"`fleet ([a-z -]+)`", cell)}
    names = {command.name for command in COMMANDS}
    assert {name for name in promised if name not in names and name.rpartition(" ")[0] not in names} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    """A link to a file of the repository names one that is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
