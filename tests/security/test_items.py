"""The table of requirements is true: every test that it names is there, and no number is missing."""

from __future__ import annotations

import pytest

from tests.named import functions
from tests.security.items import ITEMS, WITHOUT


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_has_its_tests(item: str) -> None:
    """A renamed test must be renamed in the table too."""
    words, tests = ITEMS[item]
    assert words and tests
    for test in tests:
        path, _, name = test.partition("::")
        assert name in functions(path)


def test_every_item_has_either_a_test_or_a_reason() -> None:
    """S1 to S40."""
    told = [*ITEMS, *" ".join(WITHOUT).split()]
    assert sorted(told) == sorted(f"S{n}" for n in range(1, 41))
