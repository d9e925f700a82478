"""The decisions of apply: pure, from frozen values."""

from __future__ import annotations

import os
from dataclasses import replace

import psutil
import pytest

from fleet.manager import record
from fleet.manager.actions import Actions, Shape, actions, shape
from fleet.manager.files import changes as file_changes
from fleet.manager.files import project_of
from fleet.manager.health import Health, advance, give_up
from fleet.manager.record import Record
from fleet.supervisor.client import Changes, DaemonState
from fleet.supervisor.parser import ProcessConfig
from fleet.supervisor.process import Process, ProcessState

CONFIG = ProcessConfig(
    name="a_00",
    command="sleep 1",
    directory=None,
    uid=None,
    umask=None,
    priority=999,
    autostart=True,
    autorestart="true",
    startsecs=1,
    startretries=3,
    exitcodes=[0],
    stopsignal=15,
    stopwaitsecs=10,
    stopasgroup=False,
    killasgroup=True,
    redirect_stderr=True,
    environment={},
    stdout_logfile=None,
    stdout_logfile_maxbytes=0,
    stdout_logfile_backups=0,
    stdout_syslog=False,
    stderr_logfile=None,
    stderr_logfile_maxbytes=0,
    stderr_logfile_backups=0,
    stderr_syslog=False,
)


def group(count: int, room: int = 0, command: str = "sleep 1") -> Shape:
    return shape(
        replace(CONFIG, name=f"a_{n:02d}", autostart=n < count, command=command) for n in range(count + room)
    )


def running(count: int, room: int = 0, state: ProcessState = ProcessState.RUNNING) -> list[Process]:
    idle = Process(group="a", name="", state=ProcessState.STOPPED)
    return [
        replace(idle, name=f"a_{n:02d}", state=state, pid=100 + n)
        if n < count
        else replace(idle, name=f"a_{n:02d}")
        for n in range(count + room)
    ]


def test_what_does_not_run_is_added_and_what_is_gone_is_removed() -> None:
    """A group that is in neither list is nobody's business here."""
    foreign = Process(group="nginx", name="nginx", state=ProcessState.RUNNING, pid=7)
    found = actions({"b": group(1)}, [*running(1), foreign], Changes(added=("b",)), {"a": group(1)})
    assert found == Actions(add=("b",), remove=("a",))


def test_a_group_that_differs_from_what_it_was_made_from_is_replaced() -> None:
    """Whether or not supervisord has read the new file yet."""
    for answer in (Changes(changed=("a",)), Changes()):
        found = actions({"a": group(2, command="new")}, running(2), answer, {"a": group(2)})
        assert found == Actions(replace=("a",))


def test_a_moved_split_starts_or_drains_the_difference() -> None:
    """supervisord calls the group changed; only the number is."""
    answer = Changes(changed=("a",))
    more = actions({"a": group(3, 1)}, running(2, 2), answer, {"a": group(2, 2)})
    assert more == Actions(keep=("a",), start=("a:a_02",))
    less = actions({"a": group(1, 3)}, running(2, 2), answer, {"a": group(2, 2)})
    assert less == Actions(keep=("a",), drain=("a:a_01",))


def test_one_that_is_on_its_way_down_is_started() -> None:
    """Nobody else would: somebody has just told it to stop."""
    found = actions({"a": group(1)}, running(1, state=ProcessState.STOPPING), Changes(), {"a": group(1)})
    assert found == Actions(keep=("a",), start=("a:a_00",))


def test_more_room_waits_and_more_than_the_room_replaces() -> None:
    """A running group cannot be given another process."""
    answer = Changes(changed=("a",))
    assert actions({"a": group(3, 3)}, running(2, 2), answer, {"a": group(2, 2)}).keep == ("a",)
    assert actions({"a": group(5, 5)}, running(2, 2), answer, {"a": group(2, 2)}).replace == ("a",)


def test_without_a_record_supervisords_word_counts() -> None:
    """After a restart of the daemon, or a run that was killed."""
    for known in ({}, {"a": None}):
        assert actions({"a": group(2)}, running(2), Changes(changed=("a",)), known).replace == ("a",)
        assert actions({"a": group(2)}, running(2), Changes(), known).keep == ("a",)


def test_processes_scaled_up_by_hand_stay() -> None:
    """Only a lower number in the manifest drains."""
    assert actions({"a": group(2, 2)}, running(3, 1), Changes(), {"a": group(2, 2)}) == Actions(keep=("a",))


def test_a_record_holds_for_one_run_of_the_daemon_and_ownership_for_ever() -> None:
    """What a new daemon was started with is not what the old one was given."""
    kept = Record(daemon="12@3.40", groups={"a": group(1, 1), "b": None})
    assert record.load(record.dump(kept)) == kept
    assert kept.for_daemon("12@3.40") == kept.groups
    assert kept.for_daemon("13@9.99") == {"a": None, "b": None}


def test_a_clock_that_is_set_makes_no_new_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil tells when a process was started from when the machine was, which a set clock moves."""
    state = DaemonState(state="RUNNING", pid=os.getpid(), version="4.3.0")
    before = record.identity(state)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 1e9)
    assert record.identity(state) == before
    assert record.identity(replace(state, pid=os.getppid())) != before


def test_a_damaged_record_is_an_empty_one() -> None:
    """It costs a restart that was not needed; it never stops an apply."""
    for text in (None, "", "{", "[]", "7", '{"schema": "other"}', '{"schema": "fleet.applied/1"}'):
        assert record.load(text) == Record()


def test_specs_are_written_before_the_confs_that_start_their_workers() -> None:
    """A worker that starts in between finds what it was planned with."""
    rendered = {
        "fleet.a.conf": "1",
        "fleet.a.worker.json": "1",
        "fleet.b.conf": "1",
        "fleet.c.worker.json": "1",
    }
    write, remove = file_changes(rendered, {"fleet.b.conf": "1", "fleet.d.conf": "1"})
    assert write == ("fleet.a.worker.json", "fleet.c.worker.json", "fleet.a.conf")
    assert remove == ("fleet.d.conf",)


def test_a_file_is_ours_by_its_first_line_or_its_schema() -> None:
    """And the project in it must be ours too."""
    line = "; managed by fleet | project {} | pipeline a | rev 1 | edits are overwritten\n[program:a]\n"
    assert project_of("fleet.a.conf", line.format("shop")) == "shop"
    assert project_of("fleet.a.conf", line.format("")) == ""
    assert project_of("fleet.a.conf", "[program:a]\n" + line.format("shop")) is None
    assert project_of("fleet.a.worker.json", '{"schema": "fleet.worker/1", "project": "shop"}') == "shop"
    assert project_of("fleet.a.worker.json", '{"schema": "else"}') is None
    assert project_of("fleet.a.worker.json", "{") is None


def poll(health: Health, state: ProcessState, started_at: int = 1, exitstatus: int = 0) -> Health:
    process = Process(group="a", name="a_00", state=state, started_at=started_at, exitstatus=exitstatus)
    return advance(health, [process])


def test_a_process_that_dies_twice_has_failed() -> None:
    """The same death seen on two polls counts once; supervisord would try for a minute."""
    health = Health(waiting=frozenset({"a:a_00"}))
    for state, started_at in (
        (ProcessState.STARTING, 1),
        (ProcessState.BACKOFF, 1),
        (ProcessState.BACKOFF, 1),
        (ProcessState.STARTING, 3),
    ):
        health = poll(health, state, started_at)
        assert not health.is_settled
    assert poll(health, ProcessState.BACKOFF, 3).failed == {"a:a_00"}
    assert poll(health, ProcessState.RUNNING, 3).up == {"a:a_00"}


def test_a_process_settles() -> None:
    """RUNNING and done are up; FATAL, gone and too late are not."""
    health = Health(waiting=frozenset({"a:a_00"}))
    assert poll(health, ProcessState.EXITED).up
    assert poll(health, ProcessState.FATAL).failed
    assert not poll(health, ProcessState.STOPPED).is_settled  # about to be started
    assert not poll(health, ProcessState.EXITED, exitstatus=1).is_settled
    assert advance(health, []).failed
    assert give_up(health).failed
