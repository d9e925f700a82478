"""
What happens while `fleet apply` runs: Ctrl-C in each of its phases (C8), and another manifest (M37).

A step of a real apply on a real supervisord is held up for a moment, and the
signal is sent, or the file put in place of the other, just before it.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.cli import confirm
from fleet.cli.app import run
from fleet.manager.files import Folder
from fleet.manager.stop import down
from fleet.manifest import load
from fleet.supervisor import private
from fleet.supervisor.transport import Transport
from tests.badinput.world import World, fleet_says, is_safe

pytestmark = pytest.mark.slow

# `emails` is replaced, one pipeline comes and one goes.
MANIFEST = """\
project = "shop"
[defaults]
logs = {{ dir = ".fleet/logs" }}
[pipelines.emails]
command = "/bin/sleep {number}"
numprocs = 2
[pipelines.{name}]
command = "/bin/sleep {number}"
"""
MANIFESTS = (MANIFEST.format(number=997, name="thumbs"), MANIFEST.format(number=996, name="orders"))


# Whose method, which, what is among its arguments, and which of those calls.
Step = tuple[object, str, str, int]


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="fleet-while-") as folder:
        world = World(Path(folder))
        world.manifest.write_text(MANIFESTS[0])
        try:
            assert run(["-q", "-m", str(world.manifest), "up"]) == 0
            world.fill()
            yield world
        finally:
            down(private.home(world.root / ".fleet"), now=True)


@pytest.fixture
def shop(running: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A fleet that runs what its manifest says; `swap` writes the other one."""
    monkeypatch.chdir(running.root)
    return running


def swap(shop: World) -> None:
    """The other manifest in place of this one, as editors do it."""
    other = MANIFESTS[MANIFESTS[0] == shop.manifest.read_text()]
    beside = shop.root / "fleet.toml.new"
    beside.write_text(other)
    beside.replace(shop.manifest)


def confs(shop: World) -> dict[str, str]:
    return {path.name: path.read_text() for path in shop.conf_dir.glob("fleet.*")}


def before(patch: pytest.MonkeyPatch, step: Step, act: Callable[[], object]) -> list[int]:
    """*act* is called before that step; how many of its kind there were by now."""
    where, name, words, turn = step
    real, seen = getattr(where, name), [0]

    def stepped(*args: Any, **more: Any) -> Any:
        if words in repr(args[1:]):
            seen[0] += 1
            if seen[0] == turn:
                act()
        return real(*args, **more)

    patch.setattr(where, name, stepped)
    return seen


NOTHING = r"interrupted\nNothing was changed\.\n"
BEGUN = r"; begun with (orders|thumbs), emails, shop-\w+\. Run the same command again to finish"
# A phase: the step that Ctrl-C comes before, and what is said to be done by then.
PHASES: dict[str, tuple[Step, str]] = {
    "planning": ((Transport, "call", "fleet.processes", 1), NOTHING),
    "looking, under the lock": ((Transport, "call", "fleet.processes", 2), NOTHING),
    "the first file": ((Folder, "write", "fleet.shop-", 1), NOTHING),
    "the second file": (
        (Folder, "write", "fleet.shop-", 2),
        r"before that: wrote fleet\.shop-\w+\.conf\. Run",
    ),
    "the file that goes": ((Folder, "remove", "fleet.shop-", 1), r"wrote [^;]+, fleet[^;]+\.conf\. Run"),
    "the reload": (
        (Transport, "call", "reloadConfig", 1),
        r"wrote [^;]+; removed fleet\.shop-\w+\.conf\. Run",
    ),
    "the new group": ((Transport, "call", "addProcessGroup", 1), BEGUN),
    "the drained groups": ((Transport, "call", "removeProcessGroup", 1), BEGUN),
    "the last notes": ((Folder, "write", ".revision.", 1), r"; removed shop-\w+; .*replaced emails.* Run"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_c8_ctrl_c_tells_what_was_done_and_a_second_run_finishes(
    phase: str, shop: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: exit 130; the files it names are those that differ, and nothing is there by half."""
    step, words = PHASES[phase]
    swap(shop)
    there, photograph = confs(shop), shop.photograph()
    with monkeypatch.context() as patch:
        seen = before(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        said = fleet_says(capsys, "--yes", "apply")
    assert seen == [step[-1]]
    assert said.code == 130
    assert re.search(words, said.err), said.err
    assert is_safe(said.err)
    after = confs(shop)
    differ = {conf for conf in there.keys() | after.keys() if there.get(conf) != after.get(conf)}
    assert set(re.findall(r"fleet\.shop-\w+\.conf", said.err)) == differ
    assert all(text.endswith("\n") for text in after.values())
    if "Done before that" not in said.err:
        assert photograph.differs_in(shop.photograph()) == []

    assert fleet_says(capsys, "--yes", "apply").code == 0
    assert_in_force(shop, shop.manifest.read_text())
    assert fleet_says(capsys, "plan", "--exit-code").code == 0
    assert shop.photograph().jobs == photograph.jobs


def assert_in_force(shop: World, manifest: str) -> None:
    """What runs, and every file, is of this manifest alone."""
    (number,) = set(re.findall(r"sleep (\d+)", manifest))
    groups = {f"shop-{name}" for name in re.findall(r"pipelines\.(\w+)", manifest)}
    assert set(confs(shop)) == {f"fleet.{group}.conf" for group in groups}
    assert all(
        re.findall(r"sleep (\d+)", text) == [number] * text.count("command=") for text in confs(shop).values()
    )
    now = shop.photograph()
    running = [name.partition(":")[0] for name, (state, _, _) in now.processes.items() if state == "RUNNING"]
    assert sorted(running) == sorted([*groups, "shop-emails"])
    assert {name.partition(":")[0] for name in now.processes} == groups


# Before which step the other manifest is put in place.
MOMENTS: dict[str, Step] = {
    "planning": (Transport, "call", "fleet.processes", 1),
    "the question": (confirm, "ask", "", 1),
    "the first file": (Folder, "write", "fleet.shop-", 1),
    "the reload": (Transport, "call", "reloadConfig", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_m37_a_manifest_is_read_once(
    moment: str, shop: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M37: what was read is applied to its end, the log has its digest, and plan tells of the newer one."""
    if fleet_says(capsys, "plan", "--exit-code").code == 0:
        swap(shop)
    meant = shop.manifest.read_text()
    revision = json.loads(fleet_says(capsys, "plan", "--json").out)["revision"]
    with monkeypatch.context() as patch:
        seen = before(patch, MOMENTS[moment], lambda: swap(shop))
        said = fleet_says(capsys, "--yes", "apply")
    assert seen[0] >= 1
    assert shop.manifest.read_text() != meant
    assert said.code == 0, said.err
    assert f"applied {revision} " in said.out
    last = (shop.root / ".fleet" / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["text"].startswith(f"{revision}: ")
    assert_in_force(shop, meant)
    plan = json.loads(fleet_says(capsys, "plan", "--json").out)
    assert {
        step["pipeline"]: step["action"] for step in plan["steps"] if step["action"] != "keep"
    }.keys() >= {"emails"}
    assert plan["revision"] != revision


def test_m37_no_reading_is_a_mix_of_two(tmp_path: Path) -> None:
    """M37: while an editor puts one in place of the other, over and over, each reading is one of them."""
    path = tmp_path / "fleet.toml"
    texts = [
        "".join(f'[pipelines.p{n}]\ncommand = "/bin/cat"\nnumprocs = {number}\n' for n in range(40))
        for number in (2, 3)
    ]
    path.write_text(texts[0])
    ended = threading.Event()

    def edit() -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            (tmp_path / "new").write_text(texts[turn % 2])
            (tmp_path / "new").replace(path)

    editor = threading.Thread(target=edit, daemon=True)
    editor.start()
    try:
        for _ in range(30):
            manifest = load(path, environ={})
            assert len({pipeline.numprocs for pipeline in manifest.pipelines.values()}) == 1
            assert len(manifest.pipelines) == 40
    finally:
        ended.set()
        editor.join(10)
