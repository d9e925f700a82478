"""What two snapshots in a row tell about the time between them."""

from __future__ import annotations

from dataclasses import replace

from fleet.dashboard.changes import changes
from tests.dashboard import scenes


def kinds(before, after) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in changes(before, after)]


def test_the_first_look_and_a_quiet_one_tell_nothing():
    """An event is a change."""
    assert changes(None, scenes.FATAL) == []
    assert changes(scenes.FATAL, scenes.FATAL) == []


def test_a_process_that_goes_down_is_an_event():
    """With the reason; one that was down before is none."""
    first = scenes.FATAL.processes[7]
    assert first.state == "FATAL"
    before = replace(scenes.FATAL, processes=(replace(first, state="BACKOFF"),))
    assert ("failing", "reports_01 FATAL · exit 1") in kinds(before, scenes.FATAL)


def test_a_pipeline_that_turns_slow_and_well_again():
    """The reason is the text."""
    slow = kinds(scenes.ALL_WELL, scenes.BACKLOG)
    assert slow == [("slow", "thumbs oldest ready job waits 2m31s (alert at 30s)")]
    assert kinds(scenes.BACKLOG, scenes.ALL_WELL) == [("well", "thumbs is well again")]


def test_a_queue_that_falls_silent_is_one_event_and_not_one_a_pipeline():
    """Its rows all turn bad for that one reason."""
    (away,) = kinds(scenes.ALL_WELL, scenes.QUEUE_AWAY)
    assert away[0] == "away"
    assert "connection refused" in away[1]
    assert kinds(scenes.QUEUE_AWAY, scenes.ALL_WELL) == [("well", "the queue answers again")]
