"""What happens to real workers when their supervisord's clock jumps, or its version changes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from pathlib import Path

import pytest

import fleet
from fleet.errors import SupervisorError
from fleet.manager.start import start
from fleet.manager.stop import down, stop
from fleet.supervisor import pids, private
from fleet.supervisor.client import Supervisor
from fleet.supervisor.process import Process
from tests.supervised import add_worker
from tests.supervisord import VERSIONS, private_home, python_with
from tests.waiting import eventually

# All that supervisord asks; libfaketime would move the workers, too.
_MOVED = """\
import runpy, sys, time
from pathlib import Path

real, offset = time.time, Path(sys.argv.pop(1))
time.time = lambda: real() + float(offset.read_text() or 0)
del sys.argv[1:2]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def with_moved_clock(version: str, folder: Path) -> tuple[str, Path]:
    """A Python whose `time.time` in `-m MODULE` is that many seconds off, and the file that says how many."""
    offset, script, command = folder / "offset", folder / "moved.py", folder / "python"
    offset.write_text("0")
    script.write_text(_MOVED)
    words = shlex.join([python_with(version), str(script), str(offset)])
    command.write_text(f'#!/bin/sh\nshift 2\nexec {words} "$@"\n')  # without -X utf8
    command.chmod(0o700)
    return str(command), offset


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clock_that_jumps_while_a_worker_drains_costs_an_attempt_and_no_job(
    version: str, tmp_path: Path
) -> None:
    """F20: supervisord takes the grace for over and kills; its log says so, and the job counts a crash."""
    python, offset = with_moved_clock(version, tmp_path)
    with private_home(tmp_path) as home, fleet.connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        add_worker(home, tmp_path, "emails", "nap", grace=19)
        private.start(home, python=python)
        id_ = queue.put("emails", 5, ttr=1)  # longer than a busy machine needs to make the clock jump
        eventually(lambda: lines(tmp_path / "begun"))

        def jump(going: tuple[Process, ...]) -> None:
            if going:
                offset.write_text("3600")

        client = Supervisor(home.url)
        assert stop(client, ["emails:emails"], tell=jump).stopped == ("emails:emails",)
        assert lines(tmp_path / "out") == []
        assert "with SIGKILL" in home.logfile.read_text()
        offset.write_text("0")
        assert start(client, ["emails:emails"], timeout=30).up
        (line,) = eventually(lambda: lines(tmp_path / "out"))
        assert line == f"{id_} 2 1 False"
        assert down(home).left == ()


def test_an_upgrade_under_load_costs_no_job_and_none_runs_twice(tmp_path: Path) -> None:
    """F21: 4.2.5 begins anew by SIGHUP, then is killed, and 4.3.0 takes its files over as they are."""
    out = tmp_path / "out"
    with private_home(tmp_path) as home, fleet.connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        add_worker(home, tmp_path, "emails", "nap")
        client = Supervisor(home.url)
        private.start(home, python=python_with("4.2.5"))
        old = pids_of(client)
        queue.put_many("emails", [0.05] * 30)
        eventually(lambda: len(lines(out)) > 5)
        daemon = client.state()
        assert daemon.version == "4.2.5" and daemon.pid
        os.kill(daemon.pid, signal.SIGHUP)  # drains, reads its files again, and keeps its pid
        eventually(lambda: set(up(client)) - set(old))
        eventually(lambda: len(lines(out)) == 30)

        orphans = pids_of(client)
        queue.put_many("emails", [0.05] * 60)
        eventually(lambda: len(lines(out)) > 35)
        os.kill(daemon.pid, signal.SIGKILL)
        private.start(home, python=python_with("4.3.0"))
        assert client.state().version == "4.3.0"
        assert pids.wait_gone(orphans, timeout=30) == ()
        eventually(lambda: len(lines(out)) == 90)
        assert len({line.split()[0] for line in lines(out)}) == 90
        assert down(home).left == ()
        stats = queue.stats("emails")
        assert (stats.ready, stats.delayed, stats.reserved, stats.buried) == (0, 0, 0, 0)


def pids_of(client: Supervisor) -> tuple[pids.Process, ...]:
    return pids.mark(process.pid for process in client.processes() if process.pid)


def up(client: Supervisor) -> tuple[pids.Process, ...]:
    """None while it begins anew."""
    with contextlib.suppress(SupervisorError):
        return pids_of(client)
    return ()
