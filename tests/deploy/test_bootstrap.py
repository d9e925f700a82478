"""deploy/bootstrap.sh decides rightly before it does anything slow."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = (
    "cat",
    "cksum",
    "date",
    "dirname",
    "env",
    "id",
    "rm",
    "tail",
)  # all that it may need from a bare system


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a blank in its path, as far as the script looks at it."""
    made = tmp_path / "my fleet"
    (made / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/bootstrap.sh", made / "deploy")
    (made / "pyproject.toml").write_text("[project]\n")
    return made


def bootstrap(
    checkout: Path, *arguments: str, cwd: Path = Path("/"), **environ: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/sh", checkout / "deploy/bootstrap.sh", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def installed(checkout: Path, kind: str) -> None:
    """What an earlier run left: an environment whose fleet tells how it was called, and the stamp."""
    script(checkout / ".venv/bin/python", "exit 0")
    script(checkout / ".venv/bin/fleet", 'echo "fleet $*"; pwd')
    checksum = subprocess.run(
        ["cksum"], input=(checkout / "pyproject.toml").read_text(), capture_output=True, text=True, check=True
    )
    (checkout / f".venv/.stamp-{kind}").write_text(f"{checkout} {checksum.stdout}")


def test_help_names_both_commands(checkout):
    """Without arguments it does nothing but explain itself."""
    for arguments in ((), ("help",), ("--help",)):
        answer = bootstrap(checkout, *arguments)
        assert answer.returncode == 0
        assert "bootstrap.sh demo" in answer.stdout
        assert "bootstrap.sh test" in answer.stdout


def test_an_unknown_command_is_wrong_usage(checkout):
    """Exit code 2, and the help on stderr."""
    answer = bootstrap(checkout, "demonstrate")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "usage:" in answer.stderr


@pytest.mark.parametrize("kind", ["demo", "test"])
def test_what_is_installed_is_used_at_once_from_any_folder(checkout, tmp_path, kind):
    """The stamp of either kind is enough for the demo, whose arguments and folder stay the caller's."""
    installed(checkout, kind)
    answer = bootstrap(checkout, "demo", "--dir", "a b", cwd=tmp_path, PYTHON="/nonexistent")
    assert answer.stdout == f"fleet demo --dir a b\n{tmp_path}\n"
    assert answer.stderr == ""


def test_a_changed_pyproject_is_installed_again(checkout):
    """The stamp holds a checksum of pyproject.toml: an old environment is not trusted."""
    installed(checkout, "test")
    (checkout / "pyproject.toml").write_text("[project]\nname = 'newer'\n")
    answer = bootstrap(checkout, "demo", PYTHON="/nonexistent")
    assert answer.returncode == 4


def test_a_python_that_is_too_old_is_refused_by_name(checkout):
    """$PYTHON is a wish that is granted or refused, never replaced by another."""
    old = script(checkout / "old/python", "exit 1")
    answer = bootstrap(checkout, "demo", PYTHON=str(old))
    assert answer.returncode == 4
    assert f"PYTHON={old} is not Python 3.11 or newer" in answer.stderr


def test_without_venv_and_without_apt_it_says_what_to_type(checkout, tmp_path):
    """Debian packs venv apart; where it cannot be installed, the command is printed."""
    python = script(
        tmp_path / "bin/python",
        'case "$*" in *ensurepip*) exit 1 ;; *platform*) echo 3.11.2 ;; esac',
    )
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    answer = bootstrap(checkout, "demo", PATH=str(tmp_path / "bin"), PYTHON=str(python))
    assert answer.returncode == 4
    assert "apt-get install --no-install-recommends python3.11-venv" in answer.stderr
    assert not (checkout / ".venv").exists()


def test_a_failed_installation_leaves_no_stamp(checkout, tmp_path):
    """The stamp is written last, so that the next run begins again."""
    installed(checkout, "demo")
    script(checkout / ".venv/bin/pip", "echo no route to the index; exit 1")
    (checkout / "pyproject.toml").write_text("[project]\nname = 'newer'\n")
    python = script(tmp_path / "bin/python", 'case "$*" in *platform*) echo 3.12.1 ;; esac')
    answer = bootstrap(checkout, "demo", PYTHON=str(python))
    assert answer.returncode == 1
    assert "no route to the index" in answer.stderr
    assert not list((checkout / ".venv").glob(".stamp-*"))
