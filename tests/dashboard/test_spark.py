"""Sparklines."""

from __future__ import annotations

from fleet.dashboard.spark import resample, spark


def test_the_highest_value_is_a_full_block_and_nothing_lies_at_the_bottom():
    """Scaled to the line's own highest value."""
    assert spark([0, 1, 50, 100]) == "▁▂▅█"
    assert spark([0, 0]) == "▁▁"
    assert spark([]) == ""


def test_what_nobody_knows_is_a_blank():
    """Not a zero."""
    assert spark([None, 5]) == " █"


def test_points_become_the_last_known_value_of_each_cell():
    """Before the first point nothing is known; a gap keeps the last value."""
    points = [(160.0, 3), (210.0, 7), (215.0, 8), (300.0, 1)]
    assert resample(points, 300.0, 200.0, 4) == [None, 3, 8, 1]
    assert resample([], 300.0, 200.0, 2) == [None, None]
