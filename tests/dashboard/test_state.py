"""The rules of ux 5.4, one test a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.dashboard.facts import ABSENT, Health, Jobs, ProcessRow
from fleet.dashboard.state import alerts, pipeline_health, process_health
from tests.dashboard.scenes import process

QUIET = Jobs(ready=0, delayed=0, reserved=0, buried=0, stale=0)


def health(*processes: ProcessRow, **changes: object) -> tuple[Health, str]:
    facts = {
        "queue_answers": True,
        "supervisord_answers": True,
        "processes": processes,
        "jobs": QUIET,
        "exceeded": (),
        "paused": 0.0,
        **changes,
    }
    return pipeline_health(**facts)  # type: ignore[arg-type]


def worker(state: str, pulse_age: float | None = 1.0, doing: str = "idle", **changes: object) -> ProcessRow:
    found = process_health(state, pulse_age, doing)
    return process("emails", 0, state=state, health=found, pulse_age=pulse_age, doing=doing, **changes)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("RUNNING", Health.OK),
        ("STARTING", Health.STARTING),
        ("STOPPING", Health.DRAINING),
        ("STOPPED", Health.STOPPED),
        ("BACKOFF", Health.FAILING),
        ("FATAL", Health.FAILING),
        ("EXITED", Health.FAILING),
        ("UNKNOWN", Health.FAILING),
        ("OUTSIDE", Health.OK),
        (ABSENT, Health.STOPPED),
    ],
)
def test_every_word_of_supervisord_has_a_health(state, word):
    """supervisord's eight states and our two."""
    assert process_health(state, None) is word
    assert health(worker(state))[0] is word


def test_a_running_worker_without_a_pulse_for_15_seconds_is_stale():
    """A worker that hangs is RUNNING for supervisord; its silence gives it away."""
    assert process_health("RUNNING", 15.0) is Health.OK
    assert process_health("RUNNING", 15.1) is Health.STALE
    found = health(worker("RUNNING", 22.0))
    assert found == (Health.STALE, "emails_00 sent no pulse for 22s")


def test_a_worker_that_waits_for_the_queue_is_failing():
    """It never exits because the queue is away, so supervisord sees nothing wrong."""
    row = worker("RUNNING", doing="waiting", note="back end away since 14:02:31")
    assert health(row) == (Health.FAILING, "emails_00 waits for the queue: back end away since 14:02:31")


def test_a_queue_that_is_away_outranks_everything():
    """Nobody can work without it."""
    assert health(worker("FATAL"), queue_answers=False)[0] is Health.FAILING
    assert health(worker("RUNNING"), queue_answers=False) == (Health.FAILING, "the queue does not answer")


def test_a_fatal_process_is_named_with_its_note():
    """The sentence says which process and why."""
    rows = (worker("RUNNING"), worker("FATAL", note="exit 1"), worker("BACKOFF"))
    assert health(*rows) == (Health.FAILING, "emails_00 FATAL and 1 more: exit 1")


def test_buried_jobs_over_the_alert_are_failing_and_old_ready_ones_slow():
    """The manifest's two limits."""
    many = replace(QUIET, buried=23)
    over = alerts(many, 151.0, 30.0, 1)
    assert [alert.code for alert in over] == ["buried", "oldest"]
    assert health(worker("RUNNING"), exceeded=over) == (Health.FAILING, "23 buried (alert at 1)")
    found = health(worker("RUNNING"), exceeded=over[1:])
    assert found == (Health.SLOW, "oldest ready job waits 2m31s (alert at 30s)")


@pytest.mark.parametrize(
    ("jobs", "oldest_ready", "oldest", "buried"),
    [(QUIET, 30.0, 30.0, 1), (QUIET, None, 30.0, None), (None, None, 30.0, 1), (QUIET, 999.0, None, None)],
)
def test_what_is_within_its_limit_or_has_none_raises_no_alert(jobs, oldest_ready, oldest, buried):
    """Exactly the limit of `oldest` is still all right; an unknown number alerts nobody."""
    assert alerts(jobs, oldest_ready, oldest, buried) == ()


def test_a_paused_pipeline_is_paused_although_its_jobs_grow_old():
    """Somebody wanted it to wait."""
    over = alerts(QUIET, 151.0, 30.0, None)
    assert health(worker("RUNNING"), exceeded=over, paused=599.0) == (
        Health.PAUSED,
        "paused for another 9m59s",
    )


def test_a_pause_without_an_end_says_so():
    """`fleet pause` without --for."""
    assert health(worker("RUNNING"), paused=365 * 86400.0) == (Health.PAUSED, "paused until resumed")


def test_a_silent_supervisord_makes_processes_unknown_not_stopped():
    """What we cannot see is not what is not there."""
    assert health(supervisord_answers=False)[0] is Health.UNKNOWN


def test_expired_leases_are_stale():
    """Reserved jobs whose lease is over: their workers vanished."""
    assert health(worker("RUNNING"), jobs=replace(QUIET, stale=2))[0] is Health.STALE


def test_one_absent_process_beside_running_ones_is_a_fault_but_none_at_all_is_not():
    """A hole is drift; a pipeline that was never applied is only stopped."""
    assert health(worker("RUNNING"), worker(ABSENT))[0] is Health.FAILING
    assert health(worker(ABSENT), worker(ABSENT)) == (Health.STOPPED, "none is known to supervisord")


def test_some_stopped_by_hand_is_stopped():
    """running < wanted is never ok."""
    assert health(worker("RUNNING"), worker("STOPPED")) == (Health.STOPPED, "1 of 2 stopped")


def test_all_running_is_ok_without_a_reason():
    """Nothing to say."""
    assert health(worker("RUNNING"), worker("RUNNING")) == (Health.OK, "")


def test_a_number_by_hand_is_said_where_nothing_else_is():
    """Fewer than the manifest asks for is all right when somebody wanted it; none at all is stopped."""
    assert health(worker("RUNNING"), by_hand=1) == (Health.OK, "scaled to 1 by hand")
    assert health(by_hand=0) == (Health.STOPPED, "scaled to 0 by hand")
    assert health(worker("STOPPED"), by_hand=1) == (Health.STOPPED, "1 of 1 stopped")
