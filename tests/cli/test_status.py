"""fleet status in every form, on a real queue, with and without a supervisord."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from fleet.dashboard.columns import PLAIN_PIPELINES
from fleet.queue import connect
from fleet.supervisor import private
from fleet.supervisor.client import Supervisor
from tests.cli.command import FLEET, fleet
from tests.supervisord import private_home
from tests.waiting import eventually

MANIFEST = """\
version = 1
project = "shop"
[queue]
dsn = "sqlite:///queue.db"
[pipelines.emails]
command = "sleep 1000"
alerts = { buried = 1 }
[pipelines.thumbs]
command = "sleep 1000"
"""
CONF = """\
[program:shop-emails]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
[program:shop-thumbs]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    with connect(f"sqlite:///{tmp_path}/queue.db") as queue:
        queue.put_many("emails", [1, 2, 3])
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Path]:
    """The same, with a supervisord where the manifest's own would be."""
    with private_home(folder, {"shop.conf": CONF}) as home:
        private.start(home)
        client = Supervisor(home.url)
        eventually(lambda: [p.state.value for p in client.processes()] == ["RUNNING"] * 2)
        yield folder


def status(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return fleet("status", *words, folder=folder, **env)


def test_piped_it_is_one_plain_table_without_a_single_escape(running):
    """Data on stdout, nothing on stderr, no ANSI: for awk and for mails."""
    ran = status(running)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert rows[0][:4] == ["PIPELINE", "STATE", "PROCS", "READY"]
    assert rows[1][:4] == ["emails", "ok", "1/1", "3"]
    assert rows[2][:4] == ["thumbs", "ok", "1/1", "0"]
    assert len(rows) == 3


def test_a_pipe_has_no_width(folder):
    """COLUMNS is about terminals: for awk no value is cut and no column left out."""
    ran = status(folder, "--once", COLUMNS="40")
    head, *rows = ran.stdout.splitlines()
    assert head.split() == [column.head for column in PLAIN_PIPELINES]
    assert [row.endswith("  supervisord does not answer") for row in rows] == [True, True]


def test_procs_adds_the_processes(running):
    """A second table, an empty line between."""
    ran = status(running, "--procs")
    assert "emails_00" in ran.stdout
    assert ran.stdout.count("RUNNING") == 2


def test_json_is_one_document(running):
    """The schema's name comes with it."""
    document = json.loads(status(running, "--json").stdout)
    assert document["schema"] == "fleet.status/1"
    assert document["ok"] is True
    assert [row["name"] for row in document["pipelines"]] == ["emails", "thumbs"]


def test_only_the_named_pipelines(running):
    """And a wrong name is wrong usage."""
    document = json.loads(status(running, "thumbs", "--json").stdout)
    assert [row["name"] for row in document["pipelines"]] == ["thumbs"]
    ran = status(running, "thumb")
    assert ran.returncode == 2
    assert 'Did you mean "thumbs"?' in ran.stderr


def test_check_is_silent_and_0_or_tells_and_3(running):
    """For cron: no news is good news."""
    ran = status(running, "--check")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    with connect(f"sqlite:///{running}/queue.db") as queue:
        queue.reserve("emails").bury("no such address")
    ran = status(running, "--check")
    assert (ran.returncode, ran.stdout) == (3, "emails: failing: 1 buried (alert at 1)\n")


def test_a_silent_supervisord_is_said_on_stderr_and_is_no_error(folder):
    """status shows trouble with exit 0; only --check fails."""
    ran = status(folder)
    assert ran.returncode == 0
    assert "–/1" in ran.stdout
    assert "no answer from supervisord" in ran.stderr
    assert status(folder, "--check").returncode == 3


@pytest.mark.parametrize("dsn", ["postgresql://fleet@{}/fleet", "mysql://fleet@{}/fleet", "beanstalkd://{}"])
def test_a_queue_that_hangs_is_given_up_after_two_seconds(folder, dsn):
    """It takes the connection and says nothing; the screen has more to show."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        (folder / "fleet.toml").write_text(MANIFEST.replace("sqlite:///queue.db", dsn.format(at)))
        began = time.monotonic()
        ran = status(folder, "--once")
        assert time.monotonic() - began < 12  # 2.4 s on an idle machine; a beanstalkd has 15 elsewhere
    assert ran.returncode == 0
    assert "no answer from the queue: " in ran.stderr


def test_watch_repeats_until_it_is_interrupted(running):
    """One document a line with --json; Ctrl-C ends it with 130."""
    with subprocess.Popen(
        [*FLEET, "status", "--watch", "0.1", "--json"], cwd=running, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lines = [json.loads(child.stdout.readline()) for _ in range(2)]
        assert lines[0]["schema"] == "fleet.status/1"
        child.send_signal(2)
        assert child.wait(60) == 130


@pytest.mark.parametrize("word", ["0", "-1", "often"])
def test_watch_wants_a_sensible_interval(folder, word):
    """reliability C5."""
    assert status(folder, f"--watch={word}").returncode == 2


def spawn(folder: Path, *words: str, **env: str) -> pexpect.spawn:
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    return pexpect.spawn(
        FLEET[0],
        [*FLEET[1:], "status", *words],
        cwd=str(folder),
        env={**clean, "TERM": "xterm-256color", **env},
        dimensions=(24, 80),
        timeout=60,
    )


def test_on_a_terminal_it_is_the_live_screen_and_q_ends_it_with_0(running):
    """The whole way: manifest, supervisord, queue, screen, key."""
    child = spawn(running)
    child.expect_exact("\x1b[?1049h")
    child.expect_exact("emails")
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert b"\x1b[?1049l" in child.before


def test_ctrl_c_ends_the_live_screen_with_130(folder):
    """It also works while nothing answers."""
    child = spawn(folder)
    child.expect_exact("no answer")
    child.send("\x03")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_once_on_a_terminal_without_colour(running, env):
    """A dumb terminal gets the plain table, NO_COLOR the report without colours."""
    child = spawn(running, "--once", **env)
    text = child.read().decode()
    child.close()
    assert child.exitstatus == 0
    assert "emails" in text
    assert "\x1b[3" not in text


def test_once_in_ascii(running):
    """FLEET_ASCII=1: nothing but ASCII, on a terminal too."""
    child = spawn(running, "--once", "--procs", FLEET_ASCII="1")
    assert child.read().decode().isascii()
    child.close()


def test_sigterm_ends_the_live_screen_with_143(running):
    """128 + 15, as the shell would say."""
    child = spawn(running)
    child.expect_exact("emails")
    os.kill(child.pid, 15)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 143
