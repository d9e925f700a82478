"""What can be learned of a supervisord that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Whoever is to be given more files may end at any moment."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        child.kill()
    assert pids.raise_open_files(child.pid, 5000) == 5000


@contextmanager
def forked() -> Iterator[tuple[int, Callable[[], object]]]:
    """The pid of a child that is still a copy of this process, and what makes it begin its program."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os.execvp("sleep", ["sleep", "1000"])  # noqa: S606
    try:
        yield child, lambda: os.write(writer, b".")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_a_copy_of_its_parent_has_not_begun_its_program() -> None:
    """Between fork and exec."""
    with forked() as (child, begin):
        assert pids.is_a_fork(child)
        begin()
        eventually(lambda: not pids.is_a_fork(child))
    assert not pids.is_a_fork(child)
