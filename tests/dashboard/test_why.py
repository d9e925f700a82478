"""Each rule of `fleet why`: what it needs to speak, the numbers it tells, and the command it ends in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from fleet.dashboard.backlog import common
from fleet.dashboard.evidence import Evidence, Finding
from fleet.dashboard.facts import Cause, Health, Snapshot
from fleet.dashboard.why import RULES, lines, why
from fleet.manager.events import Event
from fleet.queue.minutes import BUCKETS, Minute
from tests.dashboard import scenes
from tests.dashboard.scenes import NOON


def evidence(snapshot: Snapshot, name: str, **changes: object) -> Evidence:
    whole = Evidence(
        snapshot=snapshot,
        row=next(row for row in snapshot.pipelines if row.name == name),
        processes=tuple(row for row in snapshot.processes if row.pipeline == name),
        causes=tuple(cause for cause in snapshot.causes if cause.pipeline == name),
        events=snapshot.events,
        timeout=60.0,
        timezone=UTC,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def found(about: Evidence, rule: str) -> Finding:
    return next(finding for finding in why(about) if finding.rule == rule)


def told(finding: Finding) -> str:
    return "\n".join(f"{label} {text}" for label, text in finding.facts)


def minute(ago: int, **changes: object) -> Minute:
    number = int(NOON) // 60 - ago
    values = {"pipeline": "thumbs", "minute": number, "process": "a", "began": number * 60.0, **changes}
    return Minute(**values)  # type: ignore[arg-type]


def runs(count: int) -> tuple[int, ...]:
    return (count, *[0] * (BUCKETS - 1))


def test_nothing_wrong_is_an_answer_with_numbers():
    """Not silence: what runs, what it holds, what it does."""
    (answer,) = why(evidence(scenes.ALL_WELL, "emails"))
    assert answer.rule == "well"
    assert "4 of 4 processes" in told(answer)
    assert "41.2/s, and 41.1/s arrive" in told(answer)
    assert answer.do == ("fleet status emails",)


def test_processes_that_do_not_run_come_first_with_their_last_log_lines():
    """Exit code and log stand next to the state; supervisord itself only says "exited too quickly"."""
    logs = {"reports_01": ["  File reports.py", "KeyError: 'TZ'"]}
    answer = found(evidence(scenes.FATAL, "reports", logs=logs), "not-running")
    assert answer.headline == "2 of 3 processes do not run (1 FATAL, 1 ABSENT)"
    assert "reports_01: FATAL, exit 1; last lines of its log:" in told(answer)
    assert "KeyError: 'TZ'" in told(answer)
    assert answer.do == ("fleet logs reports", "after the fix:  fleet restart reports_01", "fleet up")
    assert why(evidence(scenes.FATAL, "reports"))[0].rule == "not-running"


def test_a_log_that_ends_as_another_is_told_once():
    """Twenty processes that die of one thing are one thing."""
    fatal = scenes.FATAL.processes[0]
    twins = tuple(replace(fatal, name=f"reports_{n:02d}", state="FATAL") for n in range(2))
    logs = {"reports_00": ["at 12:00", "no module shop"], "reports_01": ["at 12:01", "no module shop"]}
    answer = found(evidence(scenes.FATAL, "reports", processes=twins, logs=logs), "not-running")
    assert told(answer).count("no module shop") == 1
    assert "its log ends as that of reports_00" in told(answer)


def test_what_is_replaced_by_a_surge_is_not_missing():
    """Stand-ins do the work meanwhile."""
    own, beside = scenes.ALL_WELL.processes[0], scenes.ALL_WELL.processes[1]
    down = replace(own, state="STOPPED", health=Health.STOPPED)
    stand_in = replace(beside, full_name="shop-emails~new:shop-emails~new_00")
    answers = why(evidence(scenes.ALL_WELL, "emails", processes=(down, stand_in)))
    assert [answer.rule for answer in answers] == ["well"]


def test_a_number_by_hand_is_told_beside_the_manifest_s():
    """What somebody scaled is no trouble; what lacks of it comes back by `scale`."""
    about = evidence(scenes.ALL_WELL, "emails")
    row = replace(about.row, running=3, wanted=3, by_hand=3, reason="scaled to 3 by hand")
    (answer,) = why(replace(about, row=row))
    assert answer.headline == "nothing is wrong"
    assert "runs 3 of 3 processes (scaled to 3 by hand, manifest: 4)" in told(answer)

    one = replace(about.processes[0], state="STOPPED", health=Health.STOPPED)
    answer = found(replace(about, row=row, processes=(one, *about.processes[1:3])), "not-running")
    assert answer.headline == "1 of 3 processes do not run (1 STOPPED)"
    assert "wanted scaled to 3 by hand, manifest: 4" in told(answer)
    assert answer.do == ("fleet scale emails=3",)

    none = replace(row, running=0, wanted=0, by_hand=0, health=Health.STOPPED)
    answer = found(replace(about, row=none, processes=()), "not-running")
    assert (answer.headline, answer.do) == ("scaled to 0 by hand", ("fleet scale emails=4",))


def test_who_stopped_it():
    """A pipeline that was stopped by hand is no riddle."""
    down = tuple(
        replace(row, state="STOPPED", health=Health.STOPPED) for row in scenes.ALL_WELL.processes[:4]
    )
    stop = Event(at=NOON - 600, kind="stop", text="emails", pipelines=("emails",), by="ada")
    answer = found(evidence(scenes.ALL_WELL, "emails", processes=down, events=(stop,)), "not-running")
    assert "stopped at 13:52:31 by ada" in told(answer)
    assert answer.do == ("fleet start emails",)


def test_a_pause_tells_what_waits_and_how_to_end_it():
    """And that jobs go on arriving."""
    answer = found(evidence(scenes.PAUSED, "emails"), "paused")
    assert answer.headline == "no jobs are handed out for another 9m59s"
    assert "1,270 jobs wait" in told(answer)
    assert answer.do == ("fleet resume emails",)
    assert not any(finding.rule == "backlog" for finding in why(evidence(scenes.PAUSED, "emails")))


def test_a_queue_that_is_away_is_told_before_anything_else():
    """With the error and since when."""
    answer = why(evidence(scenes.QUEUE_AWAY, "emails"))[0]
    assert answer.rule == "queue-away"
    assert answer.headline == "the queue does not answer since 14:01:58"
    assert "connection refused" in told(answer)


def test_workers_that_wait_while_the_queue_answers_us():
    """Then it is their network, password or limit of connections."""
    rows = (
        replace(scenes.ALL_WELL.processes[0], doing="waiting", note="back end away since 14:01:00"),
        *scenes.ALL_WELL.processes[1:4],
    )
    answer = found(evidence(scenes.ALL_WELL, "emails", processes=rows), "workers-wait")
    assert answer.headline == "1 of 4 processes wait for the queue"
    assert "back end away since 14:01:00" in told(answer)


def test_buried_jobs_by_cause_since_a_deploy():
    """Count, place, first and last, the newest job, what had been deployed before, and the kick."""
    mark = Event(at=NOON - 1500, kind="up", text="", pipelines=("reports",), by="ada", revision="9f3c1a0")
    newest = {880_112: 'payload {"site": 7}  attempt 5 of 5'}
    answer = found(evidence(scenes.FATAL, "reports", events=(mark,), newest=newest), "buried")
    assert answer.headline == "23 buried, 1 cause since 13:41:07"
    assert "23 × KeyError: 'TZ'   shop/jobs/reports.py:14 build" in told(answer)
    assert "first 13:41:07  last 14:01:44" in told(answer)
    assert 'newest: #880112  payload {"site": 7}  attempt 5 of 5' in told(answer)
    assert "none before the up 9f3c1a0 at 13:37:31 (ada)" in told(answer)
    assert answer.do == (
        """after the fix:  fleet restart reports && fleet jobs kick reports --error "KeyError: 'TZ'\"""",
    )


def test_a_deploy_after_the_first_error_is_not_its_cause():
    """And one of another pipeline neither."""
    late = Event(at=NOON - 100, kind="up", text="", pipelines=("reports",))
    other = Event(at=NOON - 1500, kind="up", text="", pipelines=("emails",))
    answer = found(evidence(scenes.FATAL, "reports", events=(other, late)), "buried")
    assert "none before" not in told(answer)


def test_jobs_buried_before_the_time_asked_for_are_counted_too():
    """23 in the table, 20 of them in the groups: three are older."""
    cause = replace(scenes.FATAL.causes[0], kinds=(("buried", 20),))
    answer = found(evidence(scenes.FATAL, "reports", causes=(cause,)), "buried")
    assert "besides 3 more, put aside over 1h ago, just now, or by hand" in told(answer)
    answer = found(evidence(scenes.FATAL, "reports", causes=()), "buried")
    assert answer.do[0] == "fleet jobs list reports --state buried"
    assert "cause not told: put aside over 1h ago" in told(answer)


def test_only_what_the_queue_can_do_is_advised():
    """beanstalkd keeps no reasons to choose jobs by."""
    answer = found(evidence(scenes.FATAL, "reports", reasons=False), "buried")
    assert answer.do == ("after the fix:  fleet restart reports && fleet jobs kick reports --all",)


def test_attempts_that_fail_before_they_are_buried():
    """A third of the attempts fails: by cause."""
    cause = replace(scenes.FATAL.causes[0], count=92, kinds=(("retried", 92),))
    answer = found(evidence(scenes.FATAL, "reports", causes=(cause,)), "failing")
    assert answer.headline == "31% of the attempts fail and are tried again"
    assert "92 × KeyError: 'TZ'" in told(answer)
    assert answer.do[0] == "fleet logs reports"


def test_more_work_than_the_workers_do():
    """Rates, service time now and before, what piles up, and how many processes would do."""
    before = [minute(ago, done=200, busy=74.0, runs=runs(200)) for ago in range(30, 90)]
    about = evidence(
        scenes.BACKLOG,
        "thumbs",
        minutes=tuple(before),
        oldest_alert=30.0,
        can_scale=True,
        waiting=tuple({"sku": n, "batch": "import-2291" if n % 5 else "x"} for n in range(50)),
    )
    answer = found(about, "backlog")
    assert answer.headline == "the oldest ready job waits 2m31s (alert at 30s), 1,270 are ready"
    text = told(answer)
    assert "arrives 28.4/s" in text
    assert "does 20.9/s" in text
    assert "0.38 s a job (0.37 s before)" in text
    assert "not slower code: more work. 7.5/s piles up" in text
    assert 'source 80% of 50 ready jobs carry batch = "import-2291"' in text
    assert "help 11 processes keep up; 12 empty the backlog in about 10 minutes" in text
    assert answer.do == ("fleet scale thumbs=12",)
    plain = found(replace(about, can_scale=False), "backlog")
    assert plain.do == ("set numprocs = 12 in [pipelines.thumbs], then: fleet up",)


def test_code_that_has_become_slower():
    """The same work takes 3.8 times as long: more workers are not the first thing to try."""
    before = tuple(minute(ago, done=200, busy=20.0, runs=runs(200)) for ago in range(30, 90))
    answer = found(evidence(scenes.BACKLOG, "thumbs", minutes=before, oldest_alert=30.0), "backlog")
    assert "a job takes 3.8 times as long as before" in told(answer)
    assert answer.do[0] == "fleet logs thumbs"


def test_a_backlog_that_drains_says_when():
    """Late, but catching up."""
    row = replace(scenes.BACKLOG.pipelines[1], drains_in=240.0)
    answer = found(evidence(scenes.BACKLOG, "thumbs", row=row, oldest_alert=30.0), "backlog")
    assert "it is catching up: nothing is left in about 4m00s" in told(answer)


def test_slots_of_one_process_count():
    """Ten slots a process: two processes do what twelve would."""
    about = evidence(scenes.BACKLOG, "thumbs", oldest_alert=30.0, concurrency=10)
    assert "2 processes keep up; 2 empty the backlog" in told(found(about, "backlog"))


def test_one_job_that_takes_far_too_long():
    """Which, since when, and when the timeout ends it."""
    slow = replace(
        scenes.ALL_WELL.processes[4], health=Health.SLOW, note="job #881377 runs for 41s, p95 is 0.6s"
    )
    answer = found(evidence(scenes.ALL_WELL, "thumbs", processes=(slow,)), "slow-job")
    assert "thumbs_00: job #881377 runs for 41s" in told(answer)
    assert answer.do[0] == "fleet jobs show 881377"


def test_leases_that_ran_out_crashes_and_timeouts():
    """Each with its number."""
    row = replace(scenes.ALL_WELL.pipelines[1], jobs=replace(scenes.ALL_WELL.pipelines[1].jobs, stale=2))
    late = Cause(
        pipeline="thumbs",
        cause="JobTimeout: the job ran longer than # seconds",
        place="images.py:88 thumb",
        count=5,
        kinds=(("timeout", 5),),
        first_at=NOON - 60,
        last_at=NOON - 5,
    )
    about = evidence(
        scenes.ALL_WELL,
        "thumbs",
        row=row,
        causes=(late,),
        minutes=(minute(3, crashed=4), minute(90, crashed=9)),
    )
    answer = found(about, "leases")
    assert answer.headline == "2 leases are over, 4 crashes, 5 attempts hit the time limit"
    assert "5 attempts ran longer than 1m" in told(answer)
    assert answer.do[-1] == "set timeout higher in [pipelines.thumbs], then: fleet up"


def test_a_clock_that_is_wrong():
    """Told with its effect, which is small: the server's clock decides."""
    rows = (replace(scenes.ALL_WELL.processes[0], host="web2", skew=93.0),)
    answer = found(evidence(scenes.ALL_WELL, "emails", processes=rows), "clocks")
    assert "web2 1m33s behind this host's clock" in told(answer)
    near = (replace(scenes.ALL_WELL.processes[0], skew=1.5),)
    assert all(
        finding.rule != "clocks" for finding in why(evidence(scenes.ALL_WELL, "emails", processes=near))
    )


def test_a_silent_supervisord_is_told_as_such():
    """Nobody knows what runs, so nothing is claimed about processes."""
    answer = found(evidence(scenes.NOTHING_ANSWERS, "emails"), "supervisord-away")
    assert answer.do == ("fleet up",)
    answer = found(evidence(scenes.NOTHING_ANSWERS, "emails", private=False), "supervisord-away")
    assert answer.do == ("fleet doctor",), "one that is not fleet's own, it does not start"


def test_a_backlog_where_nothing_runs_is_no_matter_of_speed():
    """More processes than were stopped would be odd advice."""
    about = evidence(scenes.BACKLOG, "thumbs", oldest_alert=30.0)
    down = tuple(replace(row, state="STOPPED", health=Health.STOPPED) for row in about.processes)
    about = replace(about, row=replace(about.row, running=0), processes=down)
    assert "ready 1,270 wait, the oldest for 2m31s" in told(found(about, "not-running"))
    assert "backlog" not in {finding.rule for finding in why(about)}


def test_what_most_payloads_share_and_not_all():
    """What all share tells nothing."""
    mixed = [{"kind": "thumb", "batch": 7 if n < 8 else n} for n in range(10)]
    assert common(mixed) == ("batch", "7", 0.8)
    assert common([{"kind": "thumb"}] * 20) is None
    assert common([1, "x", None] * 10) is None
    assert common([]) is None


@pytest.mark.parametrize("scene", scenes.SCENES)
@pytest.mark.parametrize("name", ["emails", "thumbs", "reports"])
def test_every_answer_has_numbers_and_ends_in_a_command(scene, name):
    """In every situation: no rule raises, and the last line is something to type."""
    snapshot = scenes.SCENES[scene]
    if not any(row.name == name for row in snapshot.pipelines):
        return
    about = evidence(snapshot, name)
    answers = why(about)
    assert answers
    assert all(finding.facts and finding.do for finding in answers)
    text = lines(about, answers)
    assert text[0].startswith(f"{name} is {about.row.health.value}")
    assert sum(line.startswith("do   ") for line in text) == len(answers)
    assert len(RULES) == 10
