"""fleet up, down, start, stop, restart and logs, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from fleet.manager.places import place_of
from fleet.manager.stop import down
from fleet.manifest import load
from fleet.supervisor import private
from tests.waiting import eventually

FLEET = str(Path(sys.executable).with_name("fleet"))
MANIFEST = """\
project = "shop"
[pipelines.emails]
command = "{python} -u worker.py"
numprocs = 2
[pipelines.thumbs]
command = "{python} -u worker.py"
stop = {{ grace = "20s" }}
"""
WORKER = """\
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print("finished"), sys.exit(0)))
print("ready", os.environ["SUPERVISOR_PROCESS_NAME"], "\x07")
while True:
    time.sleep(60)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A folder with a manifest of two pipelines; nothing runs in it at the end."""
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "fleet.toml").write_text(MANIFEST.format(python=sys.executable))
    try:
        yield tmp_path
    finally:
        down(private.home(tmp_path / ".fleet"), now=True)


def fleet(shop: Path, *words: str, code: int = 0) -> str:
    """What it says on stdout and stderr together; its exit code must be *code*."""
    done = subprocess.run(
        [FLEET, *words], cwd=shop, text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def pids_below(shop: Path) -> list[int]:
    """Everything that runs from this folder: supervisord and its workers."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        here = str(shop) in words or (process.info["cwd"] or "").startswith(str(shop))
        if here and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def drain_until(go: Path) -> None:
    """From now on a worker that was told to stop is busy until there is a file *go*, or it is killed."""
    busy = f'[time.sleep(0.05) for _ in iter(lambda: os.path.exists("{go}"), True)]'
    worker = go.parent / "worker.py"
    worker.write_text(worker.read_text().replace("time.sleep(0.5)", busy))


def test_up_again_down_and_down_again(shop: Path) -> None:
    """Each says what it did; a second time there is nothing to do, and that is no failure."""
    said = fleet(shop, "up")
    assert "emails" in said
    assert "2/2 running" in said
    assert "3 processes running" in said
    before = pids_below(shop)
    assert len(before) == 4

    assert "nothing to change: 3 processes of 2 pipelines" in fleet(shop, "up")
    assert pids_below(shop) == before

    assert "3 processes stopped, supervisord ended" in fleet(shop, "down")
    assert pids_below(shop) == []
    logs = [path.read_text() for path in sorted((shop / ".fleet" / "logs").glob("*_00.log"))]
    assert [log.split()[-1] for log in logs] == ["finished", "finished"]
    assert "nothing is running" in fleet(shop, "down")


def test_documents(shop: Path) -> None:
    """--json is one document, and its schema has a number."""
    first = json.loads(fleet(shop, "up", "--json"))
    assert first["schema"] == "fleet.up/1"
    assert first["supervisord"]["started"]
    assert {p["pipeline"]: p["action"] for p in first["pipelines"]} == {"emails": "added", "thumbs": "added"}
    assert not json.loads(fleet(shop, "--json", "up"))["changed"]
    last = json.loads(fleet(shop, "down", "--json"))
    assert last["ran"]
    assert len(last["stopped"]) == 3


def test_a_worker_that_cannot_start_ends_in_exit_7_and_its_last_words(shop: Path) -> None:
    """The other pipeline runs all the same."""
    text = (shop / "fleet.toml").read_text()
    (shop / "bad.py").write_text("raise SystemExit('no module named shop')\n")
    (shop / "fleet.toml").write_text(text.replace("worker.py", "bad.py", 1))
    said = fleet(shop, "up", code=7)
    assert "0/2 running" in said
    assert "BACKOFF: Exited too quickly" in said
    assert "no module named shop" in said
    assert "2 of 3 processes did not come up: shop-emails_00, shop-emails_01" in said
    assert "1/1 running" in said


def test_a_manifest_mistake_touches_nothing(shop: Path) -> None:
    """Exit 4, and no supervisord."""
    (shop / "fleet.toml").write_text("[pipelines.emails]\nnumproc = 2\n")
    fleet(shop, "up", code=4)
    assert not (shop / ".fleet").exists()


def test_targets(shop: Path) -> None:
    """start, stop and restart take a pipeline, a process, a glob or all, and say when a name is wrong."""
    assert "nothing runs here" in fleet(shop, "stop", "emails", code=5)
    fleet(shop, "up")
    assert "Add --yes" in fleet(shop, "stop", "emails", code=8)
    assert "2 of 2 processes stopped" in fleet(shop, "stop", "emails", "-y")
    assert "nothing to stop" in fleet(shop, "stop", "emails", "-y")
    assert "1 process running" in fleet(shop, "start", "emails_00")
    assert "2 processes running" in fleet(shop, "start", "emails")
    assert "1 process running" in fleet(shop, "start", "emails_03")  # in the room, by its own name
    before = pids_below(shop)
    assert "1 process stopped" in fleet(shop, "restart", "thumbs_*", "-y")
    assert len(set(before) - set(pids_below(shop))) == 1
    assert "Did you mean 'thumbs'?" in fleet(shop, "start", "thumb", code=2)
    assert "--confirm emails" in fleet(shop, "stop", "emails", "--now", "-y", code=8)
    assert "3 of 3 processes stopped" in fleet(shop, "stop", "emails", "--now", "--confirm", "emails")


def test_commands_at_the_same_time_take_turns(shop: Path) -> None:
    """Several up and a down in between: no double supervisord, no traceback, a clear end."""
    words = ["up", "up", "down", "up"]
    running = [
        subprocess.Popen([FLEET, word], cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for word in words
    ]
    said = [child.communicate(timeout=100)[0] for child in running]
    assert [child.returncode for child in running] == [0, 0, 0, 0], said
    fleet(shop, "up")
    assert len(pids_below(shop)) == 4


@pytest.mark.parametrize(
    "sign", ["conf.d/fleet.shop-thumbs.conf", "supervisord.pid", "logs/shop-thumbs_00.log"]
)
def test_ctrl_c_while_waiting_leaves_what_the_next_up_finishes(sign: str, shop: Path) -> None:
    """Exit 130; supervisord has a session of its own and does not hear the terminal's Ctrl-C."""
    leader, follower = pty.openpty()
    try:
        with subprocess.Popen(
            [FLEET, "up"], cwd=shop, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
        ) as child:
            eventually((shop / ".fleet" / sign).exists)
            os.killpg(child.pid, signal.SIGINT)
            assert child.wait(60) == 130
    finally:
        os.close(leader)
        os.close(follower)
    assert fleet(shop, "up")
    assert len(pids_below(shop)) == 4


def test_ctrl_c_while_a_job_drains_says_who_goes_on(shop: Path) -> None:
    """Exit 130; they were told to stop, and do so: it is an event like any other stop."""
    drain_until(shop / "go")
    fleet(shop, "up")
    eventually(lambda: fleet(shop, "logs", "thumbs").count("ready"))
    child = pexpect.spawn(
        FLEET,
        ["stop", "thumbs", "-y"],
        cwd=str(shop),
        env={**os.environ, "TERM": "xterm"},
        encoding="utf-8",
        timeout=60,
    )
    child.expect_exact("waiting for 1: shop-thumbs_00")
    child.kill(signal.SIGINT)
    child.expect_exact("interrupted\r\nTold to stop, and still busy: shop-thumbs_00\r\n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "stop      thumbs: 1 process" in fleet(shop, "events")


def test_ctrl_c_in_a_restart_says_how_to_go_on(shop: Path) -> None:
    """What was told to stop does, and nobody starts it again."""
    drain_until(shop / "go")
    fleet(shop, "up")
    eventually(lambda: fleet(shop, "logs", "thumbs").count("ready"))
    child = subprocess.Popen([FLEET, "restart", "thumbs", "-y"], cwd=shop, stderr=subprocess.PIPE, text=True)
    client = place_of(load(shop / "fleet.toml", environ={})).client()
    eventually(lambda: any(p.state == "STOPPING" for p in client.processes()))
    child.send_signal(signal.SIGINT)
    assert "stays so: fleet start thumbs" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    (shop / "go").touch()
    assert "1 process running" in fleet(shop, "start", "thumbs")


def test_logs_of_many_are_safe_to_show(shop: Path) -> None:
    """A name before each line, control characters made visible, only what matches."""
    assert "no log file yet" in fleet(shop, "logs")
    fleet(shop, "up")
    lines = eventually(lambda: [s for s in fleet(shop, "logs").splitlines() if "ready" in s])
    eventually(lambda: fleet(shop, "logs").count("ready") == 3)
    lines = fleet(shop, "logs", "emails").splitlines()
    assert lines == [
        r"shop-emails_00  ready shop-emails_00 \x07",
        r"shop-emails_01  ready shop-emails_01 \x07",
    ]
    assert fleet(shop, "logs", "emails_00", "-n", "5").splitlines() == [r"ready shop-emails_00 \x07"]
    assert fleet(shop, "logs", "--grep", "thumbs") == r"shop-thumbs_00  ready shop-thumbs_00 \x07" + "\n"
    assert "not a regular expression" in fleet(shop, "logs", "--grep", "(", code=2)
    assert json.loads(fleet(shop, "logs", "emails_01", "--json"))["process"] == "shop-emails_01"
    fleet(shop, "down")
    assert "finished" in fleet(shop, "logs", "thumbs")


def test_logs_follow(shop: Path) -> None:
    """New lines come as they are written, also after a rotation; Ctrl-C ends it without an error."""
    fleet(shop, "up")
    log = shop / ".fleet" / "logs" / "shop-thumbs_00.log"
    with subprocess.Popen(
        [FLEET, "logs", "-f", "-n", "0", "thumbs_00"], cwd=shop, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            # Its own open file is the sign that it follows.
            eventually(lambda: str(log) in {file.path for file in psutil.Process(child.pid).open_files()})
            with open(log, "a") as file:
                file.write("one\n")
            assert child.stdout.readline() == "one\n"
            log.rename(log.with_suffix(".log.1"))
            log.write_text("two\n")
            assert child.stdout.readline() == "two\n"
            child.send_signal(signal.SIGINT)
            assert child.wait(60) == 0
        finally:
            child.kill()
