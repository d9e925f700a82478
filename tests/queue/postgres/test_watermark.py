"""The watermark below which no claim looks hides nothing for long."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

import fleet
from fleet.errors import (
    QueueError,
)
from fleet.queue import Queue
from fleet.queue.backends.postgres import watermark
from tests.contract import test_model
from tests.queue.postgres.tools import backend

pytestmark = pytest.mark.server


@pytest.fixture
def rescan() -> float:
    """Seconds between two scans from the start: so many that none finds what a claim has overlooked."""
    return 60.0


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch, rescan: float) -> None:
    """As under an old transaction: every scan counts as slow, and the next one is far away."""
    monkeypatch.setattr(watermark, "_SLOW", -1)
    monkeypatch.setattr(watermark, "_SLOW_EACH", 0)
    monkeypatch.setattr(watermark, "_SHARE", 1e9)
    monkeypatch.setattr(watermark, "_RESCAN_SECONDS", rescan)


def _data(queue: Queue, limit: int = 1) -> list[Any]:
    return [job.data for job in queue.reserve_many("emails", limit)]


def _is_marked(queue: Queue) -> bool:
    return backend(queue)._claims.watermarks[("emails",)].is_set()


@pytest.fixture
def ahead(queue: Queue, marked: None) -> Queue:
    """A queue whose claims start above the tenth of twenty jobs."""
    queue.put_many("emails", range(20), priority=100)
    for n in range(10):
        assert _data(queue) == [n]
    assert _is_marked(queue)
    return queue


def test_a_watermark_does_not_hide_what_is_more_urgent(ahead: Queue, rival: Queue):
    rival.put("emails", "urgent", priority=1)
    assert _is_marked(ahead)
    assert _data(ahead, 2) == ["urgent", 10]


def test_a_watermark_does_not_hide_what_was_released_kicked_or_came_due(ahead: Queue, rival: Queue):
    """P8d: each keeps its place, which is below the watermark."""
    delayed = rival.put("emails", "delayed", priority=100, delay=0.2)
    rival.put_many("emails", ["a", "b", "c"], priority=99)
    jobs = rival.reserve_many("emails", 3)
    assert [job.data for job in jobs] == ["a", "b", "c"]
    assert _data(ahead, 2) == [10, 11]
    rival.settle(released=jobs[:1], buried=jobs[1:2])
    rival.kick("emails")
    assert _is_marked(ahead)
    assert _data(ahead, 3) == ["a", "b", 12]
    time.sleep(0.25)
    assert _data(ahead, 8) == [*range(13, 20), "delayed"]
    assert rival.find(delayed) is not None


@pytest.mark.slow
def test_a_watermark_does_not_hide_a_lost_lease(queue: Queue, rival: Queue, marked: None):
    queue.put("emails", "theirs", priority=100, ttr=1.5)
    assert rival.reserve("emails") is not None
    queue.put_many("emails", range(9), priority=100)
    assert [_data(queue) for _ in range(5)] == [[0], [1], [2], [3], [4]]
    assert _is_marked(queue)
    time.sleep(1.5)
    assert _data(queue, 2) == ["theirs", 5]


@pytest.mark.parametrize("rescan", [watermark._RESCAN_SECONDS])
def test_a_put_that_was_under_way_is_hidden_for_a_second_at_most(
    ahead: Queue, postgres_dsn: str, prefix: str, rescan: float
):
    """The race that no rule can see: a lower id commits after higher ones were taken."""
    with psycopg.connect(postgres_dsn) as slow:
        fleet.connect(connection=slow, prefix=prefix).put("emails", "slow", priority=100)
        ahead.put_many("emails", range(20, 2000), priority=100)
        for n in range(10, 25):
            assert _data(ahead) == [n]  # beyond the id that is not there yet
        slow.commit()
        committed = time.monotonic()
    asked = time.monotonic()
    while "slow" not in _data(ahead):
        assert asked - committed < rescan
        time.sleep(0.002)
        asked = time.monotonic()


def test_a_put_that_was_under_way_is_found_as_soon_as_nothing_else_is(
    ahead: Queue, postgres_dsn: str, prefix: str
):
    with psycopg.connect(postgres_dsn) as slow:
        fleet.connect(connection=slow, prefix=prefix).put("emails", "slow", priority=100)
        ahead.put("emails", 20, priority=100)
        assert [_data(ahead) for _ in range(11)] == [[n] for n in range(10, 21)]
        slow.commit()
    assert _is_marked(ahead)
    assert _data(ahead) == ["slow"]


def test_what_was_settled_is_told_though_the_claim_after_it_fails(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """As with a full disk: one statement has settled, and the next, which makes due jobs ready, fails."""
    queue.put("emails", "done")
    job = queue.reserve("emails")
    assert job is not None
    queue.put("emails", "due", delay=0.01)
    time.sleep(0.05)
    admin.execute(f"""
        CREATE FUNCTION {prefix}_refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON {prefix}_jobs FOR EACH ROW
            WHEN (old.state = 1) EXECUTE FUNCTION {prefix}_refuse()""")
    batch = queue.reserve_many("emails", 1, settle=[job])
    assert not batch and not batch.lost
    assert queue.find(job.id) is None
    with pytest.raises(QueueError):  # the next claim meets it
        queue.reserve("emails")
    admin.execute(f"DROP TRIGGER refuse ON {prefix}_jobs")
    assert queue.reserve("emails").data == "due"  # type: ignore[union-attr]


@pytest.mark.timeout(400)
def test_random_stories_end_as_in_the_model_with_a_watermark(
    dsn: str, marked: None, monkeypatch: pytest.MonkeyPatch
):
    """Without the model's moves of the clock: they set instants back, below what was looked at already."""
    monkeypatch.setattr(test_model, "can_advance", lambda dsn: False)
    monkeypatch.setenv("FLEET_MODEL_EXAMPLES", "30")
    test_model.test_random_stories_end_as_in_the_model(dsn)


def test_the_watermark_is_left_alone_while_scans_are_fast(queue: Queue):
    """Without an old transaction every claim looks from the start, so there is nothing to prove."""
    queue.put_many("emails", range(300))
    for _ in range(20):
        queue.settle(deleted=queue.reserve_many("emails", 10))
    assert sum(_is_marked(queue) for _ in range(20)) == 0


def test_due_jobs_are_made_ready_in_steps_and_none_is_left_out_of_order(queue: Queue):
    queue.put_many("emails", range(25_000), delay=0.01, priority=9)
    queue.put("emails", "urgent", delay=0.01, priority=1)
    time.sleep(0.05)
    assert _data(queue) == ["urgent"]
