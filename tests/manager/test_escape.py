"""What the INI filter writes, supervisord reads back unchanged; what it cannot write, it refuses."""

from __future__ import annotations

import os
import shlex
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import RenderError
from fleet.manager import escape
from fleet.manager.escape import GUARD, Safe
from fleet.manager.program import Live
from tests.manager.reading import Reader

# Each once broke a renderer: comments, quotes, expansions, blanks at the ends, line ends of all kinds.
NASTY = (
    "plain",
    "100%",
    "%(ENV_SECRET)s",
    "%(here)s/bin %%(here)s %%%(here)s",
    "%(process_num)0999999999d",
    "%(program_name)s",
    "date +%Y-%m-%d",
    'sh -c "echo a ; echo b"',
    "echo a #b",
    "tab\t;x",
    ";first",
    "# first",
    " blanks at the ends ",
    "a, b,c",
    "it's",
    'say "hi"',
    """both ' and " quotes""",
    "'wrapped'",
    '"wrapped"',
    "back\\slash\\",
    "\\",
    "one\ntwo",
    "one\n\n\n  three\n",
    "one\n[program:evil]\ncommand=rm -rf /\n",
    "one\n;two\n#three",
    "umlaut äöü, 漢字, 🚚",
    "nbsp\u00a0;x",
    "nel\u0085;x ls\u2028#y",
    "vt\x0b;ff\x0c#",
    "\x1b[31mred",
    "a=b",
    "]",
    "",
)


def section(option: str, text: str) -> str:
    needed = "" if option == "command" else "command=/bin/cat\n"
    return f"[program:x]\n{needed}{option}={text}\n"


def read_one(reader: Reader, text: str) -> dict[str, object]:
    groups = reader.read(text)
    assert list(groups) == ["x"], "a value made a section of its own"
    (process,) = groups["x"]
    return process


@pytest.mark.parametrize("text", NASTY)
def test_a_nasty_command_arrives_unchanged(reader: Reader, text: str) -> None:
    """Every text without a carriage return can be carried by command=."""
    conf = section("command", escape.value(f"/bin/echo {text}").text)
    assert read_one(reader, conf)["command"] == f"/bin/echo {text}"


@pytest.mark.parametrize("text", NASTY)
def test_a_nasty_variable_arrives_unchanged_or_is_refused(reader: Reader, text: str) -> None:
    """environment= has two outcomes, and the value is the same in every version."""
    try:
        conf = section("environment", escape.environment({"A": "1", "VALUE": text, "Z": "2"}).text)
    except RenderError as error:
        assert "VALUE" in str(error)
        assert set(text) & set("'\"")
        return
    assert read_one(reader, conf)["environment"] == {"A": "1", "VALUE": text, "Z": "2"}


@pytest.mark.parametrize("text", ["/srv/100%/%(here)s ;x #y", "/srv/%d%%/ü", "/srv/a\tb"])
def test_a_log_path_survives_being_expanded_twice(reader: Reader, tmp_path: Path, text: str) -> None:
    """stdout_logfile is expanded twice by supervisord, so its percent signs need four."""
    folder = Path(f"{tmp_path}{text}")
    folder.mkdir(parents=True)
    live = (f"{folder}/x_", Live("%(process_num)02d"), "%.log")
    conf = section("stdout_logfile", escape.log_file(live).text)
    assert read_one(reader, conf)["stdout_logfile"] == f"{folder}/x_00%.log"


def test_only_what_is_marked_live_is_expanded(reader: Reader) -> None:
    """The same characters are an expansion from fleet and text from the manifest."""
    text = ("/bin/echo %(process_num)d ", Live("%(process_num)02d"), "%;")
    assert read_one(reader, section("command", escape.value(text).text))["command"] == (
        "/bin/echo %(process_num)d 00%;"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\rb", "a carriage return"),
        ("a\r\nstopsignal=KILL", "a carriage return"),
        ("a\0b", "a NUL character"),
        ("a\udcffb", "bytes that are not UTF-8"),
        ("x" * 2_000_000, "more than a million characters"),
    ],
)
def test_what_no_file_can_carry_is_refused_with_the_reason(text: str, reason: str) -> None:
    """A text file turns a carriage return into a line break, so it would inject options."""
    for write in (escape.value, escape.log_file, lambda t: escape.environment({"A": t})):
        with pytest.raises(RenderError, match=reason):
            write(text)


def test_a_word_is_made_of_harmless_characters() -> None:
    """Names and numbers are not escaped, so nothing else passes as one."""
    assert escape.word("shop-emails_00.x") == Safe("shop-emails_00.x")
    for text in ("a b", "a\n", "a%", "a;", "ä", "a]", "a:b"):
        with pytest.raises(RenderError):
            escape.word(text)


# Weighted to what parsers trip over.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([*"%;#\"'\\,=[]()\n\r\t \x0b\x0c\x1c\x85\xa0\u2028\u3000sd0"]),
        st.sampled_from(["(here)s", "%(here)s", "%(ENV_SECRET)s", "%d", " ;", "\t#", "\n[program:y]\n"]),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=20,
).map("".join)
MANY = settings(
    max_examples=int(os.environ.get("FLEET_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@MANY
@given(command=HOSTILE, directory=HOSTILE, values=st.lists(HOSTILE, min_size=1, max_size=4))
def test_any_text_arrives_unchanged_or_is_refused(
    reader: Reader, command: str, directory: str, values: list[str]
) -> None:
    """There is no third outcome: not a lost blank, not another value, not a section more."""
    lines, expected = ["[program:x]"], {}
    for option, text in (("command", command), ("directory", directory)):
        try:
            lines.append(f"{option}={escape.value(text).text}")
            expected[option] = text
        except RenderError:
            assert "\r" in text
            lines.append(f"{option}=/x")
            expected[option] = "/x"
    environment = {}
    for i, text in enumerate(values):
        try:
            escape.environment({"V": text})
            environment[f"V{i}"] = text
        except RenderError:
            assert "\r" in text or set(text) & set("\"'")
    written = escape.environment(environment).text
    lines.append(f"environment={written}")

    process = read_one(reader, "\n".join(lines) + "\n")
    assert {option: process[option] for option in expected} == expected
    assert process["environment"] == environment
    assert _read_posix(written) == environment


def _read_posix(written: str) -> dict[str, str]:
    """environment= as supervisord's development version splits it: with POSIX quotes and escapes."""
    text = written.replace("\n\t", "\n").replace("%%", "\0").replace(GUARD, "").replace("\0", "%")
    lexer = shlex.shlex(text, posix=True)
    lexer.wordchars += "/.+-():"
    tokens = list(lexer)
    return {tokens[i]: tokens[i + 2] for i in range(0, len(tokens), 4)}


@given(st.text(string.printable, max_size=30))
def test_the_filter_never_writes_a_bare_line_break(text: str) -> None:
    """Whatever the text, a written line is the option's own or continues it."""
    try:
        written = escape.value(text).text
    except RenderError:
        return
    assert all(line.startswith("\t") for line in written.split("\n")[1:])
