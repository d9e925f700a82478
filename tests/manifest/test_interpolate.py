"""${VARIABLES} and {placeholders}: one pass, and nothing that looks like one is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.manifest.interpolate import Unset, expand, fill, read_dotenv, split_process
from tests.manifest.conftest import Write, loaded, report

ENVIRON = {"NAME": "ada", "EMPTY": "", "NESTED": "${NAME}", "BYTES": "a\udcff"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x ${NAME} y", "x ada y"),
        ("${MISSING:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${MISSING:-}", ""),
        ("${EMPTY}", ""),
        ("$${NAME}", "${NAME}"),
        ("$$ $5 $NAME $", "$ $5 $NAME $"),
        ("${NESTED}", "${NAME}"),
        ("${MISSING:-a b:-c}", "a b:-c"),
        ("${NAME:?message}", "ada"),
    ],
)
def test_variables_are_put_in(text: str, value: str) -> None:
    """The shell's three forms, and $$ for a dollar sign."""
    assert expand(text, ENVIRON) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING}", r"\$MISSING is not set"),
        ("${BYTES}", r"\$BYTES is not UTF-8 text"),
        ("${MISSING:?say where}", r"\$MISSING is not set: say where"),
        ("${EMPTY:?}", r"\$EMPTY is not set: it is required"),
    ],
)
def test_a_variable_without_a_value_is_an_error(text: str, message: str) -> None:
    """An empty string in its place would do harm later, elsewhere."""
    with pytest.raises(Unset, match=message):
        expand(text, ENVIRON)


@pytest.mark.parametrize("text", ["${", "${}", "${a b}", "${1}", "${A:+x}", "${A-x}"])
def test_what_only_looks_like_a_variable_is_an_error(text: str) -> None:
    """A form of the shell that fleet does not have is refused, not passed on as text."""
    with pytest.raises(ValueError, match="needs a name"):
        expand(text, ENVIRON)


def test_placeholders_are_put_in_and_others_are_text() -> None:
    """JSON, awk and shell are full of braces; only the known words mean something."""
    words = {"project": "shop", "pipeline": "emails", "host": "web1"}
    text = "{project}-{pipeline} {host} {{project}} {\"a\": {}} {other} awk '{print}' {process}"
    assert fill(text, words) == "shop-emails web1 {project} {\"a\": {}} {other} awk '{print}' {process}"


def test_the_number_of_a_process_is_cut_out() -> None:
    """Its value is known to supervisord only."""
    assert split_process("a {process} b {{process}}{process}") == ("a ", " b {process}", "")
    assert split_process("plain") == ("plain",)


def test_a_dotenv_file_never_overrides(write: Write) -> None:
    """It is there for a developer's machine; the environment of a server wins."""
    write('# comment\nexport A=file\nB = "two words"\nEMPTY=\n', ".env")
    path = write('[pipelines.x]\ncommand = "${A} ${B} ${EMPTY:-none}"\n')
    assert loaded(path).pipelines["x"].command == "file two words none"
    assert loaded(path, A="environment").pipelines["x"].command == "environment two words none"


def test_a_broken_dotenv_line_is_told_with_its_number(write: Write) -> None:
    """A typo there would otherwise show as an unset variable."""
    write("A=1\nnonsense\n", ".env")
    assert ".env  E002 line 2 is not NAME=value." in report(write('[pipelines.x]\ncommand = "x"\n'))
    with pytest.raises(ValueError, match="line 1"):
        read_dotenv("A B=1")


def test_an_unset_variable_is_shown_where_it_stands(write: Write) -> None:
    """Line, column, and what to do."""
    assert report(write('[pipelines.x]\ncommand = "a ${NO_SUCH} b"\n')).splitlines()[:3] == [
        "fleet.toml:2:11  E007 $NO_SUCH is not set",
        '    2 │ command = "a ${NO_SUCH} b"',
        "      │           ^^^^^^^^^^^^^^^^ export it, or give a default: ${NO_SUCH:-…}",
    ]


def test_a_payload_keeps_its_dollar_signs(write: Write) -> None:
    """It is data for a job, not a setting."""
    path = write(
        '[pipelines.x]\ncommand = "x"\n[[schedules]]\nname = "n"\npipeline = "x"\n'
        'cron = "* * * * *"\npayload = { price = "${5}" }\n'
    )
    assert loaded(path).schedules[0].payload == {"price": "${5}"}


def test_placeholders_work_in_commands_environment_and_log_folders(write: Write, tmp_path: Path) -> None:
    """The three places where a name is of use."""
    pipeline = loaded(
        write(
            'project = "shop"\n[defaults]\nlogs = { dir = "logs/{project}/{pipeline}" }\n'
            '[pipelines.x]\ncommand = "w {pipeline}"\nenvironment = { P = "{project}" }\n'
        )
    ).pipelines["x"]
    assert (pipeline.command, pipeline.environment["P"]) == ("w x", "shop")
    assert pipeline.logs.dir == tmp_path / "logs/shop/x"
