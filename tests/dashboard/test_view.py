"""Frames as text files that a person can read, and the rules no frame may break."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.dashboard import html, view
from fleet.dashboard import look as look_module
from fleet.dashboard.facts import Health
from fleet.dashboard.lines import text_of
from fleet.dashboard.look import Look, Overlay
from fleet.dashboard.text import width_of
from tests.dashboard import scenes

FRAMES = Path(__file__).parent.parent / "golden" / "frames"
LOOK = Look(timezone=UTC)
SIZES = {"80": (80, 24), "160": (160, 50), "narrow": (50, 20)}


def compare(name: str, lines: list[str]) -> None:
    """Compare with the committed file; FLEET_GOLDEN=write makes it anew, for `git diff` to judge."""
    path = FRAMES / f"{name}.txt"
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    if os.environ.get("FLEET_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", scenes.SCENES)
def test_the_live_screen_looks_like_its_golden_frame(scene, size):
    """Six situations at 80 and 160 columns and on a narrow terminal."""
    width, height = SIZES[size]
    lines = view.frame(scenes.SCENES[scene], LOOK, width, height)
    assert len(lines) == height
    compare(f"{scene}.{size}", [text_of(line) for line in lines])


def test_the_screen_in_ascii_has_only_ascii():
    """--ascii changes every icon, line and foreign character, and no width."""
    look = replace(LOOK, ascii=True, pipeline="emails")
    lines = [text_of(line) for line in view.frame(scenes.FATAL, look, 80, 24)]
    assert all(line.isascii() for line in lines)
    compare("fatal.80.ascii", lines)


def test_the_help_screen_names_every_key():
    """What can be pressed can be looked up, on 24 lines."""
    lines = [text_of(line) for line in view.frame(scenes.ALL_WELL, replace(LOOK, help=True), 80, 24)]
    for key, _ in look_module.KEYS:
        assert any(key in line for line in lines)
    assert any("stopped by hand" in line for line in lines), "the last line of help"
    compare("help.80", lines)


def test_a_selected_row_and_its_processes():
    """Enter on a pipeline shows only its processes; the mark is a character, not only a colour."""
    look = replace(LOOK, pipeline="thumbs", only="thumbs", frozen=True, interval=2.0)
    lines = [text_of(line) for line in view.frame(scenes.ALL_WELL, look, 80, 24)]
    compare("selected.80", lines)


@pytest.mark.parametrize("scene", ["all-well", "fatal"])
def test_a_report_for_a_terminal(scene):
    """`fleet status --once`: the same tables without panes and keys."""
    lines = view.once(scenes.SCENES[scene], LOOK, 80, processes=scene == "fatal")
    compare(f"{scene}.once", [text_of(line) for line in lines])


def test_a_table_for_a_pipe():
    """Piped: one record a line, whole numbers, no icons, nothing cut, first word is the name."""
    lines = view.plain(scenes.FATAL, LOOK, processes=True)
    compare("fatal.plain", lines)
    assert [line.split()[0] for line in lines[1:4]] == ["emails", "thumbs", "reports"]


LOOKS = st.builds(
    Look,
    timezone=st.just(UTC),
    ascii=st.booleans(),
    frozen=st.booleans(),
    help=st.booleans(),
    typing=st.booleans(),
    pane=st.sampled_from(look_module.PANES),
    read_only=st.booleans(),
    command=st.sampled_from([None, ("restart", "\x1b[2J", "--yes")]),
    note=st.sampled_from(["", "\x1b[2Jdone"]),
    overlay=st.sampled_from([None, Overlay(title="why \x1b", lines=("\x1b[2J",) * 80, top=70)]),
    pipeline=st.sampled_from([None, "emails", "gone"]),
    only=st.sampled_from([None, "emails"]),
    filter=st.sampled_from(["", "e", "zzz", "\x1b[2J"]),
    sort=st.sampled_from(look_module.SORTS),
    late=st.sampled_from([0.0, 20.0]),
)
ANY_SCENE = st.sampled_from(
    [*scenes.SCENES.values(), scenes.HOSTILE, replace(scenes.ALL_WELL, pipelines=(), processes=())]
)


@settings(deadline=None, max_examples=150)
@given(ANY_SCENE, LOOKS, st.integers(1, 200), st.integers(1, 60))
def test_no_frame_is_larger_than_its_terminal_or_carries_a_control_character(snapshot, look, width, height):
    """Any situation in any terminal: no line too wide, none too many, nothing that steers (T8, S22)."""
    lines = view.frame(snapshot, look, width, height)
    assert len(lines) <= height
    for line in lines:
        text = text_of(line)
        assert width_of(text) <= width
        assert text.isprintable()


@settings(deadline=None)
@given(ANY_SCENE, LOOKS, st.integers(10, 200))
def test_no_report_is_wider_than_its_terminal(snapshot, look, width):
    """The same for `--once`; its length is free."""
    for line in view.once(snapshot, look, width, processes=True):
        assert width_of(text_of(line)) <= width
        assert text_of(line).isprintable()
    for line in view.plain(snapshot, look, processes=True):
        assert line.isprintable() or line == ""


def test_many_processes_leave_room_for_the_pipelines_and_say_what_is_hidden():
    """A hundred processes do not push the pipelines off the screen."""
    crowd = tuple(scenes.process("emails", number) for number in range(100))
    lines = [text_of(line) for line in view.frame(replace(scenes.ALL_WELL, processes=crowd), LOOK, 80, 24)]
    assert any("reports" in line for line in lines)
    assert any("more (↓)" in line for line in lines)


def test_the_selected_row_is_always_on_the_screen():
    """Going down past the last visible row scrolls."""
    crowd = tuple(scenes.process("emails", number) for number in range(100))
    snapshot = replace(scenes.ALL_WELL, processes=crowd)
    look = replace(LOOK, pane="processes", process=view.key_of(crowd[70]))
    lines = [text_of(line) for line in view.frame(snapshot, look, 80, 24)]
    assert any(line.startswith("▸") and "emails_70" in line for line in lines)
    assert any("(↑↓)" in line for line in lines)


def test_trouble_comes_first():
    """✖ ▲ ◐ ● ◌ ○, then the order of the manifest."""
    rows = view.pipeline_rows(scenes.FATAL, LOOK)
    assert [row.name for row in rows] == ["reports", "emails", "thumbs"]
    assert rows[0].health is Health.FAILING


def test_an_unknown_number_is_a_dash_and_never_zero():
    """Zero means that somebody counted (ux 5.3)."""
    text = "\n".join(text_of(line) for line in view.once(scenes.NOTHING_ANSWERS, LOOK, 80))
    (row,) = (line for line in text.splitlines() if "✖ emails" in line)
    assert "0" not in row
    assert "–/4" in row


def test_a_capped_count_says_at_least():
    """100,000 counted with a cap of 100,000 is "100k+"."""
    rows = [replace(row, jobs=replace(row.jobs, ready=100_000)) for row in scenes.BACKLOG.pipelines]
    snapshot = replace(scenes.BACKLOG, pipelines=tuple(rows))
    text = "\n".join(text_of(line) for line in view.once(snapshot, LOOK, 80))
    assert "100k+" in text


def test_colour_never_stands_alone():
    """Without any style the frame still tells what is wrong: icon and word are there."""
    text = "\n".join(text_of(line) for line in view.frame(scenes.FATAL, LOOK, 80, 24))
    assert "✖ reports" in text
    assert "failing" in text


def _brightness(colour: str) -> float:
    """WCAG's relative luminance of "#abc"."""
    parts = [int(digit * 2, 16) / 255 for digit in colour.removeprefix("#")]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("scheme", "background"), [(0, "#fff"), (1, "#222")])
def test_every_colour_of_the_page_can_be_read_on_its_background(scheme, background):
    """Light and dark: a contrast of 4.5 at least, as WCAG asks for text."""
    colours = re.findall(r":root \{ (--red.*?) \}", html.page(scenes.FATAL, LOOK))[scheme]
    for colour in re.findall(r"#\w+", colours):
        dark, light = sorted([_brightness(colour), _brightness(background)])
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_words_are_written_in_colours_that_any_background_bears(scene):
    """Yellow, green and cyan are for icons: on white they can hardly be read."""
    for command in (None, ("stop", "emails", "--yes")):
        look = replace(LOOK, command=command, frozen=True, filter="e")
        for span in (span for line in view.frame(scenes.SCENES[scene], look, 160, 50) for span in line):
            if {"yellow", "green", "cyan"} & set(span.style.split()):
                assert len(span.text.strip()) == 1, span
