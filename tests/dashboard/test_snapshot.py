"""The join of a real supervisord and a real queue, and what happens when one of them falls silent."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.dashboard.facts import Health, Snapshot
from fleet.dashboard.snapshot import take
from fleet.errors import BackendUnavailable
from fleet.manager import events, files, record
from fleet.manifest import Manifest, load
from fleet.queue import Queue, connect, rundir
from fleet.queue.causes import ErrorGroup
from fleet.queue.job import Pulse
from fleet.queue.minutes import BUCKETS, Minute
from fleet.supervisor import private
from fleet.supervisor.client import Supervisor
from tests.supervisord import private_home
from tests.waiting import eventually

MANIFEST = """\
version = 1
project = "shop"
[queue]
dsn = "sqlite:///queue.db"
[pipelines.emails]
command = "sleep 1000"
numprocs = 2
room = 2
alerts = { buried = 2, oldest = "60s" }
[pipelines.thumbs]
command = "sleep 1000"
[pipelines.gone]
command = "sleep 1000"
"""

CONF = """\
[program:shop-emails]
command=sleep 1000
numprocs=2
process_name=%(group_name)s_%(process_num)02d
[program:shop-emails-burst]
command=sleep 1000
numprocs=2
numprocs_start=2
process_name=%(group_name)s_%(process_num)02d
autostart=false
[group:shop-emails]
programs=shop-emails,shop-emails-burst
[program:shop-thumbs]
command=sh -c "exit 3"
process_name=%(program_name)s_%(process_num)02d
startretries=0
startsecs=60
[program:redis]
command=sleep 1000
"""


@dataclass(frozen=True)
class There:
    """A place that is a running private supervisord, or nothing at all."""

    url: str
    conf_dir: Path = Path("/nowhere")
    private: bool = True

    def client(self, timeout: float = 0.0) -> Supervisor:
        return Supervisor(self.url, timeout=30.0)  # a busy machine is not what is looked at here


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    return load(tmp_path / "fleet.toml")


@pytest.fixture
def queue(manifest: Manifest) -> Iterator[Queue]:
    with connect(manifest.queue.dsn) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[There]:
    with private_home(tmp_path, {"shop.conf": CONF}) as home:
        private.start(home)
        there = There(home.url, home.conf_dir)
        settled = ["FATAL", "RUNNING", "RUNNING", "RUNNING", "STOPPED", "STOPPED"]
        eventually(lambda: sorted(p.state.value for p in there.client().processes()) == settled)
        yield there


def pulse(manifest: Manifest, place: There, number: int = 0, **changes: object) -> Pulse:
    name = f"shop-emails:shop-emails_{number:02d}"
    pid = next(p.pid for p in place.client().processes() if p.full_name == name)
    whole = Pulse(
        host=socket.gethostname(),
        process=name,
        pid=pid or 0,
        pipeline="emails",
        state="busy",
        job=7,
        job_for=0.5,
        done=100,
        failed=3,
        rate=12.5,
        rss=20_000_000,
        cpu=0.25,
        up=1.0,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def row(snapshot: Snapshot, name: str):
    return next(each for each in (*snapshot.pipelines, *snapshot.processes) if each.name == name)


def test_processes_and_jobs_stand_in_one_row(manifest, queue, place):
    """Numbers equal what was put; foreign programs and idle room are not shown."""
    queue.put_many("emails", [1, 2, 3])
    queue.put("emails", 4, delay=60)
    queue.reserve("emails").bury("no such address")
    queue.reserve("emails")
    snapshot = take(manifest, queue, place)

    emails = row(snapshot, "emails")
    assert (emails.running, emails.wanted, emails.floor, emails.most) == (2, 2, 2, 4)
    assert (emails.jobs.ready, emails.jobs.delayed, emails.jobs.reserved, emails.jobs.buried) == (1, 1, 1, 1)
    assert emails.oldest_ready is not None
    assert [each.name for each in snapshot.processes] == ["emails_00", "emails_01", "thumbs_00", "gone_00"]
    assert all(each.pid for each in snapshot.processes[:2])
    assert emails.rate is None, "nobody told a rate, so there is none"


def scaled_by_hand(place: There, number: int, numprocs: int = 2) -> None:
    """The record that `fleet scale` leaves."""
    daemon = record.identity(place.client().state())
    by_hand = {"shop-emails": record.Scaled(number=number, manifest=numprocs)}
    with files.opened(place.conf_dir, private=True) as folder:
        record.save(folder, "shop", record.Record(daemon=daemon, scaled=by_hand))


def test_processes_are_counted_against_the_number_by_hand(manifest, queue, place):
    """What `fleet scale` stopped is not missing, and what it asked for is."""
    scaled_by_hand(place, 1)
    place.client().start(["shop-emails:shop-emails_02"])
    place.client().stop(["shop-emails:shop-emails_00", "shop-emails:shop-emails_01"])
    eventually(lambda: row(take(manifest, queue, place), "emails").health is Health.OK)
    snapshot = take(manifest, queue, place)
    emails = row(snapshot, "emails")
    assert emails.reason == "scaled to 1 by hand"
    assert (emails.running, emails.wanted, emails.by_hand, emails.floor) == (1, 1, 1, 2)
    assert [each.name for each in snapshot.processes if each.pipeline == "emails"] == ["emails_02"]

    scaled_by_hand(place, 3)
    emails = row(take(manifest, queue, place), "emails")
    assert (emails.health, emails.reason) == (Health.STOPPED, "2 of 3 stopped")
    assert (emails.running, emails.wanted) == (1, 3)
    scaled_by_hand(place, 3, numprocs=4)
    assert row(take(manifest, queue, place), "emails").by_hand is None, "the manifest has a newer word"


def test_words_for_what_is_wrong(manifest, queue, place):
    """FATAL, never applied, and a limit that is exceeded."""
    for _ in range(2):
        queue.put("emails", {})
        queue.reserve("emails").bury("x")
    snapshot = take(manifest, queue, place)
    assert (row(snapshot, "thumbs").health, row(snapshot, "thumbs_00").state) == (Health.FAILING, "FATAL")
    assert row(snapshot, "gone").health is Health.STOPPED
    assert row(snapshot, "gone_00").state == "ABSENT"
    assert row(snapshot, "emails").reason == "2 buried (alert at 2)"
    assert not snapshot.ok


def test_a_pulse_gives_the_worker_s_side(manifest, queue, place):
    """Job, done, failed, rate, cpu and memory come from the worker itself."""
    queue.publish(pulse(manifest, place))
    snapshot = take(manifest, queue, place)
    worker = row(snapshot, "emails_00")
    assert (worker.job, worker.done, worker.failed, worker.doing) == (7, 100, 3, "busy")
    assert (worker.cpu, worker.rss, worker.rate) == (0.25, 20_000_000, 12.5)
    assert row(snapshot, "emails").rate == 12.5


def test_the_rate_follows_the_difference_of_two_pulses(manifest, queue, place):
    """A change shows at once, where the worker's own average needs a minute."""
    queue.publish(pulse(manifest, place, done=100))
    first = take(manifest, queue, place)
    earlier = replace(
        first, processes=tuple(replace(p, beat=p.beat - 10 if p.beat else None) for p in first.processes)
    )
    queue.publish(pulse(manifest, place, done=150))
    assert row(take(manifest, queue, place, earlier), "emails").rate == pytest.approx(5.0, rel=0.2)


def test_a_pulse_of_an_earlier_process_does_not_count(manifest, queue, place):
    """After a restart the old pulse is older than the process that stands there now."""
    queue.publish(pulse(manifest, place, done=100))
    eventually(lambda: take(manifest, queue, place).processes[0].uptime >= 2)
    place.client().stop(["shop-emails:shop-emails_00"])
    eventually(lambda: take(manifest, queue, place).processes[0].state == "STOPPED")
    eventually(lambda: queue.pulses()[0].age > 2.5)
    place.client().start(["shop-emails:shop-emails_00"])
    eventually(lambda: take(manifest, queue, place).processes[0].pid)
    assert take(manifest, queue, place).processes[0].done is None


def test_a_program_without_pulses_is_measured_from_outside(manifest, queue, place):
    """psutil gives memory at once, and CPU from the second look on."""
    first = take(manifest, queue, place)
    second = take(manifest, queue, place, first)
    assert row(first, "emails_01").rss > 100_000
    assert row(first, "emails_01").cpu is None
    assert row(second, "emails_01").cpu == pytest.approx(0.0, abs=0.2)


def test_room_in_use_is_wanted_and_shown(manifest, queue, place):
    """Scaled up by hand: 3 of 3 run, and the manifest's floor is still told."""
    place.client().start(["shop-emails:shop-emails_02"])
    snapshot = eventually(lambda: (s := take(manifest, queue, place)).running == 3 and s)
    emails = row(snapshot, "emails")
    assert (emails.running, emails.wanted, emails.floor) == (3, 3, 2)


def test_a_worker_outside_of_supervisord_is_a_row(manifest, queue, place):
    """`fleet work emails` in a terminal sends pulses too."""
    queue.publish(pulse(manifest, place, process=f"pid-{os.getpid()}", pid=os.getpid()))
    snapshot = take(manifest, queue, place)
    assert row(snapshot, f"pid-{os.getpid()}").state == "OUTSIDE"
    assert row(snapshot, "emails").wanted == 2


def test_a_silent_queue_keeps_its_last_numbers_with_their_age(manifest, queue, place):
    """Not an exception, not zero: the last words, since when, and a row that fails."""
    queue.put("emails", {})
    first = take(manifest, queue, place)
    away = BackendUnavailable("connection refused")
    second = take(manifest, away, place, replace(first, taken_at=first.taken_at - 30))
    third = take(manifest, away, place, replace(second, taken_at=second.taken_at - 30))

    assert (second.queue.ok, second.queue.error) == (False, "connection refused")
    assert second.queue.since is not None
    assert third.queue.since == second.queue.since
    assert third.queue.age == pytest.approx(60, abs=15)
    emails = row(third, "emails")
    assert (emails.jobs.ready, emails.jobs_age) == (1, third.queue.age)
    assert emails.health is Health.FAILING
    assert emails.running == 2, "the processes are still seen"
    back = take(manifest, queue, place, third)
    assert back.queue.ok
    assert row(back, "emails").jobs_age == 0


def test_a_silent_supervisord_keeps_its_last_rows(manifest, queue, place):
    """Processes are unknown, not stopped; the queue's numbers stay fresh."""
    first = take(manifest, queue, place)
    nowhere = There("unix:///nowhere/supervisor.sock")
    queue.put("emails", {})
    second = take(manifest, queue, nowhere, replace(first, taken_at=first.taken_at - 30, asked=None))
    assert not second.hosts[0].ok
    assert row(second, "emails").health is Health.UNKNOWN
    assert row(second, "emails").jobs.ready == 1
    assert row(second, "emails_00").age == pytest.approx(30, abs=15)
    never = take(manifest, queue, nowhere)
    assert (never.processes, never.running) == ((), None)


def this_minute() -> int:
    """The minute that runs; where it is nearly over, the next one is waited for."""
    left = 60 - time.time() % 60
    if left < 10:
        time.sleep(left)
    return int(time.time()) // 60


def rows_of_this_minute(**changes: object) -> list[Minute]:
    values = {"pipeline": "emails", "minute": this_minute(), "process": "a", "began": time.time() - 20}
    return [Minute(**{**values, **changes})]  # type: ignore[arg-type]


def test_stand_ins_of_a_surge_are_processes_of_their_pipeline(queue, tmp_path):
    """Not strangers, neither while they run nor just after; what they stand in for may be stopped."""
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    manifest = load(tmp_path / "fleet.toml")
    beside = CONF.replace("[program:redis]", "[program:shop-emails~new]\nnumprocs=2\n"
        "process_name=%(program_name)s_%(process_num)02d")  # fmt: skip
    with private_home(tmp_path, {"shop.conf": beside}) as home:
        private.start(home)
        there = There(home.url)
        names = [f"shop-emails~new:shop-emails~new_0{number}" for number in range(2)]
        eventually(lambda: {p.full_name for p in there.client().processes() if p.uptime}.issuperset(names))
        there.client().stop(["shop-emails:shop-emails_00", "shop-emails:shop-emails_01"])
        for name in names:
            queue.publish(pulse(manifest, there, process=name))

        def replaced() -> Snapshot | None:
            snapshot = take(manifest, queue, there)
            states = [process.state for process in snapshot.processes if process.pipeline == "emails"]
            return snapshot if states == ["STOPPED", "STOPPED", "RUNNING", "RUNNING"] else None

        emails = row(eventually(replaced), "emails")
        assert (emails.running, emails.wanted, emails.health) == (2, 2, Health.OK)
        there.client().stop(names)
        eventually(lambda: all(p.state.is_stopped for p in there.client().processes() if "~new" in p.group))
        there.client().remove_group("shop-emails~new")
        assert {p.state for p in take(manifest, queue, there).processes if p.pipeline == "emails"} == {
            "STOPPED"
        }


def test_a_process_of_the_room_that_was_stopped_just_now_is_no_stranger(manifest, queue, place):
    """Its last pulse is younger than the silence that would tell."""
    queue.publish(pulse(manifest, place, number=2))
    assert "OUTSIDE" not in {process.state for process in take(manifest, queue, place).processes}


def test_rows_of_processes_are_kept_while_nobody_says_anything_new(manifest, queue, place):
    """A hundred pulses are dear to read; the counts of jobs are new each time."""
    queue.publish(pulse(manifest, place))
    first = take(manifest, queue, place)
    dear = replace(first, heard=replace(first.heard, cost=1.0), asked=replace(first.asked, cost=1.0))
    queue.publish(pulse(manifest, place, done=500))
    queue.put("emails", 1)
    again = take(manifest, queue, place, dear)
    assert again.processes == first.processes
    assert row(again, "emails").jobs.ready == 1
    old = replace(dear, heard=replace(dear.heard, at=dear.heard.at - 10))
    assert row(take(manifest, queue, place, old), "emails_00").done == 500


def test_numbers_look_back_over_the_window(manifest, queue, place):
    """A minute, five, or an hour; a job is slow by what is usual, whatever the window."""
    now = this_minute()
    told = [
        Minute(
            pipeline="emails", minute=now - ago, process=name, began=(now - ago) * 60.0, done=60 * (1 + ago)
        )
        for ago in (0, 30)
        for name in ("a", "b")
    ]
    queue.publish(pulse(manifest, place), told)
    hour = take(manifest, queue, place, window=3600.0)
    assert row(hour, "emails").flow.window == 3600.0
    assert row(hour, "emails").flow.out == pytest.approx(
        (120 + 3720) / (30 * 60 + time.time() % 60), rel=0.05
    )
    assert len([each for each in hour.minutes if each.minute == now - 30]) == 1, "they are summed once"
    usual = take(manifest, queue, place, hour)
    assert row(usual, "emails").flow.window == 300.0
    assert sum(row(usual, "emails").flow.per_minute) == 120
    again = take(manifest, queue, place, usual, window=3600.0)
    assert row(again, "emails").flow.out == pytest.approx(row(hour, "emails").flow.out, rel=0.05)


def test_minutes_become_rates_and_times(manifest, queue, place):
    """Out, in, errors, wait, run, and when the backlog is gone."""
    queue.put_many("emails", range(50))
    waits = (0, 40, *[0] * (BUCKETS - 2))
    told = rows_of_this_minute(done=40, failed=2, busy=8.0, waits=waits, runs=waits, held=10, ready=10)
    queue.publish(pulse(manifest, place), told)
    emails = row(take(manifest, queue, place), "emails")
    assert emails.flow.out == pytest.approx(2.0, rel=0.3)
    assert emails.flow.arrivals == pytest.approx(4.0, rel=0.3)
    assert emails.flow.run_mean == pytest.approx(0.2)
    assert emails.flow.errors == pytest.approx(0.05)
    assert emails.drains_in == float("inf")
    assert emails.trail[0][1] == 10
    assert emails.trail[-1][1] == 50
    document = take(manifest, queue, place).to_dict()["pipelines"][0]
    assert (document["drains_in"], document["never_drains"]) == (None, True)
    assert document["rate"]["in"] == pytest.approx(4.0, rel=0.3)
    assert document["wait"]["p95"] < 0.01
    assert row(take(manifest, queue, place), "thumbs").flow.out is None


def test_minutes_that_are_over_are_not_read_again(manifest, queue, place):
    """What is known of them is kept, and the running one is read anew."""
    now = this_minute()
    old = [Minute(pipeline="emails", minute=now - ago, process="a", done=10) for ago in (7, 1, 0)]
    queue.publish(pulse(manifest, place), old)
    first = take(manifest, queue, place)
    queue.publish(pulse(manifest, place), [replace(each, done=20) for each in old])
    fresh = replace(first, minutes_at=time.monotonic())
    assert take(manifest, queue, place, fresh).minutes == first.minutes, (
        "within four seconds nothing is asked"
    )
    later = take(manifest, queue, place, replace(first, minutes_at=first.minutes_at - 10))
    assert [row.done for row in later.minutes] == [10, 20, 20]


def test_supervisord_is_asked_less_often_when_asking_is_dear(manifest, queue, place):
    """A thousand processes are a megabyte of XML: a hundredth of a core is enough for looking."""
    first = take(manifest, queue, place)
    dear = replace(first, asked=replace(first.asked, cost=1.0))
    again = take(manifest, queue, place, dear)
    assert again.asked.at == first.asked.at
    assert again.processes[0].uptime >= first.processes[0].uptime
    cheap = replace(first, asked=replace(first.asked, cost=0.0))
    assert take(manifest, queue, place, cheap).asked.at > first.asked.at


def test_errors_become_causes_of_the_manifest_s_pipelines(manifest, queue, place):
    """Kinds of one cause are one line, the gravest first."""
    group = {"pipeline": "emails", "cause": "KeyError: 'TZ'", "place": "a.py:14 build"}
    errors = [
        ErrorGroup(**group, kind="retried", count=92, job=6),
        ErrorGroup(**group, kind="buried", count=23, job=7),
        ErrorGroup(pipeline="stranger", cause="x", place="", kind="buried"),
    ]
    queue.publish(pulse(manifest, place), (), errors)
    snapshot = take(manifest, queue, place)
    (cause,) = snapshot.causes
    assert (cause.count, cause.kinds) == (115, (("buried", 23), ("retried", 92)))
    assert cause.is_grave
    assert snapshot.to_dict()["errors"][0]["kinds"] == {"buried": 23, "retried": 92}
    assert take(manifest, queue, place, snapshot).causes == snapshot.causes, "not asked again at once"


def test_a_queue_without_tables_is_read_from_the_run_directory(manifest, queue, place, monkeypatch):
    """As with beanstalkd: pulses, minutes and errors of this host's workers."""
    queue.capabilities  # noqa: B018 - the real ones first
    monkeypatch.setattr(type(queue.backend), "capabilities", replace(queue.capabilities, tables=False))
    group = ErrorGroup(pipeline="emails", cause="x", place="", kind="buried")
    rundir.write(manifest.state_dir / "run", pulse(manifest, place), rows_of_this_minute(done=40), [group])
    snapshot = take(manifest, queue, place)
    assert row(snapshot, "emails_00").done == 100
    assert row(snapshot, "emails").flow.out == pytest.approx(2.0, rel=0.3)
    assert [cause.cause for cause in snapshot.causes] == ["x"]


def test_events_are_those_of_the_file_and_those_that_were_seen(manifest, queue, place):
    """In the order of time; what was seen is kept from look to look."""
    events.tell(manifest.state_dir, "up", "emails 2/2", ["emails"])
    first = take(manifest, queue, place)
    away = take(manifest, BackendUnavailable("connection refused"), place, first)
    back = take(manifest, queue, place, away)
    assert [event.kind for event in back.events] == ["up", "away", "well"]
    assert [event["kind"] for event in back.to_dict()["events"]] == ["up", "away", "well"]


def test_a_job_that_takes_far_longer_than_others_makes_its_process_slow(manifest, queue, place):
    """Ten times the p95, and at least half a minute."""
    runs = (0, 0, 40, *[0] * (BUCKETS - 3))
    queue.publish(pulse(manifest, place, job_for=41.0), rows_of_this_minute(done=40, runs=runs))
    snapshot = take(manifest, queue, place)
    assert row(snapshot, "emails_00").health is Health.SLOW
    assert "job #7 runs for 41s" in row(snapshot, "emails").reason


def test_only_a_job_that_outlasts_two_pulses_grows_older_in_between(manifest, queue, place):
    """A worker with jobs of 0.1 s is not seen at one of 2 s because it spoke 2 s ago."""
    queue.publish(pulse(manifest, place, job_for=0.1), rows_of_this_minute())
    queue.publish(pulse(manifest, place, 1, job_for=4.0), rows_of_this_minute())
    time.sleep(0.3)
    snapshot = take(manifest, queue, place)
    assert row(snapshot, "emails_00").job_for == 0.1
    assert row(snapshot, "emails_01").job_for >= 4.3


def test_a_share_of_cpu_is_not_told_of_the_first_milliseconds(manifest, queue, place):
    """A worker's first pulse comes while it starts, at full speed."""
    queue.publish(pulse(manifest, place, cpu=1.1, up=0.02), rows_of_this_minute())
    assert row(take(manifest, queue, place), "emails_00").cpu is None


def test_the_last_line_of_a_log_and_a_clock_that_is_wrong(manifest, queue, place, tmp_path):
    """The file is read where it lies; the worker's clock is compared with ours."""
    queue.publish(pulse(manifest, place, clock=time.time() - 90))
    snapshot = take(manifest, queue, place)
    assert row(snapshot, "emails_00").skew == pytest.approx(90, abs=2)
    path = row(snapshot, "emails_01").logfile
    with open(path, "a") as log:
        log.write("one\ntwo \x1b[31mred\n\n")
    assert row(take(manifest, queue, place, snapshot), "emails_01").log == "two \x1b[31mred"


def test_the_document_has_a_schema_and_is_plain_json(manifest, queue, place):
    """Durations are seconds, times are UTC, and what is unknown is null."""
    document = json.loads(json.dumps(take(manifest, queue, place).to_dict()))
    assert document["schema"] == "fleet.status/1"
    assert document["time"].endswith("Z")
    assert document["hosts"][0]["reachable"] is True
    emails = document["pipelines"][0]
    assert emails["procs"] == {"running": 2, "wanted": 2, "by_hand": None, "floor": 2, "max": 4}
    assert emails["rate"] == {"in": None, "out": None, "errors": None, "now": None}
    assert document["processes"][0]["full_name"] == "shop-emails:shop-emails_00"


def test_the_location_of_the_queue_shows_no_secret(manifest):
    """User, password and options are left out."""
    queue = replace(manifest.queue, dsn="postgresql://shop:s3cret@db.internal/shop?sslmode=require")
    snapshot = take(
        replace(manifest, queue=queue), BackendUnavailable("away"), There("unix:///nowhere/supervisor.sock")
    )
    assert snapshot.queue.name == "postgresql://db.internal/shop"
