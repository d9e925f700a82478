"""The engine behind `queue.consume` and the worker, over a real SQLite file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fleet.errors import BackendUnavailable, OutcomeUnknown, SchemaError
from fleet.queue import Queue
from fleet.queue.consumer import SLICE, Consumer
from fleet.queue.hand import Hand
from fleet.queue.job import Job, Settlement
from fleet.queue.outage import Outage
from fleet.queue.pace import MAX_BATCH, Pace, pause_after
from tests.waiting import eventually


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'queue.db'}"


def done(job: Job) -> Settlement:
    return Settlement(job=job, verb="delete")


# -- the loop in three lines


def test_a_body_that_comes_back_has_done_the_job(queue: Queue) -> None:
    """Each job once, in order, deleted; the loop ends when nothing came for `idle` seconds."""
    ids = queue.put_many("emails", range(300))

    assert [job.id for job in queue.consume("emails", idle=0)] == ids
    assert queue.stats("emails").ready == queue.stats("emails").reserved == 0


def test_a_body_may_settle_the_job_itself(queue: Queue) -> None:
    """Through the job or through the queue; the loop then leaves it alone and tells of no lost lease."""
    queue.put_many("emails", ["delete", "release", "bury", "queue", "settle"])
    for job in queue.consume("emails", idle=0):
        match job.data:
            case "delete":
                job.delete()
            case "release":
                job.release(delay=60)
            case "bury":
                job.bury("no such address")
            case "queue":
                queue.delete(job)
            case "settle":
                queue.settle(deleted=[job])

    stats = queue.stats("emails")
    assert (stats.ready, stats.delayed, stats.reserved, stats.buried) == (0, 1, 0, 1)
    buried = queue.peek_buried("emails")
    assert buried is not None and buried.reason == "no such address"


def test_a_body_that_raises_releases_the_job_in_hand(queue: Queue) -> None:
    """The attempt counts; what was claimed ahead goes back without one."""
    queue.put_many("emails", range(40))

    def work() -> None:
        for job in queue.consume("emails", idle=0):
            if job.data == 20:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        work()
    left = queue.peek("emails", "ready", 100)
    assert [(job.data, job.attempt) for job in left] == [(20, 1)] + [(n, 0) for n in range(21, 40)]


def test_a_child_that_the_body_forked_is_no_second_worker(queue: Queue) -> None:
    """It has a copy of what was claimed ahead, and could not even tell the server."""
    queue.put_many("emails", range(40))
    parent, child, seen = os.getpid(), 0, []
    for job in queue.consume("emails", idle=0):
        seen.append(job.data)
        if job.data == 30:
            child = os.fork()
    if os.getpid() != parent:
        os._exit(len(seen))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 31
    assert seen == list(range(40))
    assert queue.stats("emails").ready == queue.stats("emails").reserved == 0


def test_pipelines_are_served_in_strict_order(queue: Queue) -> None:
    """The first is emptied before the next is looked at."""
    queue.put_many("later", range(3))
    queue.put_many("first", range(3))

    names = [job.pipeline for job in queue.consume("first", "later", idle=0)]
    assert names == ["first"] * 3 + ["later"] * 3


def test_a_script_ends_after_the_job_in_hand(queue: Queue, dsn: str, tmp_path: Path) -> None:
    """SIGTERM in the middle of a job: it is done, the next is not begun, the exit code is 0."""
    queue.put_many("emails", range(50))
    script = tmp_path / "script.py"
    script.write_text(
        "import fleet, sys\n"
        f"for job in fleet.connect({dsn!r}).consume('emails'):\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.readline()\n"
        "print('after', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)

    said, _ = process.communicate("done\n", timeout=20)
    assert said == "after\n"
    assert process.returncode == 0
    assert queue.stats("emails").ready == 49


def test_signal_handlers_are_put_back(queue: Queue) -> None:
    """The loop borrows SIGTERM and SIGINT, and returns them."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    queue.put("emails", 1)
    for _ in queue.consume("emails", idle=0):
        assert signal.getsignal(signal.SIGTERM) != before[0]

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_it_works_outside_of_the_main_thread(queue: Queue) -> None:
    """Only without signals: Python delivers them to the main thread alone."""
    queue.put_many("emails", range(10))
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(job.data for job in queue.consume("emails", idle=0)))
    thread.start()
    thread.join(10)
    assert seen == list(range(10))


def test_a_supervised_script_publishes_its_pulse(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under supervisord's name; by itself it publishes none."""
    for _ in queue.consume("emails", idle=0.05):
        pass
    assert queue.pulses() == []

    monkeypatch.setenv("SUPERVISOR_PROCESS_NAME", "emails_01")
    monkeypatch.setenv("SUPERVISOR_GROUP_NAME", "shop-emails")
    queue.put("emails", 1)
    for job in queue.consume("emails", idle=0.05):
        pulse = eventually(queue.pulses)[0]
        assert (pulse.process, pulse.pid, pulse.pipeline) == ("shop-emails:emails_01", os.getpid(), "emails")
        assert pulse.rss > 1_000_000
        assert job.data == 1


# -- claims and settlements


def _do_short_jobs(consumer: Consumer) -> Job:
    """Sixty of them, so that it claims far ahead; the last one."""
    for _ in range(60):
        job = consumer.take(1)
        assert job is not None
        consumer.settle(done(job))
    return job


def test_a_stuck_slot_gives_back_what_it_claimed_ahead(queue: Queue, rival: Queue) -> None:
    """After 50 ms in one job the jobs behind it are ready for others, with no attempt counted."""
    queue.put_many("emails", range(200))
    consumer = Consumer(queue, ("emails",))
    try:
        _do_short_jobs(consumer)
        assert consumer.take(1) is not None  # and now a long one
        others = eventually(lambda: rival.reserve_many("emails", 200) or None)
        eventually(lambda: queue.stats("emails").reserved == len(others) + 1)
        assert {job.attempt for job in others} == {1}
    finally:
        consumer.close()


def test_a_job_that_settled_itself_is_counted_wherever_jobs_are(queue: Queue) -> None:
    """In the tally, which the pulse and the log tell, as in the minutes."""
    queue.put("emails", None)
    consumer = Consumer(queue, ("emails",), pulse=True)
    job = consumer.take(0)
    assert job is not None
    job.delete()
    consumer.forget(job)
    consumer.close()
    (pulse,), (minute,) = queue.pulses(), queue.minutes(3600)
    assert consumer.tally.done == pulse.done == minute.done == 1


def test_a_finished_job_is_settled_while_the_next_one_runs(queue: Queue, rival: Queue) -> None:
    """Its result does not wait for the slot to come back from the job that was claimed beside it."""
    queue.put_many("emails", range(200))
    consumer = Consumer(queue, ("emails",))
    try:
        job = _do_short_jobs(consumer)
        assert consumer.take(1) is not None  # and now a long one
        eventually(lambda: rival.find(job.id) is None)
        eventually(lambda: consumer.tally.done == 60)
    finally:
        consumer.close()


def test_a_finished_job_is_settled_while_the_others_run_or_wait(queue: Queue, rival: Queue) -> None:
    """Also when no job is left to claim: by the slot that comes back, or by the one that waits for jobs."""
    queue.put_many("emails", range(2))
    consumer = Consumer(queue, ("emails",), slots=3)
    first, second = consumer.take(1), consumer.take(1)
    assert first is not None and second is not None
    waiter = threading.Thread(target=consumer.take)
    waiter.start()
    try:
        consumer.settle(done(first))
        eventually(lambda: rival.find(first.id) is None, within=SLICE / 2)
        time.sleep(0.1)  # it waits for certain
        consumer.settle(done(second))
        eventually(lambda: rival.find(second.id) is None, within=SLICE / 2)
    finally:
        consumer.close()
        waiter.join()


def test_a_refused_lease_is_not_settled(queue: Queue, rival: Queue) -> None:
    """The handler sees `job.lost`, and its result changes nothing."""
    queue.put("emails", 1, ttr=0.4)
    notes: list[str] = []
    consumer = Consumer(queue, ("emails",), note=notes.append)
    try:
        job = consumer.take(1)
        assert job is not None
        rival.discard("emails", "reserved")
        eventually(lambda: job.lost)
        consumer.settle(done(job))
        assert consumer.tally.lost == 1 and consumer.tally.done == 0
        assert notes and notes[0].startswith("lease-lost job=1")
    finally:
        consumer.close()


def test_stop_gives_back_at_once(queue: Queue) -> None:
    """`take` gives None, the buffer is ready for others, the job in hand can still be settled."""
    queue.put_many("emails", range(10))
    consumer = Consumer(queue, ("emails",), slots=4)
    job = consumer.take(1)
    assert job is not None
    consumer.stop()
    assert consumer.take(1) is None
    eventually(lambda: queue.stats("emails").ready == 9)
    consumer.settle(done(job))
    consumer.close()
    assert consumer.tally.done == 1
    assert queue.stats("emails").reserved == 0


def test_stop_ends_an_idle_wait_at_once(queue: Queue) -> None:
    """A worker that waits for jobs is gone within moments, not when its wait is over."""
    consumer = Consumer(queue, ("emails",))
    ended: list[float] = []

    def slot() -> None:
        assert consumer.take() is None
        ended.append(time.monotonic())

    thread = threading.Thread(target=slot)
    thread.start()
    time.sleep(0.3)  # it waits by now
    asked_at = time.monotonic()
    consumer.stop()
    thread.join(10)
    consumer.close()
    assert ended[0] - asked_at < SLICE / 2


def test_slots_share_one_consumer(queue: Queue) -> None:
    """Many threads, each job once."""
    queue.put_many("emails", range(2000))
    consumer = Consumer(queue, ("emails",), slots=8)
    seen: list[int] = []

    def slot() -> None:
        while (job := consumer.take(1)) is not None:
            seen.append(job.id)
            consumer.settle(done(job))

    threads = [threading.Thread(target=slot) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    consumer.close()
    assert len(seen) == len(set(seen)) == 2000
    assert consumer.tally.done == 2000


# -- outages


class Flaky:
    """A real back end behind a door that can be shut: `error` is raised before, or after, each call."""

    def __init__(self, queue: Queue) -> None:
        self._real = queue.backend
        self.name = self._real.name
        self.capabilities = self._real.capabilities
        self.before: Exception | None = None
        self.after: Exception | None = None

    def __getattr__(self, name: str) -> object:
        method = getattr(self._real, name)

        def through(*args: object, **options: object) -> object:
            if self.before is not None:
                raise self.before
            answer = method(*args, **options)
            if self.after is not None:
                error, self.after = self.after, None
                raise error
            return answer

        return through


def test_an_outage_is_waited_out(queue: Queue) -> None:
    """`take` raises nothing, the state says waiting, one line tells of it, and work goes on afterwards."""
    flaky = Flaky(queue)
    notes: list[str] = []
    consumer = Consumer(Queue(flaky), ("emails",), note=notes.append)  # type: ignore[arg-type]
    try:
        queue.put_many("emails", range(2))
        first = consumer.take(1)
        assert first is not None
        flaky.before = BackendUnavailable("nobody listens")
        consumer.settle(done(first))
        assert consumer.take(0.5) is None
        assert consumer.state == "waiting"
        eventually(lambda: len(notes) == 1)
        assert "back end away since" in notes[0] and "nobody listens" in notes[0]

        flaky.before = None
        second = consumer.take(6)
        assert second is not None and second.data == 1
        assert consumer.tally.done == 1  # the result of the first was not forgotten
        assert queue.find(first.id) is None
        eventually(lambda: len(notes) == 2 and notes[1].startswith("back-end-back"))
    finally:
        consumer.close()


def test_a_settlement_whose_answer_was_lost_is_not_called_a_lost_lease(queue: Queue) -> None:
    """It is sent again, and the refusal only shows that the first time worked."""
    flaky = Flaky(queue)
    notes: list[str] = []
    consumer = Consumer(Queue(flaky), ("emails",), note=notes.append)  # type: ignore[arg-type]
    try:
        queue.put("emails", 1)
        job = consumer.take(1)
        assert job is not None
        flaky.after = OutcomeUnknown("the connection died")
        consumer.settle(done(job))
        consumer.take(0.5)
        eventually(lambda: consumer.tally.done == 1)
        assert consumer.tally.lost == 0
        assert not [note for note in notes if note.startswith("lease-lost")]
    finally:
        consumer.close()


def test_what_waiting_does_not_heal_comes_out(queue: Queue) -> None:
    """Tables that do not fit are no outage."""
    flaky = Flaky(queue)
    consumer = Consumer(Queue(flaky), ("emails",))  # type: ignore[arg-type]
    flaky.before = SchemaError("too new")
    try:
        with pytest.raises(SchemaError):
            consumer.take(1)
            consumer.take(1)
    finally:
        consumer.close()


# -- the pure parts


def test_the_pace_follows_the_handler_within_a_few_jobs() -> None:
    """From one at a time to 128 of the empty kind, and back to one at the first slow ones."""
    pace = Pace()
    assert pace.batch(1) == 1
    for _ in range(40):
        pace.saw(0.00001)
    assert pace.batch(1) == MAX_BATCH
    for _ in range(3):
        pace.saw(0.06)
    assert pace.batch(1) == 1
    assert pace.batch(4) == 3


def test_quick_jobs_between_slow_ones_do_not_make_claims_large() -> None:
    """Every eighth job is slow: what is claimed beyond it would only be given back."""
    pace = Pace()
    sizes = []
    for number in range(200):
        sizes.append(pace.batch(1))
        pace.saw(0.08 if number % 8 == 7 else 0.0001)
    assert max(sizes[8:]) <= 8


def test_pauses_grow_to_five_seconds() -> None:
    """With jitter below, so that a hundred workers do not come back in step."""
    assert [pause_after(n, 0) for n in (1, 2, 3, 6, 7, 50)] == [0.1, 0.2, 0.4, 3.2, 5.0, 5.0]
    assert pause_after(50, 1) == 2.5


def test_an_outage_is_told_once_in_thirty_seconds() -> None:
    """And that it is over, once."""
    outage = Outage()
    assert outage.line(0.0) == outage.end() == ""
    outage.begin(BackendUnavailable("gone"))
    outage.begin(BackendUnavailable("still gone"))
    said = [outage.line(float(now)) for now in range(100, 165, 5)]
    assert [index for index, line in enumerate(said) if line] == [0, 6, 12]
    assert said[0].endswith(": gone")
    assert outage.end().startswith("back-end-back")
    assert outage.end() == ""


def test_a_suspect_is_held_alone() -> None:
    """A job that came back from a dead worker takes no innocents with it."""
    hand = Hand(1)
    hand.pace.mean = 0.00001
    jobs = [Job(n, "emails", b"", ttr=60, token=1, crashes=crashes) for n, crashes in enumerate((0, 0, 2, 0))]

    assert [s.job.id for s in hand.take_in(jobs, 0.0)] == [2, 3]
    assert hand.wanted() == 1  # not to be given back once more behind another job
    hand.empty_buffer()
    assert [s.job.id for s in hand.take_in(jobs[2:], 0.0)] == [3]
    assert hand.wanted() == 1
    hand.empty_buffer()
    grows = []
    for _ in range(8):
        hand.take_in(jobs[3:], 0.0)
        grows.append(hand.wanted())
    assert grows == [2, 4, 8, 16, 32, 64, 128, 128], "among many suspects, little is claimed in vain"


def test_a_claim_that_ate_its_leases_is_followed_by_a_smaller_one() -> None:
    """Else all of a large claim runs out at once, where a slow disk makes each settlement wait."""
    hand = Hand(1)
    hand.pace.mean = 0.00001
    jobs = [Job(n, "emails", b"", ttr=60, token=1) for n in range(100)]

    hand.take_in(jobs, 0.0, took=9.0)
    assert hand.wanted() == 128
    hand.take_in(jobs, 0.0, took=11.0)
    assert hand.wanted() == 50
    hand.take_in(jobs[:3], 0.0, took=11.0)
    hand.take_in(jobs[:1], 0.0, took=11.0)
    assert hand.wanted() == 1
    hand.take_in(jobs[:1], 0.0, took=0.1)
    assert hand.wanted() == 2, "and grows again"


def test_a_lease_that_was_refused_is_not_due_again() -> None:
    """Else the keeper would look for it without a pause until the handler comes back."""
    hand = Hand(2)
    jobs = [Job(n, "emails", b"", ttr=60, token=1, expires_at=60.0 + n) for n in range(2)]
    hand.take_in(jobs, 0.0)
    assert hand.renew_at == 20.0
    assert hand.due_renewals(19.9) == []
    assert hand.due_renewals(20.5) == jobs[:1]

    hand.refused.add(jobs[0])
    hand.plan_renewals()
    assert hand.renew_at == 21.0
    assert hand.due_renewals(30.0) == jobs[1:]


def test_a_refused_job_is_forgotten_with_its_settlement() -> None:
    """One that waits, or is over already, when its renewal is refused: a long life may see many."""
    hand = Hand(2)
    jobs = [Job(n, "emails", b"", ttr=60, token=1, expires_at=60.0) for n in range(2)]
    hand.take_in(jobs, 0.0)
    hand.finish(done(hand.begin(0.0)), 1.0)
    hand.refused.update(jobs)

    assert len(hand.hand_over() + hand.empty_buffer()) == 2
    assert not hand.refused and not hand.held


def test_a_pulse_that_met_a_busy_file_comes_soon(queue: Queue, tmp_path: Path) -> None:
    """It waits for no lock, so it is tried again: an idle worker must not seem silent meanwhile."""
    blocker = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    consumer = Consumer(queue, ("emails",), pulse=True)
    try:
        time.sleep(0.3)  # the first one is refused after 50 ms
        blocker.execute("COMMIT")
        assert eventually(queue.pulses, within=4)
    finally:
        consumer.close()
        blocker.close()


def test_idle_time_is_not_counted_while_the_back_end_is_away(queue: Queue) -> None:
    """A dead server is not an empty queue: the loop goes on waiting."""
    flaky = Flaky(queue)
    flaky.before = BackendUnavailable("gone")

    def come_back() -> None:
        time.sleep(0.6)
        flaky.before = None

    queue.put("emails", 1)
    thread = threading.Thread(target=come_back)
    thread.start()
    jobs = [job.data for job in Queue(flaky).consume("emails", idle=0.1)]  # type: ignore[arg-type]
    thread.join()
    assert jobs == [1]
