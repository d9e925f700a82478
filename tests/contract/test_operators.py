"""kick, discard, peek, pause, stats: what operators and dashboards do."""

from __future__ import annotations

import time

import pytest

from fleet.errors import NotSupported
from fleet.queue import Queue
from fleet.queue.job import Pulse
from tests.contract.clockwork import advance


def _bury(queue: Queue, pipeline: str, reasons: list[str]) -> list[int]:
    ids = []
    for n, reason in enumerate(reasons):
        ids.append(queue.put(pipeline, n, priority=n + 10))
        job = queue.reserve(pipeline)
        assert job is not None
        job.bury(reason)
    return ids


def test_kick_moves_the_oldest_with_priority_kept_and_a_fresh_budget(queue: Queue, pipeline: str):
    """A kicked job that is buried again at once because its attempts are spent helps nobody."""
    ids = _bury(queue, pipeline, ["a", "b", "c"])
    assert queue.kick(pipeline, 2) == 2
    jobs = queue.reserve_many(pipeline, 5)
    assert [job.id for job in jobs] == ids[:2]
    assert [job.priority for job in jobs] == [10, 11]
    assert [(job.attempt, job.crashes) for job in jobs] == [(1, 0), (1, 0)]
    assert queue.stats(pipeline).buried == 1


def test_kick_forgets_earlier_failures(queue: Queue, pipeline: str):
    """All of them, or where the server's counters never go back, one: at least another try."""
    queue.put(pipeline, 1)
    for _ in range(2):
        job = queue.reserve(pipeline)
        assert job is not None
        job.release()
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.failures) == (3, 2)
    job.bury()
    assert queue.kick(pipeline) == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.failures) == ((1, 0) if queue.capabilities.fresh_budget else (3, 2))


def test_kick_without_a_limit_moves_all(queue: Queue, pipeline: str):
    _bury(queue, pipeline, ["a"] * 5)
    assert queue.kick(pipeline) == 5
    assert queue.kick(pipeline) == 0


def test_kick_leaves_delayed_jobs_alone(queue: Queue, pipeline: str):
    """beanstalkd's own kick would move them when nothing is buried."""
    queue.put(pipeline, 1, delay=60)
    assert queue.kick(pipeline) == 0
    assert queue.stats(pipeline).delayed == 1


def test_kick_and_discard_choose_by_reason(queue: Queue, pipeline: str):
    """% is any text, _ is one character, case matters, and nothing else is special."""
    if not queue.capabilities.reasons:
        with pytest.raises(NotSupported):
            queue.kick(pipeline, reason="KeyError%")
        return
    _bury(queue, pipeline, ["KeyError: 'TZ'", "keyerror: 'TZ'", "KeyError: x", "Other [a-z]*", "Other b"])
    assert queue.kick(pipeline, reason="KeyError%") == 2
    assert queue.discard(pipeline, "buried", reason="keyerror: 'T_'") == 1
    assert queue.discard(pipeline, "buried", reason="Other [a-z]*") == 1
    assert [job.reason for job in queue.peek(pipeline, "buried", 10)] == ["Other b"]


def test_kick_and_discard_choose_by_id(queue: Queue, pipeline: str):
    if not queue.capabilities.filters:
        return
    ids = _bury(queue, pipeline, ["a", "b", "c"])
    assert queue.kick(pipeline, ids=[ids[1], 10**15]) == 1
    assert queue.discard(pipeline, "buried", ids=[]) == 0
    assert queue.discard(pipeline, "buried", ids=[ids[2]]) == 1
    assert [job.id for job in queue.peek(pipeline, "buried", 10)] == [ids[0]]


@pytest.mark.parametrize("state", ["ready", "delayed", "buried"])
def test_discard_deletes_only_that_state(queue: Queue, pipeline: str, state: str):
    _bury(queue, pipeline, ["x", "y"])
    queue.put_many(pipeline, [1, 2], delay=60)
    queue.put_many(pipeline, [3, 4])
    assert queue.discard(pipeline, state, 1) == 1  # type: ignore[arg-type]
    assert queue.discard(pipeline, state) == 1  # type: ignore[arg-type]
    stats = queue.stats(pipeline)
    left = {"ready": stats.ready, "delayed": stats.delayed, "buried": stats.buried}
    assert left == {"ready": 2, "delayed": 2, "buried": 2} | {state: 0}


def test_peek_looks_and_takes_nothing(queue: Queue, pipeline: str):
    queue.put(pipeline, "late", priority=9)
    queue.put(pipeline, "soon", priority=1)
    queue.put(pipeline, "tomorrow", delay=86400)
    assert queue.peek_ready(pipeline).data == "soon"  # type: ignore[union-attr]
    delayed = queue.peek_delayed(pipeline)
    assert delayed is not None
    assert delayed.data == "tomorrow"
    assert 86390 < delayed.delay <= 86400
    assert queue.peek_buried(pipeline) is None
    assert queue.stats(pipeline).ready == 2


def test_find_knows_a_job_in_any_state(queue: Queue, pipeline: str):
    ready = queue.put(pipeline, 1)
    delayed = queue.put(pipeline, 2, delay=60)
    states = [str(job.state) for job in (queue.find(ready), queue.find(delayed)) if job]
    assert states == ["ready", "delayed"]
    assert queue.find(2**62) is None


@pytest.mark.parametrize("number", [-1, 2**63, 10**30, True])
def test_a_number_that_is_no_id_is_refused(queue: Queue, pipeline: str, number: int):
    """Drivers and servers each have an error of their own for it, so none of them is asked."""
    with pytest.raises(ValueError, match="job id"):
        queue.find(number)
    if queue.capabilities.filters:
        with pytest.raises(ValueError, match="job id"):
            queue.kick(pipeline, ids=[number])


def test_stats_count_each_state(queue: Queue, pipeline: str):
    queue.put_many(pipeline, range(5))
    queue.put_many(pipeline, range(2), delay=60)
    first = queue.reserve(pipeline)
    assert first is not None
    first.bury()
    assert queue.reserve(pipeline) is not None
    stats = queue.stats(pipeline)
    assert (stats.ready, stats.delayed, stats.reserved, stats.buried) == (3, 2, 1, 1)
    assert stats.cap == 0


def test_stats_stop_counting_at_the_cap(queue: Queue, pipeline: str):
    """A dashboard must never pay for a million rows: a count at the cap means "at least"."""
    queue.put_many(pipeline, range(30))
    stats = queue.stats(pipeline, cap=10)
    assert (stats.ready, stats.cap) in ((10, 10), (30, 0))  # servers that keep counters are exact


def test_stats_tell_the_age_of_the_oldest_ready_job(queue: Queue, pipeline: str):
    """Over all priorities: a starving job is the one to see."""
    assert queue.stats(pipeline).oldest_ready is None
    queue.put(pipeline, "starving", priority=900)
    time.sleep(1.1)
    queue.put(pipeline, "urgent", priority=1)
    oldest = queue.stats(pipeline).oldest_ready
    assert oldest is not None
    if queue.capabilities.tables:
        assert 1.0 <= oldest < 10


def test_an_expired_lease_is_stale_until_somebody_takes_the_job(queue: Queue, dsn: str, pipeline: str):
    if not queue.capabilities.late_settle:
        return  # beanstalkd makes it ready by itself
    queue.put(pipeline, 1, ttr=60)
    assert queue.reserve(pipeline) is not None
    assert queue.stats(pipeline).stale == 0
    advance(dsn, pipeline, 61)
    stats = queue.stats(pipeline)
    assert (stats.reserved, stats.stale, stats.ready) == (1, 1, 0)


def test_a_paused_pipeline_hands_out_nothing_until_the_pause_ends(queue: Queue, rival: Queue, pipeline: str):
    queue.put(pipeline, 1)
    rival.pause(pipeline, 60)
    assert queue.reserve(pipeline) is None
    assert 0 < queue.stats(pipeline).paused <= 60
    rival.resume(pipeline)
    assert queue.stats(pipeline).paused == 0
    assert queue.reserve(pipeline) is not None


def test_a_pause_ends_by_itself(queue: Queue, pipeline: str, short: float):
    queue.put(pipeline, 1)
    paused_at = time.monotonic()
    queue.pause(pipeline, short)
    assert queue.reserve(pipeline, timeout=short + 3) is not None
    assert time.monotonic() - paused_at >= short - (0.05 if queue.capabilities.subsecond else 1)


def test_pipelines_lists_those_that_hold_jobs(queue: Queue, pipeline: str):
    others = [f"{pipeline}-{state}" for state in ("ready", "delayed", "reserved", "buried")]
    queue.put(others[0], 1)
    queue.put(others[1], 1, delay=60)
    queue.put(others[2], 1)
    held = queue.reserve(others[2])
    queue.put(others[3], 1)
    job = queue.reserve(others[3])
    assert job is not None
    job.bury()
    listed = [name for name in queue.pipelines() if name.startswith(pipeline + "-")]
    assert listed == sorted(others)
    assert held is not None


def test_the_latest_pulse_of_a_process_is_kept(queue: Queue, rival: Queue, pipeline: str):
    if not queue.capabilities.tables:
        with pytest.raises(NotSupported):
            queue.pulses()
        return
    pulse = Pulse(host="web1", process=f"{pipeline}:00", pid=7, pipeline=pipeline, state="idle")
    queue.publish(pulse)
    queue.publish(Pulse(host="web1", process=pulse.process, pid=8, pipeline=pipeline, state="busy", job=3))
    found = [p for p in rival.pulses() if p.process == pulse.process]
    assert [(p.pid, p.state, p.job) for p in found] == [(8, "busy", 3)]
    assert 0 <= found[0].age < 5


def test_info_tells_server_and_durability(queue: Queue):
    info = queue.info()
    assert info.backend in ("sqlite", "postgresql", "mysql", "mariadb", "beanstalkd")
    assert info.version
    assert info.durability in ("memory", "process", "server", "power", "replicated")
    assert info.schema_found == info.schema_wanted
    has_own_clock = info.backend in ("postgresql", "mysql", "mariadb")
    assert info.clock_ahead == (pytest.approx(0, abs=0.01) if has_own_clock else None)  # on this host, here


@pytest.mark.parametrize("state", ["ready", "delayed", "buried"])
def test_all_jobs_can_be_looked_at_a_page_at_a_time(queue, pipeline, state):
    """With *above*, in the order of ids, whatever their priority; beanstalkd shows the first only."""
    if not queue.capabilities.lists:
        with pytest.raises(NotSupported):
            queue.peek(pipeline, state, 2, above=0)
        return
    ids = [
        queue.put(pipeline, n, priority=9 - n, delay=60 + 9 - n if state == "delayed" else 0)
        for n in range(5)
    ]
    if state == "buried":
        queue.settle(buried=queue.reserve_many(pipeline, 5))
    seen: list[int] = []
    while page := queue.peek(pipeline, state, 2, above=seen[-1] if seen else 0):
        seen += [job.id for job in page]
    assert seen == ids


def test_a_look_tells_since_when_a_job_is_ready_or_buried(queue, pipeline):
    """`waited` of a job that was peeked at, where the server shows more than the first."""
    if not queue.capabilities.lists:
        pytest.skip("beanstalkd tells the age since the put only")
    queue.put_many(pipeline, [1, 2])
    time.sleep(0.3)
    job = queue.reserve(pipeline)
    before = time.monotonic()
    job.bury()
    assert 0.25 < queue.peek_ready(pipeline).waited < 30
    assert queue.peek_buried(pipeline).waited < time.monotonic() - before + 0.05
