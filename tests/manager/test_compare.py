"""The plan: pure, from what is asked for, the files on disk, and what runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.manager.compare import Plan, Running, Step, compare
from fleet.manager.desired import Desired, desired
from fleet.manager.differences import differences
from fleet.manager.places import Place
from fleet.manager.record import Record, Scaled, digest
from fleet.manifest import load
from fleet.supervisor.process import Process, ProcessState

TWO = '[pipelines.emails]\nhandler = "shop:send"\nnumprocs = 4\n[pipelines.pdf]\ncommand = "/bin/sleep 9"\n'
PLACE = Place(url="unix:///s", conf_dir=Path("/etc/conf.d"), main_conf=Path("/etc/s.conf"))
DAEMON = "7@1.00"


@pytest.fixture
def want(tmp_path: Path):
    """What a manifest of these lines asks for."""

    def made(text: str = TWO) -> Desired:
        path = tmp_path / "fleet.toml"
        path.write_text(f'project = "shop"\n{text}')
        return desired(load(path, environ={}), PLACE)

    return made


def runs(wanted: Desired, **down: ProcessState) -> Running:
    """Everything that is wanted runs, but for the processes named (with their state)."""
    processes, revisions = [], {}
    for group, shape in wanted.shapes.items():
        for number, name in enumerate(sorted(shape.processes)):
            state = down.get(
                name.partition("-")[2], ProcessState.RUNNING if name in shape.wanted else ProcessState.STOPPED
            )
            pid = 100 + number if state.is_active else None
            processes.append(Process(group=group, name=name, state=state, pid=pid))
            if pid:
                revisions[f"{group}:{name}"] = shape.revision
    record = Record(
        daemon=DAEMON,
        groups=dict(wanted.shapes),
        files={name: digest(text) for name, text in wanted.files.items()},
    )
    return Running(daemon=DAEMON, processes=tuple(processes), revisions=revisions, record=record)


def plan(wanted: Desired, on_disk: Desired | dict[str, str] | None, running: Running) -> Plan:
    files = on_disk.files if isinstance(on_disk, Desired) else on_disk or {}
    return compare(wanted, files, running, now=1000.0)


def step(found: Plan, pipeline: str) -> Step:
    return next(each for each in found.steps if each.pipeline == pipeline)


def test_what_is_as_it_should_be_needs_no_plan(want) -> None:
    """The same manifest, the same files, everything up."""
    found = plan(want(), want(), runs(want()))
    assert found.is_nothing
    assert found.keeps == 5


def test_the_first_plan_starts_everything(want) -> None:
    """Nothing is on disk, and no supervisord runs."""
    found = plan(want(), None, Running())
    assert {s.pipeline: (s.action, s.starts) for s in found.steps} == {
        "emails": ("add", 4),
        "pdf": ("add", 1),
    }
    assert found.starts_supervisord
    assert found.starts == 5


def test_a_new_number_touches_only_the_difference(want) -> None:
    """4 → 6 starts two, 4 → 3 drains one; the others never stop."""
    more = step(plan(want(TWO.replace("4", "6")), want(), runs(want())), "emails")
    assert (more.action, more.starts, more.drains, more.keeps) == ("start", 2, 0, 4)
    assert more.why == ("numprocs 4 → 6",)
    less = step(plan(want(TWO.replace("4", "3")), want(), runs(want())), "emails")
    assert (less.action, less.starts, less.drains, less.keeps) == ("scale", 0, 1, 3)
    assert less.longest == 95


def test_new_settings_of_a_handler_are_tried_by_one_worker(want) -> None:
    """A command may be the only one of its kind: it has no company, and the plan tells of the gap."""
    new = TWO.replace("shop:send", "shop:mail").replace("sleep 9", "sleep 8")
    found = plan(want(new), want(), runs(want()))
    assert (step(found, "emails").action, step(found, "emails").tried) == ("replace", 1)
    assert step(found, "emails").why == ("handler shop:send → shop:mail",)
    assert (step(found, "pdf").action, step(found, "pdf").tried) == ("replace", 0)
    surge = want(new.replace("numprocs = 4", 'numprocs = 4\nrollout = "surge"'))
    assert (step(plan(surge, want(), runs(want())), "emails").tried) == 4


def test_more_than_the_room_is_a_surge(want) -> None:
    """supervisord cannot add to a group that runs; more of the very same may stand beside it."""
    found = step(plan(want(TWO.replace("4", "9")), want(), runs(want())), "emails")
    assert (found.action, found.tried, found.drains) == ("surge", 9, 4)
    bare = want(TWO.replace("numprocs = 4", "numprocs = 4\nroom = 0"))
    more = want(TWO.replace("numprocs = 4", "numprocs = 5\nroom = 0"))
    assert step(plan(more, bare, runs(bare)), "emails").why == ("numprocs 4 → 5",), "and not: room 0 → 0"


def test_a_pipeline_that_is_gone_drains(want) -> None:
    """Both its processes and its file."""
    found = plan(want(TWO.partition("[pipelines.pdf]")[0]), want(), runs(want()))
    assert (step(found, "shop-pdf").action, step(found, "shop-pdf").drains) == ("remove", 1)
    assert found.remove == ("fleet.shop-pdf.conf",)


def test_drift_shows(want) -> None:
    """A process that somebody stopped, a file that somebody edited, a worker from another time."""
    wanted = want()
    down = step(plan(wanted, wanted, runs(wanted, emails_01=ProcessState.FATAL)), "emails")
    assert (down.action, down.starts, down.why) == ("start", 1, ("1 of 4 is down",))

    files = {**wanted.files}
    files["fleet.shop-pdf.conf"] = files["fleet.shop-pdf.conf"].replace("sleep 9", "sleep 7")
    edited = step(plan(wanted, files, runs(wanted)), "pdf")
    assert "fleet.shop-pdf.conf was edited by hand" in edited.why
    assert edited.action == "rewrite"  # the process itself carries the right mark

    running = runs(wanted)
    old = replace(running, revisions={**running.revisions, "shop-pdf:shop-pdf_00": "other"})
    stale = step(plan(wanted, wanted, old), "pdf")
    assert (stale.action, stale.why) == ("replace", ("1 of 1 run an older revision",))
    leaving = [replace(p, state=ProcessState.STOPPING) if p.group == "shop-pdf" else p for p in old.processes]
    stale = step(plan(wanted, wanted, replace(old, processes=tuple(leaving))), "pdf")
    assert stale.why == ("1 of 1 run an older revision",), "and not 1 of 0, while it drains"


def test_a_restarted_daemon_makes_nobody_restart(want) -> None:
    """The record is void then; the marks of the processes tell what they are."""
    running = replace(runs(want()), daemon="8@2.00")
    assert plan(want(), want(), running).is_nothing
    moved = step(plan(want(TWO.replace("4", "5")), want(), running), "emails")
    assert (moved.action, moved.starts, moved.keeps) == ("start", 1, 4)


def test_a_number_by_hand_holds_until_its_end_or_a_newer_word(want) -> None:
    """Neither started nor drained by an apply meanwhile."""
    wanted = want()
    names = [f"emails_0{n}" for n in (4, 5)]
    running = runs(wanted, **dict.fromkeys(names, ProcessState.RUNNING))

    def scaled(**changes: object) -> Running:
        by_hand = replace(Scaled(number=6, manifest=4), **changes)
        was = replace(
            running.record.groups["shop-emails"], wanted=frozenset(f"shop-emails_0{n}" for n in range(6))
        )
        groups = {**running.record.groups, "shop-emails": was}
        return replace(
            running, record=replace(running.record, groups=groups, scaled={"shop-emails": by_hand})
        )

    assert plan(wanted, wanted, scaled()).is_nothing
    over = plan(wanted, wanted, scaled(until=999.0))
    assert step(over, "emails").drains == 2
    assert "is over" in over.notes[0]
    newer = step(plan(want(TWO.replace("4", "5")), wanted, scaled()), "emails")
    assert newer.drains == 1
    assert newer.why == ("numprocs 4 → 5", "scaled to 6 by hand until now")


def test_a_pending_split_is_told(want) -> None:
    """`supervisorctl update` would take it for a change of the whole group."""
    wanted = want()
    running = runs(wanted)
    emails = running.record.groups["shop-emails"]
    groups = {**running.record.groups, "shop-emails": replace(emails, made=frozenset({"shop-emails_00"}))}
    found = plan(wanted, wanted, replace(running, record=replace(running.record, groups=groups)))
    assert found.is_nothing
    assert "supervisorctl update" in found.notes[0]


def test_a_fingerprint_is_of_everything_but_pids(want) -> None:
    """A worker that made way for a fresh one changes no plan; a stopped one does."""
    wanted = want()
    running = runs(wanted)
    fresh = replace(
        running, processes=tuple(replace(p, pid=p.pid and p.pid + 1000) for p in running.processes)
    )
    first = plan(wanted, wanted, running).fingerprint
    assert plan(wanted, wanted, fresh).fingerprint == first
    for other in (
        plan(want(TWO.replace("4", "5")), wanted, running),
        plan(wanted, {}, running),
        plan(wanted, wanted, runs(wanted, emails_00=ProcessState.STOPPED)),
        plan(wanted, wanted, replace(running, daemon="9@3.00")),
    ):
        assert other.fingerprint != first


def test_differences_are_told_in_the_manifests_words(want) -> None:
    """Values that may be secret are named, never shown."""
    old = '[pipelines.emails]\nhandler = "shop:send"\n'
    more = (
        'timeout = "5m"\nretries = { first = "30s" }\nrecycle = { memory = "300MB" }\n'
        'logs = { keep = 9 }\n[pipelines.emails.environment]\nTOKEN = "hush"\n'
    )
    found = list(differences("shop-emails", want(old).files, want(old + more).files))
    assert found == [
        "logs.keep 5 → 9",
        "environment",
        "recycle.memory – → 300MB",
        "retries.first 10s → 30s",
        "timeout 1m → 5m",
    ]
    fixed = 'timeout = "{}"\nstop = {{ grace = "9m" }}\n'
    found = list(
        differences("shop-emails", want(old + fixed.format("1m")).files, want(old + fixed.format("2m")).files)
    )
    assert found == ["timeout 1m → 2m"]


def test_a_thousand_pipelines_are_planned_in_a_second(tmp_path: Path) -> None:
    """Rendering and planning together; measured at 0.8 s on a busy machine, the limit leaves room for CI."""
    path = tmp_path / "fleet.toml"
    table = '[pipelines.p{}]\ncommand = "/bin/sleep 1"\n'
    path.write_text("".join(table.format(n) for n in range(1000)))
    manifest = load(path, environ={})
    began = time.process_time()
    wanted = desired(manifest, PLACE)
    assert plan(wanted, wanted, runs(wanted)).is_nothing
    assert time.process_time() - began < 2
