"""The whole story, as a newcomer sees it: one command, real work, a proof, and nothing left running."""

from __future__ import annotations

import contextlib
import csv
import json
import mailbox
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from fleet.cli.demo_run import MARK, demo_dir
from tests.waiting import eventually

FLEET = Path(sys.executable).with_name("fleet")
pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to run in; whatever a failed test left running there is ended."""
    yield tmp_path
    for process in running_below(tmp_path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def running_below(folder: Path, *programs: str) -> list[psutil.Process]:
    """Every process that works in *folder* or was told of it; of *programs*, when some are named."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            told = any(str(folder) in word for word in [process.cwd(), *words])
        except psutil.Error:  # it ended while it was looked at
            continue
        wanted = not programs or {Path(word).name for word in words} & {*programs}
        if told and wanted and process.pid != os.getpid():
            found.append(process)
    return found


def start(here: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FLEET, "demo", *arguments], cwd=here, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def workers(here: Path) -> set[psutil.Process]:
    return set(running_below(here, "fleet-worker", "worker.py"))


def test_without_a_terminal_it_works_to_the_end_and_proves_every_result(here):
    """The table, the exit code and the files agree; other programs than fleet's confirm them."""
    run = start(here)
    table, notes = run.communicate(timeout=150)
    assert run.returncode == 0, notes
    assert running_below(here) == []

    rows = {line.split()[0]: [int(cell) for cell in line.split()[1:]] for line in table.splitlines()[1:]}
    put, done, buried, verified = rows["checksums"]
    assert put == done == verified > 500
    assert buried == 0
    assert rows["emails"] == [300, 294, 6, 294]
    assert rows["wordcount"] == [12, 12, 0, 12]

    out = here / ".fleet/demo/out"
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out, check=True)
    assert len((out / "SHA256SUMS").read_text().splitlines()) == put
    assert len(mailbox.Maildir(out / "Maildir", create=False)) == 294
    words = sum(json.loads((out / "wordcount/bell.json").read_bytes()).values())
    counted = subprocess.run(["wc", "-w", demo_dir() / "texts/bell.txt"], capture_output=True, check=True)
    assert words == int(counted.stdout.split()[0])


def test_it_leaves_the_buried_jobs_with_their_reason(here):
    """One recipient in fifty is no address; its job says so to whoever looks."""
    run = start(here, "--dir", "here")
    run.communicate(timeout=150)
    asked = [FLEET, "-m", "here/fleet.toml", "jobs", "list", "emails", "--state", "buried", "--json"]
    answer = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=True)
    assert answer.stdout.count("not an address") == 6


def test_a_second_run_starts_clean_and_at_once(here):
    """What an earlier demo left, running or not, is ended and wiped before the first job is put."""
    first = start(here, "--seconds", "60")
    eventually(lambda: (here / ".fleet/demo/out/checksums").exists(), within=60)
    first.kill()  # as a crash would: its supervisord and workers go on
    first.communicate()
    old = running_below(here)
    assert old
    (here / ".fleet/demo/out/checksums/0.sha256").write_text("of the first run")

    began = time.monotonic()
    second = start(here)
    eventually(lambda: (here / ".fleet/demo/out/Maildir").exists() and workers(here) - {*old}, within=60)
    took = time.monotonic() - began
    assert second.wait(timeout=150) == 0, second.stderr.read()
    assert not any(process.is_running() for process in old)
    assert running_below(here) == []
    assert took < 45  # 3 s on an idle machine; the first would have gone on for a minute


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_cut_short_it_stops_everything_that_it_started(here, sent, code):
    """Half way through, no worker and no supervisord outlives the command."""
    run = start(here, "--seconds", "60")
    eventually(lambda: (here / ".fleet/demo/out/checksums").exists() and workers(here), within=60)

    run.send_signal(sent)
    _, notes = run.communicate(timeout=60)

    assert run.returncode == code, notes
    assert "Traceback" not in notes
    assert running_below(here) == []


def test_a_worker_that_is_killed_loses_no_job(here):
    """kill -9 in the middle: supervisord starts another, and the count is right in the end."""
    run = start(here, "--seconds", "15")
    before = eventually(lambda: len(found := workers(here)) == 5 and found, within=60)
    for worker in before:
        worker.kill()
    eventually(lambda: len(workers(here) - before) == 5, within=60)

    table, notes = run.communicate(timeout=150)
    assert run.returncode == 0, notes
    assert "emails" in table


def test_a_folder_with_something_else_in_it_is_left_alone(here):
    """Only a folder that an earlier demo marked as its own is ever wiped."""
    (here / "thesis.txt").write_text("four years")
    run = start(here, "--dir", ".")
    _, notes = run.communicate(timeout=60)
    assert run.returncode == 8
    assert "--dir" in notes
    assert [path.name for path in here.iterdir()] == ["thesis.txt"]


def test_on_a_terminal_q_leaves_the_dashboard_and_the_workers_go_on(here):
    """The last lines are commands that work as they are printed."""
    screen = pexpect.spawn(
        str(FLEET), ["demo", "--seconds", "30"], cwd=here, dimensions=(30, 100), encoding="utf-8", timeout=60
    )
    screen.expect("checksums")
    screen.expect("emails")
    screen.send("q")
    screen.expect("dashboard closed")
    screen.expect(r"(\S+ -m \S+ down)")
    down = screen.match.group(1)
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    assert workers(here)

    subprocess.run(["sh", "-c", down], cwd=here, check=True, capture_output=True)
    assert running_below(here) == []


def test_on_a_terminal_ctrl_c_stops_everything(here):
    """q is for those who want to go on; whoever presses Ctrl-C wants it to end."""
    screen = pexpect.spawn(
        str(FLEET), ["demo", "--seconds", "30"], cwd=here, dimensions=(30, 100), encoding="utf-8", timeout=60
    )
    screen.expect("checksums")
    screen.expect("emails")
    screen.sendintr()
    screen.expect("Everything was stopped")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130
    assert running_below(here) == []


def test_the_demo_that_is_shipped_is_whole():
    """One recipient in fifty is invalid, exactly; the folder of the checkout is never marked as a run."""
    with open(demo_dir() / "recipients.csv", encoding="utf-8", newline="") as file:
        recipients = list(csv.DictReader(file))
    assert len({person["name"] for person in recipients}) == len(recipients) == 300
    assert not (demo_dir() / MARK).exists()
