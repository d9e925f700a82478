"""Which errors are one cause."""

from __future__ import annotations

import pytest

from fleet.queue.causes import ErrorGroup, merge, normalise, pattern


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("KeyError: 'TZ'", "KeyError: 'TZ'"),
        ("ValueError: row 17 of 3,000 is bad", "ValueError: row # of # is bad"),
        ("no order 7c9e6679-7425-40de-944b-e07fc1f90ae7", "no order #"),
        ("<Thing at 0x7f3a12bc>", "<Thing at #>"),
        ("550 no such user ada@example.org", "# no such user #"),
        ("cannot connect to 10.0.0.7:5432", "cannot connect to #"),
        ("commit 9f3c1a77bd is gone", "commit # is gone"),
        ("UnicodeDecodeError: 'utf8' at byte 12", "UnicodeDecodeError: 'utf8' at byte #"),
        ("two\nlines  and   blanks", "two lines and blanks"),
        ("deadbeef is a word of letters", "deadbeef is a word of letters"),
    ],
)
def test_what_differs_from_job_to_job_is_left_out(text, cause):
    """Numbers, ids and addresses become "#"; names keep their digits."""
    assert normalise(text) == cause


def test_a_cause_is_the_same_when_it_is_normalised_again():
    """What the tables hold can be compared with what an error says."""
    once = normalise("row 17 of a@b.example 0xff")
    assert normalise(once) == once


def test_a_cause_as_a_filter_matches_what_was_left_out():
    """% stands for anything in `fleet jobs kick --error`."""
    assert pattern("ValueError: row # is bad") == "ValueError: row % is bad"


def test_groups_of_several_processes_become_one():
    """Counts add up, the first is the oldest, the newest job is told."""
    group = ErrorGroup(pipeline="emails", kind="buried", cause="KeyError: 'TZ'", place="a.py:1 f", job=7)
    one = ErrorGroup(**{**_as_dict(group), "count": 3, "first": 50.0, "last": 9.0})
    other = ErrorGroup(**{**_as_dict(group), "count": 4, "first": 30.0, "last": 2.0, "job": 9})
    elsewhere = ErrorGroup(**{**_as_dict(group), "place": "b.py:2 g"})
    (merged, alone) = merge([one, other, elsewhere])
    assert (merged.count, merged.first, merged.last, merged.job) == (7, 50.0, 2.0, 9)
    assert alone == elsewhere


def _as_dict(group: ErrorGroup) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(group)
