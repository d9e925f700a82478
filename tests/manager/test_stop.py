"""Stopping: everything at once, each process within its own grace, nothing left behind."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet.errors import Refused
from fleet.manager.actions import Actions
from fleet.manager.rollout import roll_out
from fleet.manager.start import start
from fleet.manager.stop import down, stop
from fleet.manager.stopper import Stopper
from fleet.supervisor import pids, private
from fleet.supervisor.client import Supervisor
from fleet.supervisor.lock import LOCK, locked
from fleet.supervisor.private import Home
from fleet.supervisor.process import ProcessState
from tests.supervisord import VERSIONS, private_home, python_with
from tests.waiting import eventually

# Says its last word after a drain, as a worker that finishes the job in hand.
WORKER = """\
import signal, sys, time
def leave(*_):
    time.sleep(float(sys.argv[1]))
    print("finished", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True:
    time.sleep(60)
"""

Begin = Callable[..., Home]


@pytest.fixture(params=VERSIONS)
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Begin]:
    """Starts a supervisord with groups of one worker each, and waits until they are ready."""
    (tmp_path / "worker.py").write_text(WORKER)
    with private_home(tmp_path) as home:

        def starter(groups: int, drain: float, grace: int = 20, autorestart: str = "true") -> Home:
            for number in range(groups):
                (home.conf_dir / f"g{number}.conf").write_text(
                    f"[program:g{number}]\ncommand={sys.executable} {tmp_path}/worker.py {drain}\n"
                    f"stopwaitsecs={grace}\nautorestart={autorestart}\nredirect_stderr=true\n"
                    f"stdout_logfile={home.state_dir}/logs/g{number}.log\n"
                )
            private.start(home, python=python_with(request.param))
            eventually(lambda: [said(home, n) for n in range(groups)] == ["ready"] * groups, within=90)
            eventually(lambda: all(p.state is ProcessState.RUNNING for p in Supervisor(home.url).processes()))
            return home

        yield starter


def said(home: Home, number: int) -> str:
    path = home.state_dir / "logs" / f"g{number}.log"
    return path.read_text().split()[-1] if path.exists() and path.stat().st_size else ""


def workers(home: Home) -> tuple[pids.Process, ...]:
    return pids.mark(process.pid for process in Supervisor(home.url).processes() if process.pid)


def test_ten_groups_drain_together(begin: Begin) -> None:
    """supervisord by itself stops one group after another: these would take ten seconds and more."""
    home = begin(10, drain=1)
    going = workers(home)
    began = time.monotonic()
    result = down(home)

    assert time.monotonic() - began < 10  # their sum
    assert len(result.stopped) == 10
    assert result.pid
    assert not any(pids.alive(worker) for worker in going)
    assert [said(home, number) for number in range(10)] == ["finished"] * 10
    assert private.find(home) is None
    assert not home.socket.exists()


def test_down_of_nothing_says_so(tmp_path: Path) -> None:
    """No state folder, and a folder without a daemon, are both no error."""
    assert not down(private.home(tmp_path / ".fleet")).ran
    with private_home(tmp_path) as home:
        assert not down(home).ran


def test_now_kills_at_once(begin: Begin) -> None:
    """The job in hand is not waited for."""
    home = begin(2, drain=30)
    began = time.monotonic()
    result = down(home, now=True)
    assert time.monotonic() - began < 15  # supervisord itself would kill after 20 s
    assert len(result.stopped) == 2
    assert said(home, 0) == "ready"


def test_a_worker_that_overstays_its_grace_is_killed_by_supervisord(begin: Begin) -> None:
    """Nobody waits longer than stopwaitsecs."""
    home = begin(1, drain=30, grace=1)
    began = time.monotonic()
    down(home)
    assert time.monotonic() - began < 15  # half of the drain
    assert said(home, 0) == "ready"


def test_a_time_out_leaves_the_rest_in_supervisords_care(begin: Begin) -> None:
    """Its daemon must not end before it: a second down finishes."""
    home = begin(1, drain=4)
    result = down(home, timeout=0.2)
    assert result.left == ("g0:g0",)
    assert result.stopped == ()
    assert private.find(home) is not None
    assert down(home).ran
    assert said(home, 0) == "finished"


def test_a_stop_leaves_the_others_alone(begin: Begin) -> None:
    """Only what was named stops, and it can be started again."""
    home = begin(3, drain=0.1)
    client = Supervisor(home.url)
    before = {process.name: process.pid for process in client.processes()}
    result = stop(client, ["g0:g0", "g2:g2"])
    after = {process.name: process.pid for process in client.processes()}

    assert result.stopped == ("g0:g0", "g2:g2")
    assert after == {"g0": None, "g1": before["g1"], "g2": None}
    assert start(client, ["g0:g0"], timeout=10).up == ("g0:g0",)
    down(home)


def test_a_worker_that_recycles_while_everything_stops_does_not_come_back(begin: Begin) -> None:
    """An EXITED process takes no stop call, and autorestart would start it on the next turn."""
    home = begin(3, drain=0)
    for worker in workers(home):
        worker.send_signal(signal.SIGTERM)  # leaves by itself, at the worst moment
    result = down(home)
    assert result.left == ()
    assert not any(pids.alive(worker) for worker in pids.mark(_recent(home)))


@contextmanager
def slow_to_begin(tmp_path: Path, version: str, conf: str) -> Iterator[Supervisor]:
    """A supervisord whose children close many descriptors before they run their own code."""
    with private_home(tmp_path, {"g.conf": conf}) as home:
        most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 20_000)
        text = home.main_conf.read_text()
        home.main_conf.write_text(text.replace("[supervisord]\n", f"[supervisord]\nminfds={most}\n"))
        private.start(home, python=python_with(version))
        yield Supervisor(home.url)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_signal_that_nobody_heard_is_sent_again(version: str, tmp_path: Path) -> None:
    """A child that has not begun its program hears nothing."""
    group = "[program:g]\ncommand=/bin/sleep 999\nprocess_name=g_%(process_num)02d\nnumprocs=5\n"
    with slow_to_begin(tmp_path, version, f"{group}autostart=false\nstopwaitsecs=60\n") as client:
        names = [process.full_name for process in client.processes()]
        client.start(names)
        began = time.monotonic()
        (result,) = roll_out(client, Actions(remove=("g",)), {}, {}, client.processes(), timeout=20)
        assert result.drained == len(names)
        assert time.monotonic() - began < 50  # then supervisord kills


def test_of_many_each_has_the_time_when_it_was_told(tmp_path: Path) -> None:
    """Telling a thousand takes a second: how young the first were when they were told is judged by that."""
    many = "[program:g]\ncommand=/bin/true\nprocess_name=g_%(process_num)03d\nnumprocs=60\nautostart=false\n"
    with private_home(tmp_path, {"g.conf": many}) as home:
        private.start(home)
        client = Supervisor(home.url)
        call = client._transport.call

        def far_away(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.1)
            return call(*arguments, **options)

        client._transport.call = far_away  # type: ignore[method-assign]
        stopper = Stopper(client)
        names = [f"g:g_{number:03d}" for number in range(60)]
        stopper.stop(names)
        assert stopper._told[names[0]] + 0.2 <= stopper._told[names[-1]]


def test_one_that_had_not_begun_its_program_is_told_again_however_old_it_is(tmp_path: Path) -> None:
    """On a busy machine a child is a copy of supervisord for seconds, and swallows its signals."""
    conf = "[program:g]\ncommand=/bin/sleep 999\nautostart=false\nstopwaitsecs=60\n"
    with slow_to_begin(tmp_path, VERSIONS[-1], conf) as client:
        daemon = psutil.Process(client.state().pid)

        def stopped_before_it_began() -> psutil.Process | None:
            client.start(["g:g"])
            for child in daemon.children():
                child.suspend()
                if pids.is_a_fork(child.pid):
                    return child
                child.kill()
                child.resume()
            return None

        child = eventually(stopped_before_it_began)
        time.sleep(0.6)  # no longer young
        threading.Timer(1, child.resume).start()
        began = time.monotonic()
        assert stop(client, ["g:g"]).stopped == ("g:g",)
        assert time.monotonic() - began < 20


def _recent(home: Home) -> list[int]:
    log = home.logfile.read_text()
    return [int(line.rsplit("pid ", 1)[1]) for line in log.splitlines() if "spawned" in line]


def test_a_daemon_without_its_socket_is_ended_too(begin: Begin) -> None:
    """It cannot be asked, but it can be told."""
    home = begin(1, drain=0.1)
    going = workers(home)
    home.socket.unlink()
    assert down(home).ran
    assert not any(pids.alive(worker) for worker in going)


def test_down_waits_for_a_command_that_works(begin: Begin) -> None:
    """An apply in progress is not cut in two; waiting has an end."""
    home = begin(1, drain=0)
    held, refused = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(home.conf_dir / LOCK, timeout=1):
            held.set()
            refused.wait(30)
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.raises(Refused, match=f"pid {os.getpid()}"):
        down(home, lock_timeout=0.1)
    refused.set()
    assert down(home).ran
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("begin", ["4.3.0"], indirect=True)
def test_a_hundred_groups_stop_in_the_time_of_one(begin: Begin) -> None:
    """100 groups with a drain of 3 s take 3.2 s on a quiet machine; their sum is five minutes."""
    home = begin(100, drain=3)
    began = time.monotonic()
    assert len(down(home).stopped) == 100
    assert time.monotonic() - began < 60
