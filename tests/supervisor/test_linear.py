"""The parser that takes less time reads what supervisord's own reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from supervisor import options

from fleet.supervisor import linear, plugin

LINES = st.sampled_from(
    [
        *("[program:a]", "[program:b]", "[supervisord]", "[DEFAULT]", "[program:a", "[]"),
        *("command=/bin/x %(here)s", "command: %(here)s/%(here)s", "directory = %(here)s", "user=x ; note"),
        *("environment=A=1,", "  B=2", "\tC=%(here)s", "", "; note", "# note", "no value", "=x", "\xa0 y"),
    ]
)
LATER = (None, "", "[program:b]\ncommand=other", "[program:b", "[DEFAULT]\nuser=z")
FILES = st.lists(st.lists(LINES, max_size=8).map("\n".join), min_size=1, max_size=4)


def outcome(parser: Any, names: list[Path]) -> object:
    """Everything that supervisord could learn from *parser* after it has read *names* as it does."""
    try:
        for name in names:
            parser.read(str(name))
            parser.expand_here(str(name.parent))
    except Exception as error:
        return type(error), str(error)
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    asked = [
        asked_for(parser, name, option) for name in sections for option in ("Command", "user", "b", "none")
    ]
    return sections, asked, dict(parser.defaults()), parser.section_to_file


def asked_for(parser: Any, section: str, option: str) -> object:
    try:
        return parser.saneget(section, option, do_expand=False), parser.saneget(section, option, 1)
    except Exception as error:
        return type(error), str(error)


@given(FILES)
@example(["[program:a]\ncommand=x", "[DEFAULT]\nuser=%(here)s"])  # shows in a section of an earlier file
@example(["[program:a]\ncommand=x", "[program:a]\ncommand=%(here)s\nuser=y"])
@example(["[program:a]\nenvironment=A=1,\n\n  B=2", "[program:a]\n  C=3"])
@settings(max_examples=300, deadline=None)
def test_every_set_of_files_is_read_as_supervisord_reads_it(texts: list[str]) -> None:
    """Sections, options, defaults, sources; or the same error."""
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, text in enumerate(texts):
            (Path(folder) / str(number)).mkdir()
            names.append(Path(folder) / str(number) / "a.conf")
            names[-1].write_text(text)
        names.append(Path(folder) / "nowhere.conf")
        assert outcome(linear.Parser(), names) == outcome(options.UnhosedConfigParser(), names)


@given(FILES, st.sampled_from(LATER))
@settings(max_examples=100, deadline=None)
def test_what_was_read_ahead_is_what_the_file_says(texts: list[str], later: str | None) -> None:
    """Also of a file that was written again, is gone, or is broken since."""
    with tempfile.TemporaryDirectory() as folder, linear_forgets():
        main = Path(folder) / "main.conf"
        main.write_text("[include]\nfiles = %(here)s/*.part none.part\n")
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.part").write_text(text)
        names = sorted(Path(name) for name in linear.included(str(main), {}))
        assert names == [Path(folder) / f"{number}.part" for number in range(len(texts))]
        for _ in linear.read_ahead([str(name) for name in names]):
            pass
        if later is None:
            names[0].unlink()
        elif later:
            names[0].write_text(later)
        assert outcome(linear.Parser(), names) == outcome(options.UnhosedConfigParser(), names)


def test_a_file_that_did_not_change_is_read_once(tmp_path: Path) -> None:
    """Where it was read ahead; and never from before that reload."""
    name = tmp_path / "a.conf"
    name.write_text("[program:a]\ncommand=x\n")
    with linear_forgets():
        list(linear.read_ahead([str(name)]))
        assert linear.Parser().alone(str(name)) is linear.Parser().alone(str(name))
        linear.forget()
        assert linear.Parser().alone(str(name)) is not linear.Parser().alone(str(name))


@pytest.mark.parametrize(
    "main", ["[include", "[include]\nfiles = %(nobody)s/*", "[supervisord]", "no section"]
)
def test_a_main_file_that_includes_nothing_is_no_error_here(main: str, tmp_path: Path) -> None:
    """supervisord will say what is wrong."""
    (tmp_path / "main.conf").write_text(main)
    assert linear.included(str(tmp_path / "main.conf"), {}) == []
    assert linear.included(str(tmp_path / "nowhere.conf"), {}) == []


@contextmanager
def linear_forgets() -> Iterator[None]:
    try:
        yield
    finally:
        linear.forget()


def test_a_version_that_was_not_tried_keeps_its_own(monkeypatch: Any) -> None:
    """A parser is no promise of supervisord's."""
    stock = options.UnhosedConfigParser
    monkeypatch.setattr(options, "UnhosedConfigParser", stock)
    monkeypatch.setattr(options, "VERSION", "4.4.0")
    plugin.make(None)
    assert options.UnhosedConfigParser is stock
    monkeypatch.setattr(options, "VERSION", "4.3.0")
    plugin.make(None)
    assert options.UnhosedConfigParser is linear.Parser
