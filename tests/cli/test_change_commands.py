"""plan, apply, scale, rollback and restart --rolling: the story of one shop, on both supervisords."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.manager.desired import desired
from fleet.manager.places import place_of
from fleet.manager.stop import down
from fleet.manifest import load
from fleet.queue import connect
from fleet.supervisor import private
from fleet.supervisor.process import ProcessState
from tests.cli.test_up_and_down import FLEET, fleet
from tests.supervisord import VERSIONS, python_with
from tests.waiting import eventually

MANIFEST = """\
project = "shop"
[pipelines.emails]
handler = "shop:send"
numprocs = 4
[pipelines.legacy]
command = "/bin/sleep 999"
"""
HANDLER = """\
import os, time
def send(job):
    time.sleep(0.1)
    with open("done", "a") as file:
        file.write(f"{job.data} {os.environ['SUPERVISOR_PROCESS_NAME']}\\n")
"""


class Shop:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "shop.py").write_text(HANDLER)
        (root / "fleet.toml").write_text(MANIFEST)

    def edit(self, old: str, new: str, file: str = "fleet.toml") -> None:
        path = self.root / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def __call__(self, *words: str, code: int = 0) -> str:
        return fleet(self.root, *words, code=code)

    def pids(self, group: str = "shop-emails") -> dict[str, int]:
        client = place_of(load(self.root / "fleet.toml", environ={})).client()
        return {
            p.name: p.pid for p in client.processes() if p.group == group and p.state is ProcessState.RUNNING
        }

    def done(self) -> Counter[str]:
        path = self.root / "done"
        return (
            Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()
        )


@pytest.fixture(params=VERSIONS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """A private supervisord of each version runs already, with nothing in it."""
    made = Shop(tmp_path)
    manifest = load(tmp_path / "fleet.toml", environ={})
    place = place_of(manifest)
    private.prepare(place.home)
    place.main_conf.write_text(desired(manifest, place).main_conf)
    private.start(place.home, python=python_with(request.param))
    try:
        yield made
    finally:
        down(place.home, now=True)


@pytest.mark.timeout(900)  # forty commands
def test_deploy_day(shop: Shop) -> None:
    """Jobs flow all the time; survivors keep their pids, no job is lost, none is done twice."""
    said = shop("plan")
    assert "+ emails  4 start" in said
    assert "2 to add" in said
    assert "  \x1b[32m+ emails\x1b[0m  4 start" in shop("plan", "--color", "always"), (
        "and no more has a colour"
    )
    shop("plan", "--exit-code", code=10)
    said = shop("apply")
    assert "4/4 running" in said
    assert "undo: fleet rollback" not in said, "there is nothing to go back to"
    assert "nothing to change" in shop("plan", "--exit-code")
    four = shop.pids()

    with connect(f"sqlite:///{shop.root}/.fleet/queue.db") as queue:
        queue.put_many("emails", list(range(400)))

    assert "2 started, 4 never stopped" in shop("scale", "emails=6")
    six = shop.pids()
    assert len(six) == 6
    assert four.items() <= six.items()
    assert "Add --yes" in shop("scale", "emails=3", code=8)
    assert "3 drained, 3 never stopped" in shop("scale", "emails=3", "-y")
    three = shop.pids()
    assert len(three) == 3
    assert three.items() <= six.items()
    assert "emails            3         4" in shop("scale")
    said = shop("plan")
    assert "nothing to change" in said
    assert "= emails (scaled to 3 by hand), legacy" in said
    shop("restart", "emails", "-y")
    shop("start", "emails")
    assert shop.pids().keys() == three.keys()
    three = shop.pids()
    assert "scaled to 3 by hand" in next(s for s in shop("status").splitlines() if s.startswith("emails"))
    assert "do not run" not in shop("why", "emails")

    shop.edit("numprocs = 4", "numprocs = 6")
    assert "3 start beside the 3 that run" in shop("plan")
    assert "undo: fleet rollback" in shop("apply")
    assert three.items() <= shop.pids().items()
    assert len(shop.pids()) == 6

    eventually(lambda: len(shop.done()) == 400, within=60)
    assert set(shop.done().values()) == {1}

    # A handler that cannot be imported: nobody stops, and the reason is on the screen.
    before = shop.pids()
    shop.edit("shop:send", "shop:sent")
    assert "Add --yes" in shop("apply", code=8)
    said = shop("apply", "-y", code=7)
    assert "no old process was stopped" in said
    assert "shop has no sent" in said
    assert shop.pids() == before
    shop.edit("shop:sent", "shop:send")

    shop.edit('[pipelines.legacy]\ncommand = "/bin/sleep 999"\n', "")
    with connect(f"sqlite:///{shop.root}/.fleet/queue.db") as queue:
        queue.put_many("legacy", [1, 2, 3])
    said = shop("plan", "-o", "p.json")
    assert "- shop-legacy  gone from the manifest  1 drains (≤ 1m35s)" in said
    assert "legacy still has 3 ready jobs, and no pipeline will take them" in said
    assert "\nlongest drain 1m35s" in said, "nothing is promised of a capacity that is meant to fall"
    assert json.loads((shop.root / "p.json").read_text())["schema"] == "fleet.plan/1"
    shop.edit("numprocs = 6", "numprocs = 4")
    assert "Nothing was done; plan again" in shop("apply", "p.json", "-y", code=8)
    shop.edit("numprocs = 4", "numprocs = 6")
    assert "drained 1, removed" in shop("apply", "p.json", "-y")
    assert shop.pids("shop-legacy") == {}
    assert shop.pids() == before

    assert "1/1 running" in shop("rollback")
    assert "in force" in shop("rollback", "--list")
    assert len(shop.pids("shop-legacy")) == 1
    assert "no revision 99" in shop("rollback", "99", code=8)

    kinds = [json.loads(line)["kind"] for line in shop("events", "--since", "1h", "--json").splitlines()]
    assert kinds == ["apply", "scale", "scale", "restart", "apply", "undone", "apply", "rollback"]
    assert "emails 4 → 6" in shop("events")
    assert "started pipeline=emails" in shop("logs", "emails_00", "--since", "5m")


def test_a_number_for_a_while_ends_by_itself(shop: Shop) -> None:
    """Nobody has to come back for it; and who waits for it is gone with supervisord."""
    shop("up")
    four = shop.pids()
    counts: list[int] = []
    words = [FLEET, "scale", "emails=6", "--for", "3s"]
    with subprocess.Popen(words, cwd=shop.root, stdout=-1, text=True) as child:
        while child.poll() is None:  # it waits until they run, and the time may be over when it ends
            counts.append(len(shop.pids()))
            time.sleep(0.02)
        assert "2 started" in child.stdout.read()
    assert max(counts) == 6
    eventually(lambda: shop.pids() == four, within=60)
    assert "no number by hand" in shop("scale")
    assert "--for needs PIPELINE=N" in shop("scale", "--for", "1h", code=2)

    shop("scale", "emails=6", "--for", "1h")
    assert len(waiting(shop.root)) == 1
    shop("down")
    eventually(lambda: not waiting(shop.root))


def test_a_number_for_a_while_ends_also_if_nobody_waited_for_it(shop: Shop) -> None:
    """Ctrl-C ends the waiting, and takes back neither the number nor its end."""
    shop("up")
    number = subprocess.Popen([FLEET, "scale", "emails=6", "--for", "1h"], cwd=shop.root)
    client = place_of(load(shop.root / "fleet.toml", environ={})).client()
    eventually(lambda: sum(p.state.is_active for p in client.processes()) > 5)
    number.send_signal(signal.SIGINT)
    assert number.wait(60) == 130
    assert "emails            6" in shop("scale")
    assert len(waiting(shop.root)) == 1
    shop("down")


def waiting(root: Path) -> list[psutil.Process]:
    """Who waits until a number of this manifest ends."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "fleet.manager.later" in (process.info["cmdline"] or ())
        and str(root / "fleet.toml") in process.info["cmdline"]
    ]


def test_a_plan_that_apply_would_refuse_says_so(shop: Shop) -> None:
    """It is shown, and ends in the words and the exit code of apply."""
    theirs = place_of(load(shop.root / "fleet.toml", environ={})).conf_dir / "theirs.conf"
    theirs.write_text("[program:theirs]\ncommand=x\nuser=no-such-user\n")
    said = shop("plan", code=4)
    assert "+ emails  4 start" in said
    assert "next: fleet apply" not in said
    refused = said[said.index("supervisord would not take") :]
    assert refused in shop("apply", code=4)
    theirs.unlink()

    shop.edit("numprocs = 4", 'numprocs = 4\ndirectory = "nowhere"')
    assert "E013 directory" in shop("plan", code=4)
    assert "E013 directory" in shop("apply", code=4)


def test_new_code_comes_in_one_by_one(shop: Shop) -> None:
    """The first that does not come back ends it; the others go on with the old code."""
    shop.edit("numprocs = 4", "numprocs = 3")
    shop("apply")
    before = shop.pids()
    counts: list[int] = []
    with subprocess.Popen(
        [FLEET, "restart", "emails", "--surge"], cwd=shop.root, stdout=-1, text=True
    ) as child:
        while child.poll() is None:
            counts.append(len(shop.pids()))
            time.sleep(0.02)
        said = child.stdout.read()
    assert min(counts) == 3
    assert "shop-emails_03  beside the others" in said
    assert "3 processes restarted" in said
    after = shop.pids()
    assert sorted(after) == sorted(before)
    assert not set(after.values()) & set(before.values())

    shop.edit("import os", "import nowhere, os", "shop.py")
    said = shop("restart", "emails", "--rolling", code=7)
    assert "nowhere" in said
    assert "stopped at shop-emails_00, which does not come up; 2 go on with the old code" in said
    left = shop.pids()
    assert left == {name: pid for name, pid in after.items() if name != "shop-emails_00"}
    shop.edit("import nowhere, os", "import os", "shop.py")
    assert "2/3  drained" in shop("restart", "emails", "--rolling")
    shop("restart", "emails", "--rolling", "--now", code=2)


def test_beyond_the_room_and_back(shop: Shop) -> None:
    """--save edits one number of the manifest, and takes it back when nobody says yes."""
    text = (shop.root / "fleet.toml").read_text().replace("numprocs = 4", "numprocs = 4  # enough")
    (shop.root / "fleet.toml").write_text(text)
    shop("apply")
    assert "shop-emails has room for 8" in shop("scale", "emails=9", code=8)
    said = shop("scale", "emails=9", "--save", code=8)
    assert "surge: 9 new start, then 4 old drain" in said
    assert "capacity never falls below the present" in said
    assert (shop.root / "fleet.toml").read_text() == text
    assert len(shop.pids()) == 4
    shop("scale", "emails=9", "--save", "-y")
    assert (shop.root / "fleet.toml").read_text() == text.replace("numprocs = 4", "numprocs = 9")
    assert len(shop.pids()) == 9
    kept = shop.pids()
    shop("scale", "emails=7", "--save", "-y")
    assert shop.pids().items() <= kept.items()
    assert len(shop.pids()) == 7
    assert "emails=N" not in shop("scale", "emails=x", code=2)


def test_ctrl_c_says_what_was_done(shop: Shop) -> None:
    """C8: exit 130, the steps, and a second apply that reaches the goal."""
    shop("apply")
    before = shop.pids()
    shop.edit("import os, time", "import os, time\ntime.sleep(20)", "shop.py")
    shop.edit("numprocs = 4", 'numprocs = 4\ntimeout = "9s"')
    with subprocess.Popen(
        [sys.executable, FLEET, "apply", "-y"], cwd=shop.root, stdout=-1, stderr=-1, text=True
    ) as child:
        eventually(lambda: shop.pids("shop-emails~new"))
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted\nDone before that: temporary groups begun: shop-emails~new" in said
    assert shop.pids() == before
    shop.edit("\ntime.sleep(20)", "", "shop.py")
    shop("apply", "-y")
    assert "nothing to change" in shop("plan")


def all_of(leader: int) -> str:
    """What was written to the terminal behind it, which is closed; a busy machine hands it out in pieces."""
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(leader, 4096):
            said += piece
    return said.decode()


def test_apply_asks_a_person(tmp_path: Path) -> None:
    """y/N on a terminal; anything but y changes nothing."""
    shop = Shop(tmp_path)
    shop("up")
    try:
        shop.edit("numprocs = 4", "numprocs = 2")
        for answer, code in (("n", 8), ("y", 0)):
            leader, follower = pty.openpty()
            with subprocess.Popen(
                [sys.executable, FLEET, "apply"], cwd=tmp_path, stdin=follower, stderr=follower, stdout=-1
            ) as child:
                os.write(leader, f"{answer}\n".encode())
                child.communicate(timeout=60)
            os.close(follower)
            asked = all_of(leader)
            os.close(leader)
            assert "2 processes will stop after their current job. Apply? [y/N]" in asked
            assert child.returncode == code
        assert len(shop.pids()) == 2
    finally:
        shop("down")
