"""Foreign text cannot steer, hide in, or overflow a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.dashboard.text import cut, pad, show, width_of, wrap

# Every code point there is, surrogates and all, with the nasty ones made frequent.
ANYTHING = st.text(st.characters()) | st.text(
    st.sampled_from("a\x1b\x07\r\n\t\x7f\x80\x9b\u200b\u200d\u202e\u2066\u2028\ud800\udcff\ue000\ufeff́漢🙂")
)
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANYTHING)
def test_nothing_that_steers_or_hides_passes(text):
    """What comes out has no control, format, surrogate or private character, and no line break."""
    safe = show(text)
    assert not {unicodedata.category(char) for char in safe} & UNSAFE
    assert len(safe.splitlines()) <= 1
    safe.encode()  # printable on any UTF-8 terminal


@given(ANYTHING, st.integers(min_value=-1, max_value=40))
def test_a_cut_text_never_takes_more_columns_than_it_was_given(text, width):
    """The width is an upper bound in display columns, also for wide and combining characters."""
    assert width_of(show(text, width)) <= max(width, 0)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_ascii_passes_unchanged(text):
    """The filter does not touch ordinary text."""
    assert show(text) == text
    assert width_of(text) == len(text)


@given(ANYTHING)
def test_the_filter_is_idempotent(text):
    """Text may pass twice on its way; it is not escaped twice."""
    assert show(show(text)) == show(text)


@given(ANYTHING, st.integers(min_value=0, max_value=30), st.booleans())
def test_padding_gives_exactly_the_columns_asked_for(text, width, right):
    """A table cell is as wide as its column, whatever is in it."""
    assert width_of(pad(show(text), width, right)) == width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\u009b31m", r"\x9b31m"),
        ("a\rb\bc", r"a\rb\x08c"),
        ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), r"\xff\xfe"),
        ("\ue000", r"\ue000"),
        ("\U000e0041", r"\U000e0041"),
        ("naïve 漢字 🙂", "naïve 漢字 🙂"),
        ("[red]not markup[/red]", "[red]not markup[/red]"),
        ("é" + "\u0301" * 5, "é" + "\u0301" * 3 + r"\u0301\u0301"),
        ("\u0301", r"\u0301"),
    ],
)
def test_known_tricks_become_visible(text, shown):
    """Escapes, clipboard, bidi, zero-width, raw bytes, tags and stacked marks (reliability T1, T2, T4)."""
    assert show(text) == shown


def test_a_cut_is_marked():
    """The reader sees that something is missing."""
    assert show("abcdef", 4) == "abc…"
    assert cut("漢字漢字", 4) == "漢…"
    assert show("abcd", 4) == "abcd"
    assert show("abcd", 0) == ""


def test_a_huge_line_is_cut_before_it_is_looked_at():
    """A 10 MB line costs no more than its first columns (reliability T5)."""
    assert show("x" * 10_000_000 + "\x1b", 5) == "xxxx…"


@given(ANYTHING, st.integers(2, 30))
def test_a_wrapped_line_is_whole_and_fits(text, width):
    """What is copied from the pieces is the line."""
    safe = show(text)
    pieces = wrap(safe, width)
    assert "".join(pieces) == safe
    assert max(map(width_of, pieces)) <= width
