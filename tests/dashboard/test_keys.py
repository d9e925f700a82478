"""What keys are called and what they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.dashboard.keys import decode, press
from fleet.dashboard.view import Look, frame, key_of
from tests.dashboard import scenes


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\r\t\x7f", ["enter", "tab", "backspace"]),
        (b"\x1b", ["esc"]),
        (b"\x1b[1;5Cj", ["j"]),
        ("é漢".encode(), ["é", "漢"]),
        (b"\x1b[200~", []),
        (b"\x00\x01", []),
        (b"\xff", ["�"]),
    ],
)
def test_bytes_become_key_names(data, names):
    """Arrows in both modes, control keys, UTF-8; unknown sequences do nothing."""
    assert decode(data) == names


@given(st.binary())
def test_any_bytes_can_be_typed(data):
    """A cat on the keyboard raises nothing."""
    look: Look | None = Look()
    for key in decode(data):
        if look is not None:
            look = press(look, key, scenes.FATAL)
    if look is not None:
        frame(scenes.FATAL, look, 80, 24)


def test_the_selection_stays_on_a_row_and_stops_at_the_ends():
    """Rows are named, not numbered, so that a new order does not move the selection."""
    look = Look()
    for _ in range(10):
        look = press(look, "down", scenes.ALL_WELL)
    assert look.pipeline == "reports"
    for _ in range(10):
        look = press(look, "k", scenes.ALL_WELL)
    assert look.pipeline == "emails"


def test_tab_moves_to_the_processes_and_enter_shows_their_pipeline():
    """Enter in the lower pane asks for the neighbours of the selected process."""
    look = press(press(Look(), "tab", scenes.ALL_WELL), "up", scenes.ALL_WELL)
    assert look.process == key_of(scenes.ALL_WELL.processes[-1])
    assert press(look, "enter", scenes.ALL_WELL).only == "reports"


def test_letters_go_into_the_filter_while_it_is_typed():
    """`q` in a filter is a letter; esc clears it."""
    look = press(Look(), "/", scenes.ALL_WELL)
    for key in ("q", "x", "backspace"):
        look = press(look, key, scenes.ALL_WELL)
    assert (look.filter, look.typing) == ("q", True)
    assert press(look, "enter", scenes.ALL_WELL) == replace(look, typing=False)
    assert press(look, "esc", scenes.ALL_WELL).filter == ""


def test_the_interval_has_ends():
    """+ looks more often, - less often, and neither runs away."""
    look = Look()
    for _ in range(20):
        look = press(look, "+", scenes.ALL_WELL)
    assert look.interval == 0.5
    for _ in range(20):
        look = press(look, "-", scenes.ALL_WELL)
    assert look.interval == 30.0
