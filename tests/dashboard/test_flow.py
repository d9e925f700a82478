"""Rates and times out of minutes: arithmetic with numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from fleet.dashboard.flow import drains_in, flow, workers_for
from fleet.queue.minutes import BUCKETS, Minute, bucket

NOW = 60_000_030.0  # thirty seconds into a minute
THIS = int(NOW) // 60


def row(ago: int, **changes: object) -> Minute:
    """The minute *ago* minutes back, of one process, counted from its beginning."""
    minute = THIS - ago
    values = {"pipeline": "emails", "minute": minute, "process": "a", "began": minute * 60.0, **changes}
    return Minute(**values)  # type: ignore[arg-type]


def times(seconds: float, count: int) -> tuple[int, ...]:
    buckets = [0] * BUCKETS
    buckets[bucket(seconds)] = count
    return tuple(buckets)


def test_the_rate_is_what_went_out_over_the_time_that_is_covered():
    """Five minutes and the half one under way; buried jobs left the stream too."""
    rows = [row(ago, done=54, buried=6) for ago in range(6)]
    assert flow(rows, NOW).out == pytest.approx(360 / 330)


def test_a_pipeline_that_started_just_now_is_not_averaged_over_five_minutes():
    """Ten seconds at ten a second are ten a second."""
    assert flow([row(0, began=NOW - 10, done=100)], NOW).out == pytest.approx(10.0)


def test_several_processes_add_up():
    """Each writes its own rows."""
    rows = [row(0, process=name, done=30, began=NOW - 30) for name in ("a", "b")]
    assert flow(rows, NOW).out == pytest.approx(2.0)


def test_arrivals_are_departures_and_the_change_of_what_is_held():
    """100 held at first and 400 now: 300 more came in than went out."""
    rows = [row(1, done=60, held=100), row(0, done=30)]
    found = flow(rows, NOW, held=400)
    assert found.arrivals == pytest.approx((90 + 300) / 90)
    assert flow(rows, NOW, held=None).arrivals is None, "too many to count is unknown, not 0"
    assert flow([row(0, done=30)], NOW, held=4).arrivals is None, "nobody sampled"


def test_what_an_operator_deleted_never_makes_arrivals_negative():
    """Then they are at least 0."""
    assert flow([row(1, done=0, held=1000)], NOW, held=0).arrivals == 0.0


def test_waits_runs_and_errors():
    """p50 and p95 within their bucket, mean and share exact."""
    rows = [row(1, done=90, retried=10, failed=10, busy=50.0, waits=times(2.0, 100), runs=times(0.5, 100))]
    found = flow(rows, NOW)
    assert 1 <= (found.wait_p95 or 0) <= 2.1
    assert 0.25 <= (found.run_p50 or 0) <= 0.52
    assert found.run_mean == pytest.approx(0.5)
    assert found.errors == pytest.approx(0.1)
    assert found.busy == pytest.approx(50 / 90)


def test_without_rows_nothing_is_known():
    """A program that sends no pulse has no rates, not rates of 0."""
    assert flow([], NOW).out is None
    assert flow([row(30, done=5)], NOW).out is None


def test_an_earlier_window_can_be_asked_for():
    """For "slower than before?"."""
    rows = [row(20, done=60, busy=30.0, runs=times(0.5, 60)), row(0, done=60, busy=6.0, runs=times(0.1, 60))]
    before = flow(rows, NOW, window=600, until=NOW - 900)
    assert before.run_mean == pytest.approx(0.5)
    assert flow(rows, NOW).run_mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ready", "out", "arrivals", "seconds"),
    [
        (0, 1.0, 5.0, 0.0),
        (60, 3.0, 1.0, 30.0),
        (60, 1.0, 1.0, float("inf")),
        (60, 1.0, 3.0, float("inf")),
        (None, 3.0, 1.0, None),
        (60, 3.0, None, None),
    ],
)
def test_when_the_backlog_is_gone(ready, out, arrivals, seconds):
    """ready / (out - in), or never."""
    held = None if arrivals is None else round(100 + (arrivals - out) * 90)
    rows = [row(1, done=round(out * 90), held=100)]
    assert drains_in(ready, flow(rows, NOW, held=held)) == (
        seconds if seconds is None else pytest.approx(seconds)
    )


def test_how_many_workers_are_needed():
    """28.4 a second of 0.38 s each are 10.8 processes; 1,270 more in ten minutes 0.8 besides."""
    assert workers_for(28.4, 0.38) == 11
    assert workers_for(28.4, 0.38, backlog=1270) == 12
    assert workers_for(0.0, 0.38) == 1
