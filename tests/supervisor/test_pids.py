"""What can be learned of a supervisord that runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.supervisor import pids
from tests.waiting import eventually

WAYS = (
    ["-c", "{here}"],
    ["-c", "{name}"],
    ["-c{name}"],
    ["--configuration={name}"],
    ["--configuration", "{here}"],
)


@pytest.mark.parametrize("options", [*WAYS, []])
def test_the_main_file_is_the_one_it_was_started_with(options: list[str], tmp_path: Path) -> None:
    """Relative to where it was started, in each way that it takes, and where it looks by itself."""
    conf = tmp_path / ("other.conf" if options else "supervisord.conf")
    conf.write_text("[supervisord]\nnodaemon=true\nlogfile=log\npidfile=pid\n")
    words = [option.format(here=conf, name=conf.name) for option in options]
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", *words]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            eventually((tmp_path / "pid").exists)
            assert pids.main_conf(daemon.pid) == conf
            conf.rename(tmp_path / "gone")
            assert pids.main_conf(daemon.pid) == (conf if words and "/" in words[-1] else None)
        finally:
            daemon.terminate()


def test_a_process_that_ends_meanwhile_is_no_error() -> None:
    """Whoever is to be signalled, or given more files, may end at any moment."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        (marked,) = pids.mark([child.pid])
        child.kill()
    pids.tell(marked, signal.SIGTERM)
    assert pids.raise_open_files(child.pid, 5000) == 5000
