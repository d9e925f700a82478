"""The command line as a whole: options anywhere, hints, one style of error, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fleet.cli import app, options, output
from tests.cli.command import fleet


@pytest.mark.parametrize("line", [["--json", "version"], ["version", "--json"]])
def test_global_options_work_before_and_after_the_command(line):
    """`fleet --json status` and `fleet status --json` are the same."""
    settings, rest = options.hoist(line, {})
    assert settings.json
    assert rest == ["version"]


def test_every_spelling_of_an_option_with_a_value_is_understood():
    """-m FILE, -mFILE, --manifest FILE and --manifest=FILE."""
    for words in (["-m", "a.toml"], ["-ma.toml"], ["--manifest", "a.toml"], ["--manifest=a.toml"]):
        assert options.hoist([*words, "status"], {})[0].manifest == "a.toml"


def test_slips_are_told_in_words_for_people():
    """No type of Python's, and where the thing that was meant is found."""
    assert "'abc' is not a whole number.\n" in fleet("jobs", "show", "abc").stderr
    assert "'high' is not a whole number.\n" in fleet("jobs", "put", "x", "1", "--priority", "high").stderr
    assert "No such option: --dry-run. That is: fleet plan" in fleet("apply", "--dry-run").stderr
    assert "fleet plan" not in fleet("scale", "--dry-run").stderr


def test_words_after_a_double_dash_belong_to_the_command():
    """`--` ends fleet's own options, as everywhere."""
    settings, rest = options.hoist(["jobs", "put", "x", "--", "--json"], {})
    assert not settings.json
    assert rest == ["jobs", "put", "x", "--", "--json"]


@pytest.mark.parametrize("line", [["-m"], ["--color", "blue"], ["--env="]])
def test_a_global_option_without_a_proper_value_is_wrong_usage(line):
    """Wrong usage is told at once, not guessed around."""
    with pytest.raises(typer.BadParameter):
        options.hoist(line, {})


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_follows_the_environment_and_the_stream(environ, is_terminal, expected):
    """NO_COLOR wins over FORCE_COLOR; without either, only a real terminal gets colour."""
    assert output.wants_colour("auto", environ, is_terminal) is expected
    assert output.wants_colour("always", environ, is_terminal) is True
    assert output.wants_colour("never", environ, is_terminal) is False


def test_fleet_alone_prints_a_short_help_that_fits_a_small_terminal():
    """No argument is a question, not an error."""
    result = fleet()
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80


def test_the_long_help_names_every_command_and_every_global_option():
    """What exists can be found from `fleet -h`."""
    text = fleet("-h").stdout
    assert fleet("--help").stdout == text
    for command in app.COMMANDS:
        assert f"  {command.name} " in text
    for option in (*options.FLAGS, *options.VALUES):
        assert option in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", app.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_an_example(command, capsys):
    """`-h` and `--help` both work, show what the command is for, and fit 80 columns."""
    assert app.run([*command.name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert app.run([*command.name.split(), "-h"]) == 0
    assert capsys.readouterr().out == text
    assert re.search(rf"^ +fleet {command.name}", text, re.MULTILINE), "an example line"
    assert not re.search(r" <\w+( range)?>  ", text), "a word for people, and no type of typer's"
    assert max(map(len, text.splitlines())) <= 80
    assert len(command.summary) <= 60
    assert command.panel in app.PANELS


def test_help_of_a_group_lists_its_commands():
    """`fleet jobs` and `fleet jobs -h` say the same."""
    assert fleet("jobs").stdout == fleet("jobs", "-h").stdout
    assert "kick" in fleet("jobs").stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["retry"], "fleet jobs kick"),
        (["ps"], "fleet status --procs"),
        (["stats"], "fleet status"),
        (["jobs", "kik"], "fleet jobs kick"),
        (["jobs", "imprt"], "fleet jobs put PIPELINE -"),
        (["jobs", "promote"], "fleet jobs release"),
        (["bury"], "fleet jobs bury"),
    ],
)
def test_a_near_miss_gets_a_hint_and_exit_2(words, hint):
    """People who guess are told the name they were looking for."""
    result = fleet(*words)
    assert result.returncode == 2
    assert hint in result.stderr
    assert result.stdout == ""


def test_a_misspelt_global_option_is_corrected():
    """Global options are hoisted before typer sees them, and still get suggestions."""
    result = fleet("version", "--jsno")
    assert result.returncode == 2
    assert "--json" in result.stderr


def test_an_argument_with_control_characters_is_shown_escaped():
    """No byte of a wrong argument reaches the terminal raw (reliability C11)."""
    result = fleet("sta\x1b[2Jtus")
    assert result.returncode == 2
    assert "\x1b" not in result.stderr
    assert r"\x1b[2J" in result.stderr


def test_a_reader_that_leaves_early_causes_no_noise():
    """`fleet -h | head -1` ends quietly."""
    script = f"{sys.executable} -c 'import sys; from fleet.cli import main; sys.exit(main())' -h | :"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr == ""


def test_an_unexpected_error_is_one_line_and_a_saved_traceback(tmp_path, monkeypatch):
    """A bug ends with exit 1, one line, and a file that only its owner can read."""
    broken = "import sys; import fleet.cli.version as v; v.version = lambda: 1 / 0; "
    broken += "from fleet.cli import main; sys.exit(main(sys.argv[1:]))"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", broken, "version"], capture_output=True, text=True, env=env, check=False
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    (saved,) = Path(tmp_path).glob("fleet-error-*.txt")
    assert "ZeroDivisionError" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0
    loud = subprocess.run(
        [sys.executable, "-c", broken, "version", "-v"], capture_output=True, text=True, env=env, check=False
    )
    assert "Traceback" in loud.stderr
