"""fleet jobs release, bury, move: what an operator does with jobs that nobody holds."""

from __future__ import annotations

import time

import pytest

from tests.cli.conftest import bury


def counts(queue, pipeline: str = "emails") -> tuple[int, int, int, int]:
    """Ready, delayed, reserved, buried."""
    stats = queue.stats(pipeline, cap=10_000)
    return stats.ready, stats.delayed, stats.reserved, stats.buried


def test_release_makes_delayed_jobs_ready_now(fleet, queue):
    """By id, by the error of the last attempt, by payload, the oldest first, or all."""
    first, *_ = queue.put_many("emails", [{"n": n} for n in range(5)], delay=3600)
    queue.put("emails", 1)
    queue.reserve("emails").release(delay=3600, reason="500 from the server")
    ran = fleet("jobs", "release", "emails", "--error", "500 from", "--json")
    assert (ran.code, ran.json["released"]) == (0, 1)
    assert fleet("jobs", "release", "emails", str(first), "--json").json["released"] == 1
    assert fleet("jobs", "release", "emails", "--match", "n=3", "--json").json["released"] == 1
    assert fleet("jobs", "release", "emails", "--all", "--limit", "2", "--json").json["released"] == 2
    assert counts(queue) == (5, 1, 0, 0)
    ran = fleet("jobs", "release", "emails", "--all")
    assert ran.out == "emails  1 delayed → ready\n"


def test_the_lease_of_a_live_worker_is_broken_only_by_force_and_a_yes(fleet, queue):
    """Lost leases need neither."""
    queue.put_many("emails", [1, 2], ttr=0.1)
    queue.put_many("emails", [3], ttr=60)
    queue.reserve_many("emails", 3)
    time.sleep(0.2)
    ran = fleet("jobs", "release", "emails", "--state", "reserved", "--all", "--json")
    assert (ran.json["released"], counts(queue)) == (2, (2, 0, 1, 0))
    words = ("jobs", "release", "emails", "--state", "reserved", "--all", "--force")
    assert (fleet(*words).code, counts(queue)) == (8, (2, 0, 1, 0))
    assert (fleet(*words, "--yes").code, counts(queue)) == (0, (3, 0, 0, 0))
    assert fleet("jobs", "release", "emails", "--all", "--force").code == 2, "delayed jobs need no force"


def test_bury_puts_waiting_jobs_aside_with_a_reason(fleet, queue):
    """Which kick then finds them by."""
    queue.put_many("emails", [{"batch": "a"}, {"batch": "b"}, {"batch": "a"}])
    queue.put("emails", {"batch": "a"}, delay=60)
    ran = fleet("jobs", "bury", "emails", "--match", "batch=a", "--reason", "broken import")
    assert ran.out == 'emails  3 ready or delayed → buried, for "broken import"\n'
    assert counts(queue) == (1, 0, 0, 3)
    assert fleet("jobs", "bury", "emails", "--all", "--state", "ready").code == 0
    assert fleet("jobs", "kick", "emails", "--error", "broken import", "--json").json["kicked"] == 3
    assert queue.peek_buried("emails").reason == "put aside by hand"


def test_move_asks_and_keeps_everything_but_the_pipeline(fleet, queue):
    """All states but reserved; the other pipeline must exist, so that a typo makes none."""
    bury(queue, "KeyError: 'TZ'", 2)
    queue.put("emails", 1, priority=3)
    queue.put("emails", 2, delay=60)
    words = ("jobs", "move", "emails", "--to", "pdf", "--all")
    assert (fleet(*words).code, counts(queue)) == (8, (1, 1, 0, 2))
    ran = fleet(*words, "--yes", "--json")
    assert (ran.json["moved"], ran.json["target"]) == (4, "pdf-tube")
    assert (counts(queue), counts(queue, "pdf-tube")) == ((0, 0, 0, 0), (1, 1, 0, 2))
    assert queue.peek_ready("pdf-tube").priority == 3
    for wrong in (["--to", "pfd"], ["--to", "pdf-tube"], []):
        assert fleet("jobs", "move", "pdf", "--all", "-y", *wrong).code == 2
    assert fleet("jobs", "move", "pdf", "--to", "emails", "--state", "reserved", "--all", "-y").code == 2


def test_a_dry_run_changes_nothing(fleet, queue):
    """And says what would."""
    queue.put_many("emails", [1, 2, 3])
    queue.put("emails", 4, delay=60)
    for words, said in (
        (["release", "emails", "--all"], "1 delayed jobs match"),
        (["bury", "emails", "--all"], "4 ready or delayed jobs match"),
        (["bury", "emails", "1", "3", "99"], "2 ready or delayed jobs match"),
        (["move", "emails", "--to", "pdf", "--all", "--limit", "2"], "2 ready or delayed or buried jobs"),
        (["delete", "emails", "--all", "--state", "ready", "--limit", "2"], "2 ready jobs match"),
    ):
        ran = fleet("jobs", *words, "--dry-run")
        assert (ran.code, said in ran.out) == (0, True), ran
    assert counts(queue) == (3, 1, 0, 0)


@pytest.mark.parametrize("verb", ["release", "bury"])
def test_many_jobs_at_once_need_a_yes(fleet, queue, verb):
    """No terminal and no --yes: exit 8, and nothing is done."""
    queue.put_many("emails", [1] * 1001, delay=60)
    assert (fleet("jobs", verb, "emails", "--all").code, counts(queue)) == (8, (0, 1001, 0, 0))
    assert fleet("jobs", verb, "emails", "--all", "--limit", "1000").code == 0
    assert counts(queue)[1] == 1


def test_ids_that_are_no_such_jobs_are_told(fleet, queue):
    """A number that was mistyped is not silently nothing."""
    (buried,) = bury(queue, "x")
    ready = queue.put("emails", 1)
    ran = fleet("jobs", "kick", "emails", str(buried), str(ready))
    assert ran.out == "emails  1 buried → ready, with new attempts\n"
    assert ran.err == "of 2 ids, 1 is no buried job of emails\n"


def test_a_slow_kick_ends_although_the_jobs_are_buried_again(fleet, queue, monkeypatch):
    """It is about the jobs that were there when it began."""
    bury(queue, "x", 6)
    kick = type(queue).kick

    def kick_in_vain(self, name, **which):
        moved = kick(self, name, **which)
        self.bury_jobs(name, "ready", "x")
        return moved

    monkeypatch.setattr(type(queue), "kick", kick_in_vain)
    assert fleet("jobs", "kick", "emails", "--all", "--rate", "20/s", "--json").json["kicked"] == 6
    assert counts(queue) == (0, 0, 0, 6)
