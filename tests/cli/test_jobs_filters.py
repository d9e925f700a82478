"""Choosing jobs by error, payload and age; counting before acting; export and the way back."""

from __future__ import annotations

import json
import time

import pytest

from tests.cli.conftest import bury


@pytest.fixture
def mixed(queue):
    """23 jobs buried for one cause, 5 for another, 3 ready, 1 delayed."""
    bury(queue, "KeyError: 'TZ' at shop/jobs/reports.py:14\nTraceback …", 23)
    bury(queue, "ValueError: row 17 is bad at shop/jobs/reports.py:20", 5)
    queue.put_many("emails", [{"user": {"id": 7}}, {"user": {"id": "7"}}, {"user": 7}])
    queue.put("emails", {"n": 1}, delay=60)
    return queue


def buried(queue) -> int:
    return queue.stats("emails").buried


def test_kick_moves_exactly_the_matching_ones(fleet, mixed):
    """Two causes, and the one that was named."""
    ran = fleet("jobs", "kick", "emails", "--error", "KeyError: 'TZ'")
    assert (ran.code, buried(mixed)) == (0, 5)
    assert "23 buried → ready" in ran.out
    ran = fleet("jobs", "kick", "emails", "--error", "row % is bad", "--json")
    assert (ran.json["kicked"], buried(mixed)) == (5, 0)


def test_a_dry_run_counts_and_changes_nothing(fleet, mixed):
    """For kick, delete and purge."""
    for words in (
        ["jobs", "kick", "emails", "--error", "KeyError", "--dry-run"],
        ["jobs", "delete", "emails", "--error", "KeyError", "--dry-run"],
    ):
        ran = fleet(*words)
        assert (ran.code, ran.out) == (0, "emails  23 buried jobs match; --dry-run: nothing was changed\n")
    assert fleet("queue", "purge", "emails", "--dry-run", "--json").json["match"] == 28
    assert buried(mixed) == 28


def test_jobs_are_chosen_by_what_their_payload_holds(fleet, mixed):
    """Dotted keys; a number and the same number as text are both what was typed."""
    ran = fleet("jobs", "list", "emails", "--match", "user.id=7", "--json")
    assert [job["payload"] for job in ran.json["jobs"]] == [{"user": {"id": 7}}, {"user": {"id": "7"}}]
    ran = fleet("jobs", "kick", "emails", "--match", "n=4", "--json")
    assert (ran.json["kicked"], buried(mixed)) == (2, 26)
    ran = fleet("jobs", "delete", "emails", "--match", "n=3", "--error", "KeyError", "--confirm", "emails")
    assert (ran.code, buried(mixed)) == (0, 25)


def test_jobs_are_chosen_by_age(fleet, mixed):
    """--since: buried no longer ago than that; --older for purge is the other side."""
    mixed.backend._link.db.execute("UPDATE fleet_jobs SET run_at = run_at - 3600000000")  # an hour goes by
    fresh = mixed.put_many("emails", [{"fresh": 1}] * 2)
    ran = fleet("jobs", "list", "emails", "--since", "30m", "--state", "ready", "--json")
    assert [job["id"] for job in ran.json["jobs"]] == fresh
    assert fleet("queue", "purge", "emails", "--older", "2h", "--dry-run", "--json").json["match"] == 0
    ran = fleet("queue", "purge", "emails", "--older", "30m", "--confirm", "emails")
    assert (ran.code, buried(mixed)) == (0, 0)


def test_a_slow_kick_takes_its_time(fleet, mixed):
    """20 a second: 23 jobs in steps of four need about a second."""
    began = time.monotonic()
    ran = fleet("jobs", "kick", "emails", "--error", "KeyError", "--rate", "20/s", "--json")
    assert ran.json["kicked"] == 23
    assert 0.8 < time.monotonic() - began < 20  # a second each would take 23
    assert fleet("jobs", "kick", "emails", "--all", "--rate", "often").code == 2


def test_something_must_be_said(fleet, mixed):
    """Nothing, or --all beside a filter, is wrong usage."""
    for words in (
        [],
        ["--all", "--error", "x"],
        ["1", "--error", "x"],
        ["--match", "x"],
        ["--since", "soon"],
    ):
        assert fleet("jobs", "kick", "emails", *words).code == 2
    assert buried(mixed) == 28


def test_deletion_says_how_many_and_how_old_and_needs_the_name(fleet, mixed):
    """Without a terminal: exit 8, and nothing is gone."""
    ran = fleet("jobs", "delete", "emails", "--error", "KeyError", "--yes")
    assert (ran.code, buried(mixed)) == (8, 28)
    ran = fleet("queue", "purge", "emails")
    assert (ran.code, buried(mixed)) == (8, 28)


def test_export_and_put_are_inverse(fleet, mixed):
    """What was deleted comes back as it was: id, state, bytes, attempts, reason, keys."""
    mixed.put("emails", b"\xff\x00 not json", priority=3, ttr=7)
    mixed.put("emails", b'{"b": 1,  "a": 2}', unique="welcome-7")
    before = {job.id: job for s in ("ready", "delayed", "buried") for job in mixed.peek("emails", s, 100)}
    exported = fleet("jobs", "export", "emails")
    assert exported.code == 0
    lines = [json.loads(line) for line in exported.out.splitlines()]
    assert len(lines) == len(before) == 34
    assert "34 jobs exported. It holds the values of redact keys." in exported.err
    again = fleet("jobs", "put", "emails", "-", stdin=exported.out.encode())
    assert again.code != 0, "they are still there"

    for state in ("ready", "delayed", "buried"):
        mixed.discard("emails", state)
    ran = fleet("jobs", "put", "emails", "-", stdin=exported.out.encode())
    assert ran.code == 0
    after = {job.id: job for s in ("ready", "delayed", "buried") for job in mixed.peek("emails", s, 100)}
    same = ("payload", "state", "priority", "ttr", "attempt", "crashes", "reason", "unique", "uid")
    for id_, job in before.items():
        assert [getattr(after[id_], name) for name in same] == [getattr(job, name) for name in same]
        assert abs(after[id_].waited - job.waited) < 10
    assert sorted(after) == sorted(before)
    second = fleet("jobs", "export", "emails")
    assert [json.loads(line)["id"] for line in second.out.splitlines()] == [line["id"] for line in lines]


def test_a_damaged_line_stops_the_import_and_says_so(fleet, queue):
    """Wrong usage, not a traceback."""
    line = b'{"schema": "fleet.job/1", "id": "x"}\n'
    assert fleet("jobs", "put", "emails", "-", stdin=line).code == 2
    assert queue.stats("emails").ready == 0


def test_an_ordinary_line_that_only_looks_like_an_export_is_a_payload(fleet, queue):
    """The schema must be the line's own."""
    line = b'{"note": "\\"fleet.job/1\\"", "inner": {"schema": "fleet.job/1"}}\n'
    assert fleet("jobs", "put", "emails", "-", stdin=line).code == 0
    assert queue.peek_ready("emails").payload == line.strip()
