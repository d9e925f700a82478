"""What keys are called and what they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.dashboard.keys import decode, press
from fleet.dashboard.lines import text_of
from fleet.dashboard.look import Look, Wish, key_of
from fleet.dashboard.view import frame
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


def test_tab_moves_to_the_processes_and_enter_tells_all_of_one():
    """Enter in the lower pane shows what supervisord and the worker itself say."""
    look = press(press(Look(), "tab", scenes.ALL_WELL), "up", scenes.ALL_WELL)
    assert look.process == key_of(scenes.ALL_WELL.processes[-1])
    shown = press(look, "enter", scenes.ALL_WELL).overlay
    assert any("shop-reports:shop-reports_00" in line for line in shown.lines)


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


def test_1_2_3_choose_how_far_numbers_look_back():
    """The footer says so while it is not the usual five minutes."""
    look = press(Look(), "3", scenes.ALL_WELL)
    assert look.window == 3600.0
    hour = replace(scenes.ALL_WELL, window=look.window)
    lines = [text_of(line) for line in frame(hour, look, 160, 50)]
    assert lines[-1].rstrip().endswith("over 1 hour")
    assert any("1 HOUR" in line for line in lines)
    assert press(look, "1", hour).window == 60.0
    assert press(look, "2", hour) == Look()


def typed(look: Look, *keys: str, snapshot=scenes.FATAL) -> Look:
    for key in keys:
        look = press(look, key, snapshot)
    return look


def test_a_capital_key_only_shows_what_it_would_run():
    """Enter makes it a wish, and every other key drops it."""
    look = typed(Look(), "down", "X")
    assert (look.command, look.wish) == (("stop", "reports", "--yes"), None)
    assert typed(look, "x").command is None
    assert typed(look, "enter").wish == Wish(verb="run", words=("stop", "reports", "--yes"))


def test_keys_act_on_the_process_when_its_pane_has_them():
    """R in the pane of processes restarts one."""
    look = typed(Look(), "tab", "down", "R")
    assert look.command == ("restart", "reports_01", "--yes")


def test_kicking_from_the_errors_kicks_that_cause():
    """With the filter that `fleet jobs kick` takes."""
    look = typed(Look(), "e", "down", "K")
    assert look.only == "reports"
    assert look.command == ("jobs", "kick", "reports", "--error", "KeyError: 'TZ'", "--yes")


def test_scale_takes_a_number():
    """Digits and backspace; enter without a number does nothing yet."""
    look = typed(Look(can_scale=True), "down", "S")
    assert look.command == ("scale", "reports=")
    assert typed(look, "enter").command == ("scale", "reports=")
    look = typed(look, "1", "2", "backspace", "enter")
    assert look.wish == Wish(verb="run", words=("scale", "reports=1"))
    assert "no scale" in typed(Look(), "down", "S").note


@pytest.mark.parametrize("key", ["p", "S", "K", "R", "X"])
def test_read_only_means_it(key):
    """Looking, why and logs go on; nothing that changes anything does."""
    look = typed(Look(read_only=True), "down", key)
    assert (look.wish, look.command) == (None, None)
    assert "read-only" in look.note
    assert typed(Look(read_only=True), "down", "w").wish == Wish(verb="why", words=("reports",))


def test_p_pauses_and_resumes():
    """Without a question: it is undone by the same key."""
    assert typed(Look(), "down", "p").wish == Wish(verb="pause", words=("reports",))
    paused = typed(Look(), "down", "down", "down", "p", snapshot=scenes.PAUSED)
    assert paused.wish == Wish(verb="resume", words=("emails",))


def test_tab_goes_round_the_panes_and_the_errors_can_be_read():
    """Enter on a group tells all of it, with the command that kicks its jobs."""
    look = typed(Look(), "tab", "tab", "down", "enter")
    assert look.pane == "errors"
    text = "\n".join(look.overlay.lines)
    assert "shop/jobs/reports.py:14 build" in text
    assert """fleet jobs kick reports --error "KeyError: 'TZ'\"""" in text
    assert typed(look, "esc").overlay is None
    assert typed(Look(), "tab", "tab", "tab", "tab").pane == "pipelines"
