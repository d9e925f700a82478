"""What the commands that people run all day must not import: nearly all their time would go into that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pydantic", "rich", "jinja2", "supervisor", "psycopg", "pymysql", "greenstalk", "psutil", "tomlkit"}
SLOW = HEAVY | {"cronsim", "email.mime", "importlib.metadata", "tempfile", "hashlib", "asyncio"}


def imported(folder: Path, *words: str) -> set[str]:
    """The modules in memory when `fleet` *words* ends."""
    code = (
        "import sys; from fleet.cli import main; code = main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode in (0, 3), done.stderr  # 3: what --check found
    return set(done.stderr.splitlines()[-1].split())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    text = '[pipelines.emails]\ncommand = "sleep 9"\nstop = { grace = "2m" }\nenvironment = { A = "b" }\n'
    (tmp_path / "fleet.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_imports_no_library(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Not even typer."""
    found = imported(tmp_path, *words)
    assert sorted(found & (SLOW | {"typer", "fleet.manifest", "fleet.queue", "fleet.supervisor"})) == []


@pytest.mark.parametrize("words", [("--once",), ("--json",), ("--check",), ("--once", "--procs")])
def test_status_imports_what_it_shows(shop: Path, words: tuple[str, ...]) -> None:
    """Pydantic is for manifests with a mistake, psutil for those who start and end processes."""
    found = imported(shop, "status", *words)
    assert "fleet.dashboard.snapshot" in found
    assert sorted(found & SLOW) == []
