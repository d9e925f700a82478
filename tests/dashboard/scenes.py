"""Hand-made snapshots: one value per situation that a person meets."""

from __future__ import annotations

from dataclasses import replace

from fleet.dashboard.facts import (
    ABSENT,
    Alert,
    Cause,
    Health,
    Jobs,
    PipelineRow,
    ProcessRow,
    Snapshot,
    Source,
)
from fleet.dashboard.flow import Flow
from fleet.dashboard.state import QUEUE_AWAY as QUEUE_AWAY_REASON
from fleet.manager.events import Event

NOON = 1_795_528_951.0  # 2026-11-24 14:02:31 UTC


def process(pipeline: str, number: int, **changes: object) -> ProcessRow:
    row = ProcessRow(
        name=f"{pipeline}_{number:02d}",
        full_name=f"shop-{pipeline}:shop-{pipeline}_{number:02d}",
        pipeline=pipeline,
        host="web1",
        state="RUNNING",
        pid=47981 + number,
        uptime=7860.0,
        cpu=0.11,
        rss=48 * 1024**2,
        done=81377 - number,
        failed=9,
        rate=10.3,
        job=881402 + number,
        job_for=0.1,
        doing="busy",
        beat=1.0,
        pulse_age=1.2,
        log=f"2026-11-24T14:02:30.114Z summary done={410 + number} failed=0 buried=0 seconds=10",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def flow(out: float, arrivals: float | None, **changes: object) -> Flow:
    """Five minutes of a pipeline that does *out* jobs a second."""
    whole = Flow(
        span=300.0,
        out=out,
        arrivals=arrivals,
        errors=0.001,
        wait_p50=0.1,
        wait_p95=0.8,
        run_p50=0.05,
        run_p95=0.09,
        run_mean=0.06,
        busy=2.4,
        ended=round(out * 300),
        per_minute=tuple(round(out * each) for each in (61, 58, 60, 63, 59, 60, 61, 30)),
        failed_per_minute=(0, 1, 0, 0, 3, 0, 0, 0),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def trail(*ready: int) -> tuple[tuple[float, int], ...]:
    """Ready jobs over the last five minutes, the last one now."""
    step = 300 / len(ready)
    return tuple((NOON - (len(ready) - 1 - number) * step, each) for number, each in enumerate(ready))


def pipeline(name: str, procs: int, **changes: object) -> PipelineRow:
    row = PipelineRow(
        name=name,
        queue_name=name,
        hosts=("web1",),
        health=Health.OK,
        running=procs,
        wanted=procs,
        floor=procs,
        most=procs * 2,
        jobs=Jobs(ready=12, delayed=30, reserved=4, buried=0, stale=0, cap=100_000),
        oldest_ready=1.0,
        rate=41.2,
        done=325_000,
        failed=31,
        flow=flow(41.2, 41.1),
        drains_in=0.3,
        trail=trail(10, 14, 9, 30, 12, 11, 13, 12),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def _empty(**changes: int) -> Jobs:
    return Jobs(
        **{"ready": 0, "delayed": 0, "reserved": 0, "buried": 0, "stale": 0, "cap": 100_000, **changes}
    )


ALL_WELL = Snapshot(
    taken_at=NOON,
    clock=100.0,
    project="shop",
    queue=Source(name="postgresql://db.internal/shop", ok=True),
    hosts=(Source(name="web1", ok=True),),
    pipelines=(
        pipeline("emails", 4),
        pipeline(
            "thumbs",
            2,
            jobs=_empty(ready=3, reserved=2),
            rate=20.9,
            oldest_ready=0.2,
            done=9001,
            failed=2,
            flow=flow(20.9, 20.7, wait_p50=0.0, wait_p95=0.2, run_p50=0.36, run_p95=0.61, run_mean=0.38),
            drains_in=15.0,
            trail=trail(2, 3, 1, 4, 2, 2, 3, 3),
        ),
        pipeline(
            "reports",
            1,
            jobs=_empty(delayed=7),
            rate=0.0,
            oldest_ready=None,
            done=12,
            failed=0,
            flow=flow(0.0, 0.0, errors=0.0, wait_p50=None, wait_p95=None, run_p50=None, run_p95=None),
            drains_in=0.0,
            trail=trail(0, 0, 0),
        ),
    ),
    processes=(
        *(process("emails", number) for number in range(4)),
        process("thumbs", 0, cpu=0.97, rss=198 * 1024**2, done=9001, job=881377, job_for=0.4),
        process("thumbs", 1, cpu=0.98, rss=212 * 1024**2, done=8991, job=881378, job_for=1.4),
        process("reports", 0, cpu=0.0, done=12, job=None, job_for=0.0, doing="idle", uptime=51.0, log=""),
    ),
    causes=(
        Cause(
            pipeline="emails",
            cause="SMTPServerDisconnected: please run connect() first",
            place="shop/jobs/email.py:52 send",
            count=9,
            kinds=(("retried", 9),),
            first_at=NOON - 3600,
            last_at=NOON - 900,
            job=871_003,
        ),
    ),
    events=(
        Event(
            at=NOON - 231,
            kind="up",
            text="emails 4/4",
            pipelines=("emails",),
            by="ada",
            revision="9f3c1a0",
        ),
    ),
)

_KEY_ERROR = Cause(
    pipeline="reports",
    cause="KeyError: 'TZ'",
    place="shop/jobs/reports.py:14 build",
    count=115,
    kinds=(("buried", 23), ("retried", 92)),
    first_at=NOON - 1284,
    last_at=NOON - 47,
    job=880_112,
    sample="KeyError: 'TZ'",
)

BACKLOG = replace(
    ALL_WELL,
    events=(
        *ALL_WELL.events,
        Event(
            at=NOON - 139,
            kind="slow",
            text="thumbs oldest ready job waits 31s (alert at 30s)",
            pipelines=("thumbs",),
        ),
    ),
    pipelines=(
        ALL_WELL.pipelines[0],
        replace(
            ALL_WELL.pipelines[1],
            health=Health.SLOW,
            reason="oldest ready job waits 2m31s (alert at 30s)",
            jobs=_empty(ready=1270, reserved=2),
            oldest_ready=151.0,
            alerts=(Alert(code="oldest", limit=30, value=151.0),),
            flow=flow(20.9, 28.4, wait_p50=48.0, wait_p95=94.0, run_p50=0.36, run_p95=0.61, run_mean=0.38),
            drains_in=float("inf"),
            trail=trail(0, 90, 200, 330, 480, 600, 900, 1270),
        ),
        ALL_WELL.pipelines[2],
    ),
)

FATAL = replace(
    ALL_WELL,
    causes=(_KEY_ERROR, *ALL_WELL.causes),
    events=(
        *ALL_WELL.events,
        Event(at=NOON - 33, kind="failing", text="reports_01 FATAL · exit 1", pipelines=("reports",)),
    ),
    pipelines=(
        *ALL_WELL.pipelines[:2],
        replace(
            ALL_WELL.pipelines[2],
            health=Health.FAILING,
            reason="reports_01 FATAL: exit 1",
            running=1,
            wanted=3,
            floor=3,
            most=6,
            jobs=_empty(ready=2, delayed=7, reserved=1, buried=23),
            alerts=(Alert(code="buried", limit=1, value=23),),
            rate=0.3,
            oldest_ready=3.0,
            flow=flow(0.3, 0.3, errors=0.31, wait_p50=0.2, wait_p95=1.2, run_p50=4.0, run_p95=22.0),
            drains_in=6.0,
            trail=trail(2, 2, 2, 2),
        ),
    ),
    processes=(
        *ALL_WELL.processes,
        process(
            "reports",
            1,
            state="FATAL",
            health=Health.FAILING,
            pid=None,
            uptime=None,
            cpu=None,
            rss=None,
            done=None,
            failed=None,
            rate=None,
            job=None,
            doing="",
            note="exit 1",
            log="KeyError: 'TZ'",
            pulse_age=None,
            beat=None,
        ),
        process(
            "reports",
            2,
            state=ABSENT,
            health=Health.STOPPED,
            pid=None,
            uptime=None,
            cpu=None,
            rss=None,
            done=None,
            failed=None,
            rate=None,
            job=None,
            doing="",
            log="",
            pulse_age=None,
            beat=None,
        ),
    ),
)

PAUSED = replace(
    ALL_WELL,
    pipelines=(
        replace(
            ALL_WELL.pipelines[0],
            health=Health.PAUSED,
            reason="paused for another 9m59s",
            paused=599.0,
            oldest_ready=45.0,
            jobs=_empty(ready=1270),
            flow=flow(12.0, 41.0),
            drains_in=float("inf"),
            trail=trail(10, 12, 9, 300, 600, 800, 1000, 1270),
        ),
        *ALL_WELL.pipelines[1:],
    ),
)

_AWAY = "cannot connect to db.internal port 5432: connection refused"
QUEUE_AWAY = replace(
    ALL_WELL,
    queue=Source(name="postgresql://db.internal/shop", ok=False, error=_AWAY, since=NOON - 33, age=34.0),
    pipelines=tuple(
        replace(
            row,
            health=Health.FAILING,
            reason=QUEUE_AWAY_REASON,
            jobs_age=34.0,
            rate=None,
            done=None,
            failed=None,
            flow=Flow(),
            drains_in=None,
        )
        for row in ALL_WELL.pipelines
    ),
    processes=tuple(
        replace(row, job=None, doing="", done=None, failed=None, rate=None, pulse_age=None, beat=None)
        for row in ALL_WELL.processes
    ),
)

# Nothing ever answered: the first look of somebody who has not started anything.
NOTHING_ANSWERS = Snapshot(
    taken_at=NOON,
    clock=1.0,
    project="shop",
    queue=Source(
        name="sqlite:///srv/shop/.fleet/queue.db", ok=False, error=r"no such file", since=NOON, age=None
    ),
    hosts=(Source(name="web1", ok=False, error="supervisord does not answer", since=NOON, age=None),),
    pipelines=(
        PipelineRow(
            name="emails",
            queue_name="emails",
            health=Health.FAILING,
            wanted=4,
            reason=QUEUE_AWAY_REASON,
        ),
    ),
)

# Every foreign text tries to break out.
HOSTILE = replace(
    FATAL,
    project="\x1b]0;owned\x07shop",
    pipelines=tuple(
        replace(row, name=f"\x1b[2J\u202e{row.name}漢字", reason="\x1b[31m\r\nboo\u2028" * 30)
        for row in FATAL.pipelines
    ),
    processes=tuple(
        replace(row, name=f"\x9b2J{row.name}", note="\n\n\x1b[H" * 40, log="\x1b]2;x\x07\r" * 30)
        for row in FATAL.processes
    ),
    causes=tuple(
        replace(row, cause="\x1b[2J\u202e" * 20, place="a\nb/\x1b[31m", pipeline=f"\x1b{row.pipeline}漢")
        for row in FATAL.causes
    ),
    events=tuple(replace(event, text="\x1b[H\n" * 30, by="\x07", revision="\x1b") for event in FATAL.events),
)

SCENES = {
    "all-well": ALL_WELL,
    "backlog": BACKLOG,
    "fatal": FATAL,
    "paused": PAUSED,
    "queue-away": QUEUE_AWAY,
    "nothing-answers": NOTHING_ANSWERS,
}
