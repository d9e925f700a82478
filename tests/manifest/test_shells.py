"""Shells in commands: the judge of scripts against real shells, and signs that no shell will read."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fleet.manifest import machine
from fleet.manifest.shells import script_of, stays_around, syntax_in
from tests.manifest.conftest import Write, loaded
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("script", "sure"),
    [
        ("sleep 60; true", True),
        ("cd /; sleep 60 >/dev/null || exit 1", True),
        ("sleep 60 | cat", True),
        ("while :; do A=1 sleep 60; done", True),
        ("sleep 60 & wait", True),
        ("(sleep 60; echo ended)", True),
        ("nice sleep 60 && echo exec", True),
        ("cd / && exec sleep 60", False),
        ("trap 'kill $!; exit' TERM; sleep 60 & wait", False),
    ],
)
@pytest.mark.parametrize("name", ["sh", "bash"])
def test_what_is_sure_is_what_a_real_shell_does(name: str, script: str, sure: bool) -> None:
    """supervisord signals the process that it started, and no other."""
    shell = shutil.which(name)
    assert shell is not None
    assert script_of([name, "-e", "-c", script]) == script
    assert stays_around(script, forks=Path(shell).resolve().name == "dash") is sure
    with subprocess.Popen([shell, "-c", script], stdin=-1, stdout=-3, start_new_session=True) as child:
        try:
            eventually(lambda: "sleep" in names_of(child.pid))
            child.terminate()
            child.wait(30)
            # What the shell has killed in its turn may take a moment to be gone.
            eventually(lambda: ("sleep" in names_of(child.pid)) is sure)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def names_of(session: int) -> list[str]:
    """Programs that live in a session."""
    found = []
    for process in psutil.process_iter(["name", "status"]):
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.info["name"])
    return found


@pytest.mark.parametrize(
    "script",
    [
        "exit 3",
        "cd / && . ./x",
        "x 'a; true'",
        "x $(y; true)",
        "x # ; true",
        "x 'y; true",
        "mkdir -p /x; y",
        "",
    ],
)
def test_what_is_not_sure_is_not_told(script: str) -> None:
    """Builtins have no process, quotes hide signs, and a last program that bash becomes hears everything."""
    assert not stays_around(script, forks=False)


def test_a_shell_that_becomes_nothing_is_told_here(write: Write) -> None:
    """With the shell that this machine has; dash waits for the last program, too."""
    text = "[pipelines.x]\ncommand = \"bash -c 'sleep 9; true'\"\n"
    (problem,) = machine.problems(loaded(write(text)))
    assert (problem.code, problem.line, problem.is_warning) == ("W017", 2, True)
    assert "gets the signal to stop" in problem.message
    assert machine.problems(loaded(write(text + "stop = { group = true }\n"))) == ()
    assert machine.problems(loaded(write(text.replace("; true", "")))) == ()
    assert stays_around("sleep 9", forks=True)


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        ("sleep 1 ; rm x", ";"),
        ("sleep 1; rm x", "1;"),
        ("sleep 1 && true", "&&"),
        ("sleep 1 >> log 2>&1", ">>"),
        ("sleep 1 2>&1", "2>&1"),
        ("sleep 1 | cat", "|"),
        ("sh -c 'exec x; y' &", "&"),
        ("sh -c 'x; y > z'", ""),
        ("grep a\\;b ';' a|b 'x|' \"&\" http://x/?a=1&b=2 --a=b;", ""),
        ("find . -exec touch {} ;", ""),
        ("ssh host a && b", ""),
    ],
)
def test_a_sign_that_only_a_shell_understands_is_told(write: Write, command: str, sign: str) -> None:
    """supervisord starts the program itself, and hands it such a sign as an argument."""
    assert syntax_in(command) == sign
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    warnings = loaded(write(f'[pipelines.x]\ncommand = "{quoted}"\n')).warnings
    assert [warning.code for warning in warnings] == ["W018"] * bool(sign)
