"""supervisord's own parser, asked before the daemon is: both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.errors import SupervisorError
from fleet.supervisor.parser import IncludeSet, read
from tests.supervisord import VERSIONS, python_with

MAIN = "[supervisord]\nlogfile={dir}/log\npidfile={dir}/pid\n[include]\nfiles=conf.d/*.conf\n"
GOOD = """\
[program:a]
command=/bin/echo "%(program_name)s" %(process_num)d %(here)s
process_name=%(program_name)s_%(process_num)02d
numprocs=2
environment=X="1, 2",Y="%%"
stdout_logfile=NONE
"""


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    return python_with(request.param)


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text(GOOD)
    path = tmp_path / "supervisord.conf"
    path.write_text(MAIN.format(dir=tmp_path))
    return path


def test_a_set_is_read_with_every_expansion_done(main: Path, python: str) -> None:
    """Values arrive as the processes will get them."""
    found = read(main, python=python)
    assert found.problems() == ()
    first, second = found.groups["a"]
    assert (first.name, second.name) == ("a_00", "a_01")
    assert second.command == f'/bin/echo "a" 1 {main.parent}/conf.d'
    assert first.environment == {"X": "1, 2", "Y": "%"}
    assert first.stdout_logfile is None
    assert first.autorestart == "unexpected"
    assert [file.path.name for file in found.files] == ["supervisord.conf", "a.conf"]


def test_an_overlay_shows_what_would_be(main: Path, python: str) -> None:
    """New, changed and removed files, without writing one; names that the include misses stay unread."""
    conf_d = main.parent / "conf.d"
    overlay = {
        conf_d / "a.conf": None,
        conf_d / "b.conf": "[program:b]\ncommand=/bin/true\n",
        conf_d / ".c.conf": "not read",
        conf_d / "c.tmp": "not read",
        main.parent / "elsewhere.conf": "not read",
    }
    assert list(read(main, overlay, python=python).groups) == ["b"]
    assert list(read(main, {main: "[supervisord]\n"}, python=python).groups) == []
    assert sorted(path.name for path in conf_d.iterdir()) == ["a.conf"]


BROKEN = {
    "[program:b]\n": "does not specify a command",
    "[program:b]\ncommand=x\nuser=no-such-user\n": "no-such-user",
    "[program:b]\ncommand=x\nnumprocs=2\n": "process_num",
    "[program:b]\ncommand=x %\n": "badly formatted",
    "[program:b]\ncommand=x %(ENV_NOT_THERE)s\n": "ENV_NOT_THERE",
    "[program:b]\ncommand=x\nstdout_logfile=/no/such/folder/x\n": "/no/such/folder",
    "[program:b c]\ncommand=x\n": "Invalid name",
    "[group:g]\nprograms=zzz\n": "zzz",
    "before any section\n": "no section headers",
    "[program:a]\ncommand=x\n": "would merge the two",
    "[DEFAULT]\nuser=root\n": "would change every program",
    "[supervisord]\nlogfile=x\n": "would merge the two",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_named(text: str, main: Path) -> None:
    """The file, and what is wrong with it."""
    found = read(main, {main.parent / "conf.d" / "b.conf": text})
    assert any("b.conf" in problem and BROKEN[text] in problem for problem in found.problems()), (
        found.problems()
    )


def test_a_file_that_supervisord_would_skip_in_silence_is_named(main: Path) -> None:
    """It would take the groups in it for removed."""
    (main.parent / "conf.d" / "b.conf").symlink_to("nowhere")
    assert "b.conf: cannot be read" in str(read(main).problems())


def test_the_environment_is_the_daemons(main: Path) -> None:
    """%(ENV_X)s comes from it, not from the caller."""
    overlay = {main.parent / "conf.d" / "b.conf": "[program:b]\ncommand=x %(ENV_COLOUR)s\n"}
    assert read(main, overlay, environ={"COLOUR": "red"}).groups["b"][0].command == "x red"
    os.environ["COLOUR"] = "blue"
    try:
        assert read(main, overlay).error
    finally:
        del os.environ["COLOUR"]


def test_code_that_a_file_names_is_not_imported(main: Path) -> None:
    """A plug-in may be installed for the daemon only, and must not run here."""
    text = "[rpcinterface:x]\nsupervisor.rpcinterface_factory=no.such:thing\n"
    assert read(main, {main: main.read_text() + text}).error is None


def test_a_parser_that_hangs_is_given_up(main: Path) -> None:
    """A fifo in conf.d would block for ever."""
    os.mkfifo(main.parent / "conf.d" / "b.conf")
    with pytest.raises(SupervisorError, match="did not finish"):
        read(main, timeout=1)


def test_an_interpreter_without_supervisor_is_told() -> None:
    """The error is the child's own last line."""
    with pytest.raises(SupervisorError, match="could not be run"):
        read(Path("/nowhere"), python="/bin/false")
    assert isinstance(read(Path("/nowhere")), IncludeSet)
    assert "could not find config file /nowhere" in str(read(Path("/nowhere")).error)
