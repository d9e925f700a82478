"""What a process gathers between two writes, and the run directory where there are no tables."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fleet.errors import QueueError
from fleet.queue import Queue, connect, rundir
from fleet.queue.causes import MOST, OTHERS, ErrorGroup
from fleet.queue.consumer import Consumer
from fleet.queue.job import Job, Pulse, Settlement
from fleet.queue.minutes import MINUTE
from fleet.queue.telemetry import Telemetry, sample
from tests.waiting import eventually

PULSE = Pulse(host="web1", process="emails:emails_00", pid=7, pipeline="emails", state="busy")


@pytest.fixture
def queue(tmp_path: Path):
    with connect(f"sqlite:///{tmp_path}/jobs.db?synchronous=normal") as opened:
        yield opened


def group(cause: str, **changes: object) -> ErrorGroup:
    values = {
        "pipeline": "emails",
        "kind": "buried",
        "cause": cause,
        "place": "a.py:1 f",
        "job": 1,
        **changes,
    }
    return ErrorGroup(**values)  # type: ignore[arg-type]


def work(queue: Queue, **options: object) -> None:
    """A consumer that deletes what it gets, until nothing is left."""
    consumer = Consumer(queue, ("emails",), pulse=True, **options)  # type: ignore[arg-type]
    while (job := consumer.take(0.05)) is not None:
        consumer.settle(Settlement(job=job, verb="delete"))
    consumer.close()


def test_a_consumer_writes_what_it_did_in_this_minute(queue):
    """Done, busy, wait and run; the first process of a pipeline says what it holds, too."""
    queue.put_many("emails", range(40))
    queue.put("emails", "later", delay=60)
    work(queue)
    rows = queue.minutes(120)
    assert sum(row.done for row in rows) == 40
    assert sum(sum(row.waits) for row in rows) == 40
    assert sum(sum(row.runs) for row in rows) == 40
    assert {row.pipeline for row in rows} == {"emails"}
    assert rows[0].held is not None


def test_two_pipelines_of_one_consumer_are_counted_apart(queue):
    """Each has its own row."""
    queue.put_many("emails", range(3))
    queue.put_many("thumbs", range(5))
    consumer = Consumer(queue, ("emails", "thumbs"), pulse=True)
    while (job := consumer.take(0.05)) is not None:
        consumer.settle(Settlement(job=job, verb="delete" if job.id % 2 else "bury"))
    consumer.close()
    found = {name: list(queue.minutes(120, name)) for name in ("emails", "thumbs")}
    assert sum(row.out for row in found["emails"]) == 3
    assert sum(row.out for row in found["thumbs"]) == 5
    assert sum(row.buried for rows in found.values() for row in rows) == 4


def test_errors_reach_the_tables_once_each(queue):
    """However often the pulse is written."""
    queue.put_many("emails", range(3))
    consumer = Consumer(queue, ("emails",), pulse=True)
    while (job := consumer.take(0.05)) is not None:
        verdict = Settlement(job=job, verb="bury", reason="KeyError: 'TZ'")
        consumer.settle(verdict, failed=True, error=group("KeyError: 'TZ'", job=job.id))
    consumer.close()
    (found,) = queue.errors(60)
    assert (found.count, found.cause, found.job) == (3, "KeyError: 'TZ'", 3)
    assert sum(row.failed for row in queue.minutes(120)) == 3


def test_a_new_minute_starts_new_rows():
    """The old ones are written once more, and then never again."""
    telemetry = Telemetry(("emails",), "web1", "emails:emails_00", 7)
    telemetry.counts["emails"].done = 5
    telemetry.roll(time.time() + MINUTE)
    telemetry.counts["emails"].done = 2
    rows, _ = telemetry.take()
    assert [row.done for row in rows] == [5, 2]
    assert rows[1].minute == rows[0].minute + 1
    rows, _ = telemetry.take()
    assert [row.done for row in rows] == [2]


def test_what_could_not_be_written_is_kept():
    """A back end that is away costs no number."""
    telemetry = Telemetry(("emails",), "web1", "emails:emails_00", 7)
    telemetry.counts["emails"].done = 5
    telemetry.error(group("x", count=2))
    telemetry.roll(time.time() + MINUTE)
    telemetry.take_back(*telemetry.take())
    telemetry.error(group("x"))
    rows, errors = telemetry.take()
    assert [row.done for row in rows] == [5, 0]
    assert [each.count for each in errors] == [3]


def test_too_many_causes_are_counted_together():
    """A message that never repeats must not fill memory or table."""
    telemetry = Telemetry(("emails",), "web1", "emails:emails_00", 7)
    for number in range(MOST + 30):
        telemetry.error(group(f"cause {'x' * number}"))
    _, errors = telemetry.take()
    assert len(errors) == MOST + 1
    assert next(each for each in errors if each.cause == OTHERS).count == 30


@pytest.mark.parametrize(
    ("process", "counts"), [("emails:emails_00", True), ("emails:emails_03", False), ("pid-47", True)]
)
def test_only_the_first_process_of_a_pipeline_counts_its_jobs(process, counts):
    """Once a minute."""
    telemetry = Telemetry(("emails",), "web1", process, 7)
    assert bool(telemetry.due_samples()) is counts
    assert not telemetry.due_samples()
    telemetry.roll(time.time() + MINUTE)
    assert bool(telemetry.due_samples()) is counts


def test_a_sample_is_what_would_have_to_leave(queue):
    """Buried jobs are not on their way."""
    queue.put_many("emails", range(4))
    queue.put("emails", 0, delay=60)
    queue.reserve("emails").bury()
    queue.reserve("emails")
    assert sample(queue, "emails") == (4, 2)


def test_the_wait_of_a_claim_falls_into_its_buckets():
    """Also when the jobs of one claim waited differently."""
    telemetry = Telemetry(("emails",), "web1", "emails:emails_00", 7)
    telemetry.waited([Job(1, "emails", b"", waited=0.001), Job(2, "emails", b"", waited=100.0)])
    telemetry.waited([Job(3, "emails", b"", waited=100.0), Job(4, "emails", b"", waited=101.0)])
    rows, _ = telemetry.take()
    assert rows[0].waits[0] == 1
    assert sum(rows[0].waits) == 4


def test_the_run_directory_gives_back_what_was_written(tmp_path):
    """Pulse, minutes and errors of every process; errors of one cause are one group."""
    telemetry = Telemetry(("emails",), "web1", "emails:emails_00", 7)
    telemetry.counts["emails"].done = 5
    rows, _ = telemetry.take()
    rundir.write(tmp_path / "run", PULSE, rows, [group("x", count=2)])
    rundir.write(tmp_path / "run", PULSE, rows, [group("x", job=9)])
    other = Pulse(host="web1", process="emails:emails_01", pid=8, pipeline="emails", state="idle")
    rundir.write(tmp_path / "run", other, (), [group("x")])
    told = rundir.read(tmp_path / "run")
    assert [pulse.process for pulse in told.pulses] == ["emails:emails_00", "emails:emails_01"]
    assert [row.done for row in told.minutes] == [5]
    assert [each.count for each in told.errors] == [4]
    assert told.pulses[0].age < 5


def test_a_run_directory_that_is_missing_or_damaged_says_nothing(tmp_path):
    """The dashboard shows a dash, not a traceback."""
    assert rundir.read(tmp_path / "nowhere").pulses == ()
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "y.json").write_text('{"schema": "fleet.run/1", "at": 1, "minutes": [[1]], "pulse": 7}')
    assert rundir.read(tmp_path).pulses == ()


def test_a_run_directory_that_cannot_be_written_is_an_error_of_the_queue(tmp_path):
    """So it is treated like any write that failed this time."""
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueError, match="run directory"):
        rundir.write(tmp_path / "file", PULSE, (), ())


def test_a_run_directory_may_be_swept_by_two_at_once(tmp_path, monkeypatch):
    """One finds a name whose file the other has just removed."""
    monkeypatch.setattr(rundir, "is_time_to_prune", lambda: True)
    (tmp_path / "gone.json").symlink_to("nowhere")
    rundir.write(tmp_path, PULSE, (), ())


def test_a_queue_without_tables_gets_a_run_directory(queue, tmp_path, monkeypatch):
    """As beanstalkd does."""
    from dataclasses import replace

    monkeypatch.setattr(type(queue.backend), "capabilities", replace(queue.capabilities, tables=False))
    queue.put_many("emails", range(3))
    work(queue, run_dir=str(tmp_path / "run"))
    told = eventually(lambda: rundir.read(tmp_path / "run"))
    assert sum(row.done for row in told.minutes) == 3
