"""S14: no version with a known hole, here or from what pyproject.toml lets in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from fleet.manager import holes

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_this_environment_has_none_of_the_known_holes() -> None:
    """What CI tests is what is known to be sound."""
    assert list(holes.found()) == []


def test_each_hole_names_where_it_is_told() -> None:
    """Once each, by an advisory or the project's own notes, and in a library that fleet asks for."""
    assert len({hole.source for hole in holes.KNOWN}) == len(holes.KNOWN)
    for hole in holes.KNOWN:
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}|GHSA(-[a-z0-9]{4}){3}|\w+ [\d.]+, #\d+", hole.source), (
            hole.source
        )


@pytest.mark.parametrize("hole", holes.KNOWN, ids=lambda hole: f"{hole.library} {hole.source}")
def test_an_open_hole_cannot_be_installed_with_fleet(hole: holes.Hole) -> None:
    """The lower bound of each dependency lies above its holes."""
    wanted = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    (bound,) = [text for text in wanted if text.startswith(hole.library)]
    least = re.search(r">=([\d.]+)", bound)
    assert least is not None
    assert holes.numbers(least[1]) >= holes.numbers(hole.fixed)


def test_doctor_tells_of_an_old_library_and_what_mends_it(tmp_path: Path) -> None:
    """Where an older one stands before ours in the path; exit 3."""
    old = tmp_path / "old" / "jinja2-3.1.5.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.5\n")
    (tmp_path / "fleet.toml").write_text('[pipelines.a]\ncommand = "/bin/cat"\n')
    done = subprocess.run(
        [Path(sys.executable).with_name("fleet"), "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(old.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "✖ libraries    jinja2 3.1.5: a template can leave the sandbox (CVE-2025-27516)" in done.stdout
    assert 'pip install "jinja2>=3.1.6"' in done.stdout


@pytest.mark.parametrize(
    ("version", "is_open"),
    [
        ("3.1.5", True),
        ("3.0.99", True),
        ("3.1", True),
        ("3.1.6", False),
        ("3.1.6.post1", False),
        ("4.0", False),
    ],
)
def test_an_older_version_is_found(version: str, is_open: bool) -> None:
    """By its numbers, not by its text."""

    def installed(library: str) -> str:
        if library != "jinja2":
            raise PackageNotFoundError(library)
        return version

    assert [hole.library for hole, _ in holes.found(installed)] == ["jinja2"] * is_open
    assert holes.numbers("10.2rc1") > holes.numbers("9.9.9")


@pytest.mark.parametrize(
    ("version", "count"), [("1.1.0", 4), ("1.2.0", 2), ("1.2.3", 1), ("1.2.4", 0), ("1.10", 0)]
)
def test_each_hole_of_a_version_is_told(version: str, count: int) -> None:
    """Whoever is on 1.2.0 has closed two of PyMySQL's, and not the other two."""

    def installed(library: str) -> str:
        if library != "pymysql":
            raise PackageNotFoundError(library)
        return version

    assert len(list(holes.found(installed))) == count
