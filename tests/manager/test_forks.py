"""What handlers fork: as many processes as they may, and what is left of them at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fleet
from fleet.manager.stop import down
from fleet.supervisor import private
from fleet.supervisor.client import Supervisor
from tests.supervised import add_worker
from tests.supervisord import private_home
from tests.waiting import eventually

_ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))  # of versions 1 and 2
_MOST = 24


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of processes that may hold *_MOST*, threads counted."""
    folder = _made()
    yield folder
    (folder / "pids.max").write_text("0")  # nobody forks any more
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: _is_removed(folder))


def _is_removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # who was killed in it has not quite ended
        folder.rmdir()
        return True
    return False


def _made() -> Path:
    for root in _ROOTS:
        folder = root / f"fleet-test-{os.getpid()}-{time.monotonic_ns()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / "pids.max").exists():
                (folder / "pids.max").write_text(f"{_MOST}")
                return folder
            folder.rmdir()
    pytest.skip("this machine lets nobody make a group of processes")


def test_a_fork_bomb_is_contained_and_ends_with_its_worker(group: Path, tmp_path: Path) -> None:
    """F8: the kernel refuses the rest, another worker works on, and who is interrupted kills them all."""
    with private_home(tmp_path) as home, fleet.connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        for name in ("bombs", "emails"):
            add_worker(home, tmp_path, name, "bomb", grace=1)
        private.start(home)
        queue.put("bombs", str(group))
        refused = group / "pids.events"
        eventually(lambda: "max 0" not in refused.read_text())
        forked = eventually(lambda: (group / "cgroup.procs").read_text().split())
        assert len(forked) > _MOST / 2

        id_ = queue.put("emails", None)
        eventually(lambda: (tmp_path / "out").exists() and str(id_) in (tmp_path / "out").read_text())
        assert [process.full_name for process in Supervisor(home.url).processes() if not process.pid] == []
        assert down(home).left == ()
        eventually(lambda: not (group / "cgroup.procs").read_text())
        job = queue.peek_ready("bombs")
        assert job is not None and job.reason == "interrupted"


def test_a_second_signal_ends_a_worker_that_may_start_no_thread(group: Path, tmp_path: Path) -> None:
    """What its handler forked has taken all processes, and threads count; the job is given back."""
    with private_home(tmp_path) as home, fleet.connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        add_worker(home, tmp_path, "bombs", "bomb", grace=60)
        private.start(home)
        queue.put("bombs", str(group))
        eventually(lambda: "max 0" not in (group / "pids.events").read_text())
        (group / "pids.max").write_text("0")
        (worker,) = Supervisor(home.url).processes()
        os.kill(worker.pid, signal.SIGTERM)
        eventually(lambda: "draining" in Path(worker.logfile).read_text())
        os.kill(worker.pid, signal.SIGTERM)
        job = eventually(lambda: queue.peek_ready("bombs"))
        assert job.reason == "interrupted"
        eventually(lambda: not (group / "cgroup.procs").read_text())
