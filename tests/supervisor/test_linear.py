"""The parser that takes less time reads what supervisord's own reads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

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
    return sections, dict(parser.defaults()), parser.section_to_file


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
