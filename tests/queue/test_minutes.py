"""Histograms and minutes: the arithmetic, and the text that rows are kept as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.queue.minutes import (
    BORDERS,
    BUCKETS,
    EMPTY,
    Minute,
    add,
    bucket,
    minute_from_text,
    minute_to_text,
    quantile,
    total,
)

TIMES = st.lists(st.floats(0, 100_000), min_size=1, max_size=200)


def histogram(times: list[float]) -> list[int]:
    buckets = [0] * BUCKETS
    for seconds in times:
        buckets[bucket(seconds)] += 1
    return buckets


@given(st.floats(0, 1e9))
def test_a_time_lies_between_the_borders_of_its_bucket(seconds):
    """The borders are defined once, and the quick arithmetic agrees with them."""
    index = bucket(seconds)
    assert index == 0 or BORDERS[index - 1] <= seconds
    assert index == BUCKETS - 1 or seconds < BORDERS[index]


@given(TIMES, st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_right_within_its_bucket(times, share):
    """Never more than a factor of two from the true one, and the open end says "at least"."""
    exact = sorted(times)[min(int(share * len(times)), len(times) - 1)]
    found = quantile(histogram(times), share)
    assert found is not None
    at_most = sorted(times)[max(0, -(-int(share * 1000) * len(times) // 1000) - 1)]
    assert bucket(at_most) <= bucket(min(found, 1e9)) + 1
    assert bucket(found) <= bucket(exact) + 1


@given(TIMES, TIMES)
def test_adding_histograms_is_as_good_as_counting_all_jobs(one, other):
    """So minutes of many processes give one p95."""
    assert list(add(histogram(one), histogram(other))) == histogram(one + other)


def test_the_quantile_of_nothing_is_unknown():
    """Not 0: nobody waited."""
    assert quantile(EMPTY, 0.95) is None


def test_what_is_longer_than_the_last_border_counts_as_at_least_that():
    """A day and an hour: "at least 4 h 39 m"."""
    assert quantile(histogram([90_000.0]), 0.5) == pytest.approx(BORDERS[-1])


def test_a_row_comes_back_from_its_text_as_it_was():
    """Zeros at the end of a histogram are left out and filled in again."""
    row = Minute(
        pipeline="emails",
        minute=29_925_482,
        process="web1 emails:emails_00 47981",
        began=1_795_528_951.25,
        done=41,
        failed=3,
        buried=1,
        retried=2,
        busy=12.5,
        waits=(1, 2, *EMPTY[2:]),
        held=17,
        ready=12,
    )
    text = minute_to_text(row)
    assert minute_from_text(row.pipeline, row.minute, row.process, text) == row
    assert len(text) < 250


def test_keys_of_a_newer_fleet_are_ignored():
    """Two versions work side by side."""
    row = minute_from_text("emails", 1, "x", '{"done":4,"colour":"red","waits":[1]}')
    assert (row.done, sum(row.waits), len(row.runs)) == (4, 1, BUCKETS)


def test_rows_add_up():
    """Counts are summed and the earliest beginning holds; samples are nobody's sum."""
    rows = [
        Minute(pipeline="emails", minute=7, process="a", began=420.0, done=3, busy=1.5, held=9),
        Minute(pipeline="emails", minute=8, process="b", began=490.0, done=4, buried=1, busy=0.5),
    ]
    summed = total(rows)
    assert (summed.done, summed.out, summed.ended, summed.busy) == (7, 8, 8, 2.0)
    assert (summed.began, summed.held) == (420.0, None)
    assert total([]).done == 0
