"""Pulses, minutes and errors beside the jobs, where a server has tables."""

from __future__ import annotations

import time

import pytest

from fleet.errors import NotSupported
from fleet.queue import Queue
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import Pulse
from fleet.queue.minutes import Minute


@pytest.fixture
def pulse(pipeline: str) -> Pulse:
    return Pulse(host="web1", process=f"{pipeline}:00", pid=7, pipeline=pipeline, state="idle", clock=1.5)


def test_a_server_without_tables_says_so(queue: Queue, pulse: Pulse) -> None:
    """Then the run directory holds them."""
    if queue.capabilities.tables:
        queue.publish(pulse)
        return
    for call in (lambda: queue.publish(pulse), lambda: queue.minutes(60), lambda: queue.errors(60)):
        with pytest.raises(NotSupported):
            call()


def test_a_minute_is_replaced_by_its_own_process_and_by_nobody_else(queue, rival, pulse, pipeline):
    """One row per pipeline, minute and process: nothing is counted twice, and nobody waits for a row."""
    if not queue.capabilities.tables:
        pytest.skip("no tables")
    now = int(time.time()) // 60
    row = Minute(pipeline=pipeline, minute=now, process="a", done=3, waits=(1,) * 24)
    queue.publish(pulse, [row])
    queue.publish(pulse, [Minute(pipeline=pipeline, minute=now, process="a", done=5)])
    rival.publish(pulse, [Minute(pipeline=pipeline, minute=now, process="b", done=7)])
    assert sorted((r.process, r.done) for r in queue.minutes(60, pipeline)) == [("a", 5), ("b", 7)]
    assert [r for r in queue.minutes(60) if r.pipeline == pipeline] == queue.minutes(60, pipeline)


def test_minutes_that_are_too_old_are_not_read(queue, pulse, pipeline):
    """*seconds* back from now, whole minutes."""
    if not queue.capabilities.tables:
        pytest.skip("no tables")
    now = int(time.time()) // 60
    rows = [Minute(pipeline=pipeline, minute=now - ago, process="a", done=ago) for ago in (0, 3, 30)]
    queue.publish(pulse, rows)
    assert [row.done for row in queue.minutes(300, pipeline)] == [3, 0]


def test_errors_of_one_cause_add_up(queue, rival, pulse, pipeline):
    """Whoever wrote them; the newest job and message are told, and how long ago the first was."""
    if not queue.capabilities.tables:
        pytest.skip("no tables")
    group = {"pipeline": pipeline, "kind": "buried", "cause": "KeyError: 'TZ'", "place": "a.py:14 build"}
    queue.publish(pulse, (), [ErrorGroup(**group, count=2, job=7, sample="old")])
    rival.publish(pulse, (), [ErrorGroup(**group, job=9, sample="new é \\ 'x' %s")])
    queue.publish(pulse, (), [ErrorGroup(**{**group, "kind": "retried"})])
    found = {each.kind: each for each in queue.errors(60, pipeline)}
    assert (found["buried"].count, found["buried"].job) == (3, 9)
    assert found["buried"].sample == "new é \\ 'x' %s"
    assert 0 <= found["buried"].last <= found["buried"].first < 60
    assert found["retried"].count == 1


def test_causes_differ_by_case(queue, pulse, pipeline):
    """A server's loose comparison must not merge two causes."""
    if not queue.capabilities.tables:
        pytest.skip("no tables")
    causes = ["KeyError: 'tz'", "KeyError: 'TZ'"]
    groups = [ErrorGroup(pipeline=pipeline, kind="buried", cause=cause, place="") for cause in causes]
    queue.publish(pulse, (), groups)
    assert sorted(each.cause for each in queue.errors(60, pipeline)) == sorted(causes)


def test_old_rows_go_with_time(queue, pulse, pipeline, monkeypatch):
    """Publishing prunes what is older than two hours, now and then, a few hundred rows at once."""
    if not queue.capabilities.tables:
        pytest.skip("no tables")
    monkeypatch.setattr("fleet.queue.pulse._ONE_IN", 1)
    now = int(time.time()) // 60
    rows = [Minute(pipeline=pipeline, minute=now - ago, process="a") for ago in (0, 60, 130, 300)]
    queue.publish(pulse, rows)
    assert [now - row.minute for row in queue.minutes(86400, pipeline)] == [60, 0]
