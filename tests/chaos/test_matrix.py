"""The matrix is true: each fault and test that it names is there, and no number is missing."""

from __future__ import annotations

import pytest

from tests.chaos.arena import PROFILES
from tests.chaos.matrix import PARTLY, ROWS
from tests.chaos.schedule import kinds_for
from tests.named import functions

KINDS = {kind for profile in PROFILES for kind in kinds_for(profile)}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_tried(row: str) -> None:
    """By a kind of fault, or by a test."""
    words, tried = ROWS[row]
    assert words and tried
    for each in tried:
        path, _, name = each.partition("::")
        assert name in functions(path) if name else each in KINDS


def test_every_kind_of_fault_is_in_the_matrix() -> None:
    """So that nobody has to search for it."""
    assert {each for _, tried in ROWS.values() for each in tried if "::" not in each} == KINDS


def test_every_number_has_a_trial() -> None:
    """F1 to F51 and P1 to P20."""
    numbers = [f"F{n}" for n in range(1, 52)] + ["F22m"] + [f"P{n}" for n in range(1, 21)]
    assert sorted(ROWS) == sorted(numbers)
    assert set(PARTLY) <= set(ROWS)
