"""The table of ux 4.4, a row a test."""

from __future__ import annotations

import pytest

from fleet.cli.confirm import Weight, decide
from fleet.errors import Refused


def step(weight: Weight, **changes: object) -> str:
    facts = {"name": "emails", "yes": False, "confirmed": None, "is_terminal": True, "read_only": False}
    return decide(weight, **{**facts, **changes})  # type: ignore[arg-type]


def test_a_free_change_asks_nobody():
    """Also without a terminal: scripts and cron."""
    assert step(Weight.FREE) == "go"
    assert step(Weight.FREE, is_terminal=False) == "go"


def test_a_moderate_change_asks_and_yes_answers():
    """--yes is for scripts; without it and without a terminal nothing is done."""
    assert step(Weight.MODERATE) == "ask"
    assert step(Weight.MODERATE, yes=True, is_terminal=False) == "go"
    with pytest.raises(Refused) as caught:
        step(Weight.MODERATE, is_terminal=False)
    assert caught.value.exit_code == 8


def test_a_severe_change_wants_the_name_and_yes_is_not_enough():
    """Typed, or given with --confirm."""
    assert step(Weight.SEVERE) == "type the name"
    assert step(Weight.SEVERE, yes=True) == "type the name"
    assert step(Weight.SEVERE, confirmed="emails", is_terminal=False) == "go"
    for changes in ({"is_terminal": False, "yes": True}, {"confirmed": "email"}):
        with pytest.raises(Refused):
            step(Weight.SEVERE, **changes)


@pytest.mark.parametrize("weight", Weight)
def test_read_only_refuses_every_change(weight):
    """FLEET_READ_ONLY=1 on a wall screen."""
    with pytest.raises(Refused):
        step(weight, read_only=True, yes=True, confirmed="emails")
