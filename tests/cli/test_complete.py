"""Completion: what comes next on a command line, and a real bash that asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from fleet.cli import complete
from fleet.cli.app import COMMANDS, run
from fleet.cli.completion import SCRIPTS
from fleet.cli.jobs import State
from fleet.cli.tree import load

NAMES = {
    "pipelines": {"emails": "pipeline", "thumbs": "pipeline"},
    "targets": {"emails": "pipeline", "emails_00": "process", "all": "every pipeline"},
    "numbers": {"emails=": "", "thumbs=": ""},
}


def after(line: str) -> list[str]:
    return list(complete.candidates(line.split(" "), {}, NAMES.__getitem__))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pipelines = '[pipelines.emails]\ncommand = "sleep 9"\n[pipelines.thumbs]\ncommand = "sleep 9"\n'
    (tmp_path / "fleet.toml").write_text(f'project = "shop"\n{pipelines}')
    conf_dir = tmp_path / ".fleet/conf.d"
    conf_dir.mkdir(parents=True)
    record = {
        "groups": {"shop-emails": {"wanted": ["shop-emails_00", "shop-emails_01"]}, "shop-thumbs": None}
    }
    (conf_dir / ".fleet.shop.applied.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_come_first_and_groups_have_their_own() -> None:
    """All of them, and those that begin as typed."""
    first = {command.name.split()[0] for command in COMMANDS}
    assert set(after("")) == first
    assert after("st") == ["status", "start", "stop"]
    assert after("jobs k") == ["kick"]
    assert after("--json jobs k") == ["kick"]
    assert after("nonsense ") == []


def test_arguments_are_names_that_were_not_given_yet() -> None:
    """Of the kind that the command takes."""
    assert after("status ") == ["emails", "thumbs"]
    assert after("status emails ") == ["thumbs"]
    assert after("stop emails_") == ["emails_00"]
    assert after("-m x.toml jobs list th") == ["thumbs"]
    assert after("scale e") == ["emails="]
    assert after("completion ") == ["bash", "zsh", "fish"]
    assert after("completion bash ") == []
    assert after("version ") == []


def test_options_are_those_of_the_command_and_the_global_ones() -> None:
    """A value that is waited for is no option and no name."""
    assert after("status --o") == ["--once"]
    assert "--json" in after("status --")
    assert "--once" not in after("--")
    assert after("--color ") == ["auto", "always", "never"]
    assert after("jobs list --state b") == ["buried"]
    assert after("status --watch ") == []
    assert complete.WORDS["--state"].split() == list(State)


def test_every_argument_that_is_a_name_is_completed() -> None:
    """The table says what the help of each command says."""
    for command in COMMANDS:
        arguments = [p for p in load(command).params if p.param_type_name == "argument"]
        metavar = str(arguments[0].metavar or "").rstrip("…") if arguments else ""
        kind = {"PIPELINE": "pipelines", "TARGET": "targets", "PIPELINE=N": "numbers"}.get(metavar, "")
        if "|" in metavar and metavar.islower():
            kind = metavar.replace("|", " ")
        assert complete.ARGUMENTS.get(command.name, "") == kind, command.name


def test_names_come_from_the_manifest_and_the_last_apply(shop: Path) -> None:
    """Without a server, and without a word about a file that cannot be read."""
    targets = list(complete.names("targets", {}))
    assert targets == ["emails", "thumbs", "all", "emails_00", "emails_01"]
    (shop / ".fleet/conf.d/.fleet.shop.applied.json").write_text("[]")
    assert list(complete.names("targets", {})) == ["emails", "thumbs", "all"]
    (shop / "fleet.toml").write_text("[")
    assert complete.names("pipelines", {}) == {}
    assert complete.names("pipelines", {"--manifest": "elsewhere.toml"}) == {}


@pytest.mark.parametrize(
    ("shell", "line"), [("bash", "kick"), ("zsh", "kick:Make buried"), ("fish", "kick\tMake buried")]
)
def test_each_shell_gets_its_own_form(shell: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One candidate a line; bash has no room for what it means."""
    assert run(["__complete", shell, "jobs", "ki"]) == 0
    assert capsys.readouterr().out.startswith(line)


def test_completion_needs_no_library(shop: Path) -> None:
    """An answer is waited for at each Tab."""
    code = (
        "import sys; from fleet.cli import main; main(['__complete', 'bash', 'stop', 'em']); "
        "print(sorted({'typer', 'pydantic', 'sqlite3', 'http.client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:4] == ["emails", "emails_00", "emails_01", "[]"]


def test_a_real_bash_completes(shop: Path) -> None:
    """Typed into a terminal, with a Tab."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    bash = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], env={"PATH": path, "TERM": "dumb", "PS1": "> "}, timeout=60
    )
    try:
        bash.sendline("bind 'set enable-bracketed-paste off'; source <(fleet completion bash); echo rea''dy")
        bash.expect_exact("ready")
        bash.send("fleet jobs ki\t")
        bash.expect_exact("kick ")
        bash.send("th\t")
        bash.expect_exact("thumbs ")
        bash.send("\x15echo ok; fleet scale em\t")
        bash.expect_exact("emails=")
    finally:
        bash.close(force=True)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_can_read_their_lines(shell: str, tmp_path: Path) -> None:
    """Where they are installed: the words and marks of each are its own."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    subprocess.run([shell, "-n", str(script)], check=True, timeout=60)
