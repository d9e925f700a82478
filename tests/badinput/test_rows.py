"""The table of rows is true: every test that it names is there, and every row of this folder is in it."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.badinput import (
    test_any_source,
    test_command_line,
    test_disks,
    test_files,
    test_manifest,
    test_meanwhile,
    test_memory,
    test_reading,
    test_servers,
    test_sources,
    test_supervisord,
)
from tests.badinput.rows import HERE, ROWS, WITHOUT
from tests.named import functions

NUMBER = re.compile(r"\b[MCDJQRXTW]\d{1,2}\b")
MODULES = (
    test_any_source,
    test_command_line,
    test_disks,
    test_files,
    test_manifest,
    test_meanwhile,
    test_memory,
    test_reading,
    test_servers,
    test_sources,
    test_supervisord,
)
# The rows of supervisord's answers go by their words there.
WORDS = {
    "X2": "wrong password",
    "X4": "redirect",
    "X7": "compressed",
    "X8": "document type",
    "X10": "control characters",
    "X11": "a number that is none",
}


@cache
def told_here() -> set[str]:
    """Every number in an id, a name or a docstring of this folder's tests."""
    ids = [row for module in MODULES for row in getattr(module, "ROWS", {})]
    ids += [*test_manifest.LITERAL]
    for module in MODULES:
        for name, function in vars(module).items():
            if name.startswith("test_"):
                ids.append(function.__doc__ or "")
    return set(NUMBER.findall(" ".join(ids)))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_tests(row: str) -> None:
    """A renamed test must be renamed in the table too."""
    words, tests = ROWS[row]
    assert words and tests
    for test in tests:
        path, _, name = test.partition("::")
        if test == HERE:
            assert row in told_here() or f"X {WORDS[row]}" in test_supervisord.ROWS
        else:
            assert name in functions(path)


def test_a_row_has_either_a_test_or_a_reason() -> None:
    """Not both: what is tested by now needs no excuse any more."""
    assert not set(NUMBER.findall(" ".join(WITHOUT))) & set(ROWS)


def test_every_row_of_this_folder_is_in_the_table() -> None:
    """So that nobody has to search for it."""
    assert told_here() <= set(ROWS)
