"""A running fleet is changed: what need not stop does not stop, and what fails is undone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import Refused
from fleet.manager import apply as applying
from fleet.manager import files, history, world
from fleet.manager import scale as scaling
from fleet.manager.apply import Applied
from fleet.manager.compare import Plan
from fleet.manager.desired import desired
from fleet.manager.files import Access, Folder
from fleet.manager.places import Place, place_of
from fleet.manifest import load
from fleet.supervisor import private
from fleet.supervisor.client import Changes, Supervisor
from fleet.supervisor.process import ProcessState
from fleet.supervisor.transport import Transport
from tests.supervisord import VERSIONS, python_with

EVERY_STEP = os.environ.get("FLEET_TEST_EVERY_STEP")  # a few minutes
COMMAND = '[pipelines.{}]\ncommand = "{}"\nnumprocs = 2\n'
HANDLER = '[pipelines.a]\nhandler = "jobs:{}"\nnumprocs = 2\n'


class Shop:
    """A folder with a manifest, and the supervisord that runs it."""

    def __init__(self, root: Path, python: str) -> None:
        self.root, self.python = root, python
        (root / "jobs.py").write_text("def work(job): pass\n")
        self.write("")

    def write(self, *pipelines: str) -> None:
        text = "".join(pipelines) or COMMAND.format("a", "/bin/sleep 999")
        (self.root / "fleet.toml").write_text(f'project = "shop"\n{text}')

    @property
    def place(self) -> Place:
        return place_of(load(self.root / "fleet.toml", environ={}))

    def apply(self, **more: object) -> Applied:
        manifest = load(self.root / "fleet.toml", environ={})
        place = place_of(manifest)
        return applying.apply(place, desired(manifest, place), **{"undo": True, "timeout": 20, **more})

    def plan(self) -> Plan:
        manifest = load(self.root / "fleet.toml", environ={})
        place = place_of(manifest)
        return world.plan(place, desired(manifest, place))

    def supervisorctl(self, *words: str) -> str:
        conf, url = str(self.place.main_conf), self.place.url
        command = [self.python, "-m", "supervisor.supervisorctl", "-c", conf, "-s", url, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def pids(self, *groups: str) -> dict[str, int]:
        found = (p for p in self.place.client().processes() if p.state is ProcessState.RUNNING)
        return {p.name: p.pid for p in found if not groups or p.group in groups}

    def groups(self) -> set[str]:
        return {p.group for p in self.place.client().processes()}

    def files(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.place.conf_dir.glob("fleet.*")}


@pytest.fixture(params=VERSIONS)
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Nothing runs yet; whatever runs at the end is ended."""
    python = python_with(request.param)
    start = private.start
    monkeypatch.setattr(private, "start", lambda home, **more: start(home, **{"python": python, **more}))
    made = Shop(tmp_path, python)
    try:
        yield made
    finally:
        home = private.home(tmp_path / ".fleet")
        if private.find(home) is not None:
            made.place.client().stop_all()
        private.stop(home)


def test_new_settings_that_do_not_work_stop_nobody(shop: Shop) -> None:
    """One worker tries the new handler; the old ones never hear of it, and nothing of it is left."""
    shop.write(HANDLER.format("work"), COMMAND.format("b", "/bin/sleep 999"))
    shop.apply()
    before, there = shop.pids(), shop.files()
    shop.write(HANDLER.format("nowhere"), COMMAND.format("b", "/bin/sleep 998"))
    done = shop.apply()

    assert done.undone
    (failed,) = done.failed
    assert failed.pipeline == "a"
    assert "nowhere" in failed.failures[0].lines[-1]
    assert (shop.pids(), shop.files()) == (before, there)
    assert shop.groups() == {"shop-a", "shop-b"}
    assert not list((shop.root / ".fleet" / "logs").glob("*~new*"))


def test_a_number_by_hand_outlives_new_settings_that_do_not_work(shop: Shop) -> None:
    """Nothing was changed, and so the next plan does not drain what somebody added."""
    shop.write(HANDLER.format("work"))
    shop.apply()
    scaling.scale(shop.place, "shop", {"shop-a": 3}, numprocs={"shop-a": 2})
    shop.write(HANDLER.format("missing"))
    assert shop.apply().undone
    shop.write(HANDLER.format("work"))
    assert shop.plan().is_nothing
    assert len(shop.pids()) == 3
    assert scaling.by_hand(shop.place, "shop")["shop-a"].number == 3


def test_a_lower_number_by_hand_outlives_a_replacement(shop: Shop) -> None:
    """supervisord would start all four by itself, also when the old settings are put back."""
    four = COMMAND.format("a", "/bin/sleep {}").replace("2", "4")
    shop.write(four.format(999))
    shop.apply()
    scaling.scale(shop.place, "shop", {"shop-a": 1}, numprocs={"shop-a": 4})
    seen: list[int] = []

    def look() -> None:
        seen.append(sum(p.state.is_active for p in shop.place.client().processes()))

    shop.write(four.format(998))
    assert not watched(shop.apply, look).failed
    assert list(shop.pids()) == ["shop-a_00"]
    assert shop.plan().is_nothing
    assert shop.apply().is_unchanged
    shop.write(four.format("x"))
    assert watched(shop.apply, look).undone
    assert list(shop.pids()) == ["shop-a_00"]
    assert max(seen) == 1
    assert "autostart=true" in shop.files()["fleet.shop-a.conf"]


def test_files_that_cannot_be_written_change_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full by the second file: the first is as it was, and the worker that tried has left."""
    shop.write(HANDLER.format("work"))
    shop.apply()
    before, there = shop.pids(), shop.files()
    shop.write(HANDLER.format("work") + 'timeout = "5s"\n')
    write = Folder.write

    def full(folder: Folder, name: str, text: str, access: Access) -> None:
        if name == "fleet.shop-a.conf" and text != there[name]:
            raise Refused("No space left on device")
        write(folder, name, text, access)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", full)
        with pytest.raises(Refused, match="No space left"):
            shop.apply()
    assert (shop.pids(), shop.files()) == (before, there)
    assert shop.groups() == {"shop-a"}
    shop.apply()
    assert shop.plan().is_nothing


def test_new_settings_that_work_replace_the_old(shop: Shop) -> None:
    """The one that was tried leaves again."""
    shop.write(HANDLER.format("work"))
    shop.apply()
    before = shop.pids()
    shop.write(HANDLER.format("work") + 'timeout = "5s"\n')
    assert not shop.apply().failed
    assert sorted(shop.pids()) == sorted(before)
    assert not set(shop.pids().values()) & set(before.values())
    assert shop.groups() == {"shop-a"}
    assert not [name for name in shop.files() if "~" in name]


def test_in_a_surge_capacity_never_falls(shop: Shop) -> None:
    """The new ones run before an old one stops, and until the group itself runs again."""
    surge = COMMAND.format("a", "/bin/sleep {}") + 'rollout = "surge"\n'
    shop.write(surge.format(999))
    shop.apply()
    before = set(shop.pids().values())
    shop.write(surge.format(998))
    counts: list[int] = []
    done = watched(shop.apply, lambda: counts.append(len(shop.pids())))
    assert not done.failed
    assert min(counts) >= 2
    # A look may miss the moment when all four run; supervisord's own log does not.
    log = (shop.root / ".fleet" / "supervisord.log").read_text().splitlines()
    came = [line for line, text in enumerate(log) if "success: shop-a~new_" in text]
    went = [line for line, text in enumerate(log) if "stopped: shop-a_" in text]
    assert len(came) == len(went) == 2
    assert max(came) < min(went)
    assert not before & set(shop.pids().values())
    assert shop.groups() == {"shop-a"}


@pytest.mark.parametrize("more", ["", 'rollout = "surge"\n'])
def test_a_stand_in_has_a_log_of_its_own(more: str, shop: Shop) -> None:
    """Also where the manifest names the file: two writers would rotate it under each other."""
    (shop.root / "own").mkdir()
    logs = ", ".join(
        f'{name}_logfile = "{shop.root}/own/{name}_%(process_num)02d.log"' for name in ("stdout", "stderr")
    )
    pipeline = HANDLER.format("work") + more + f"supervisor = {{ {logs} }}\n"
    shop.write(pipeline)
    shop.apply()
    told: set[tuple[str, str]] = set()

    def look() -> None:
        for process in shop.place.client().processes():
            told.add((process.group, process.logfile))

    shop.write(pipeline + 'timeout = "5s"\n')
    assert not watched(shop.apply, look).failed
    files = {group: {file for other, file in told if other == group} for group, _ in told}
    assert f"{shop.root}/own/shop-a~new_00.log" in files["shop-a~new"]
    assert not files["shop-a"] & files["shop-a~new"]
    names = {path.name for path in (shop.root / "own").iterdir()}
    assert names == {f"{name}_{number:02d}.log" for name in ("stdout", "stderr") for number in range(2)}


def watched(work: Callable[[], Applied], look: Callable[[], None]) -> Applied:
    """Do *work* in a thread and *look* all the time."""
    results: list[Applied] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    while thread.is_alive():
        look()
        time.sleep(0.02)
    return results[0]


def test_what_does_not_come_up_is_put_back(shop: Shop) -> None:
    """A changed, a new and a removed pipeline: files byte for byte, and the same processes run again."""
    a, b, c = (COMMAND.format(name, "/bin/sleep 999") for name in "abc")
    shop.write(a, b, c)
    shop.apply()
    before, there = shop.pids(), shop.files()
    shop.write(a, COMMAND.format("b", "/bin/false"), COMMAND.format("d", "/bin/sleep 999"))
    done = shop.apply()
    assert done.undone
    assert [group.pipeline for group in done.failed] == ["b"]
    assert shop.files() == there
    assert shop.pids("shop-a") == {n: p for n, p in before.items() if n.startswith("shop-a")}
    assert sorted(shop.pids()) == sorted(before)
    assert shop.groups() == {"shop-a", "shop-b", "shop-c"}
    shop.write(a, b, c)
    assert shop.apply().is_unchanged


def test_a_first_apply_that_fails_leaves_nothing_running(shop: Shop) -> None:
    """As it was: no supervisord, no files."""
    shop.write(COMMAND.format("a", "/bin/sleep 999"), COMMAND.format("b", "/bin/false"))
    assert shop.apply().undone
    assert private.find(private.home(shop.root / ".fleet")) is None
    assert shop.files() == {}


def test_a_process_that_gives_no_sign_of_life_has_not_come_up(shop: Shop) -> None:
    """RUNNING says that it did not die yet, and no more."""
    done = shop.apply(is_alive=lambda process: process.name.endswith("_00"), timeout=5)
    assert [f.process.name for f in done.failed[0].failures] == ["shop-a_01"]
    assert "no sign" in done.failed[0].failures[0].reason


def test_a_failure_from_before_undoes_nothing(shop: Shop) -> None:
    """It is told, and what was asked for now is kept."""
    broken = COMMAND.format("b", "/bin/false")
    shop.write(COMMAND.format("a", "/bin/sleep 999"), broken)
    shop.apply(undo=False)
    shop.write(COMMAND.format("a", "/bin/sleep 998"), broken)
    done = shop.apply()
    assert [group.pipeline for group in done.failed] == ["b"]
    assert not done.undone
    assert "998" in shop.files()["fleet.shop-a.conf"]


def test_a_plan_tells_of_the_project_before_it_was_renamed(shop: Shop) -> None:
    """Its groups and files have other names, so nothing replaces them: their workers go on beside the new."""
    shop.apply()
    assert shop.plan().notes == ()
    path = shop.root / "fleet.toml"
    path.write_text(path.read_text().replace('"shop"', '"store"'))
    (note,) = shop.plan().notes
    assert "'shop' (fleet.shop-a.conf)" in note
    shop.apply()
    assert shop.groups() == {"shop-a", "store-a"}
    assert shop.plan().notes == (note,)


def test_a_plan_is_for_one_world_only(shop: Shop) -> None:
    """A process that somebody stopped since then is enough."""
    shop.apply()
    manifest = load(shop.root / "fleet.toml", environ={})
    planned = world.plan(shop.place, desired(manifest, shop.place))
    assert planned.is_nothing
    shop.place.client().stop(["shop-a:shop-a_00"])
    with pytest.raises(Refused, match="plan again"):
        shop.apply(expect=planned.fingerprint)
    assert len(shop.pids()) == 1


def test_a_hand_made_update_is_mended(shop: Shop) -> None:
    """supervisorctl drains and restarts the group of a moved number; the next apply finds all of it right."""
    shop.apply()
    shop.write(COMMAND.format("a", "/bin/sleep 999").replace("2", "3"))
    shop.apply()
    assert "shop-a: updated process group" in shop.supervisorctl("update")
    shop.apply()
    before = shop.pids()
    assert len(before) == 3
    assert shop.apply().is_unchanged
    assert shop.pids() == before


def test_a_hand_made_edit_that_runs_is_replaced(shop: Shop) -> None:
    """Its mark proves nothing: the edit left it in the file.  One that nobody loaded restarts nobody."""
    shop.apply()
    conf = shop.place.conf_dir / "fleet.shop-a.conf"
    right = conf.read_text()
    before = shop.pids()
    time.sleep(1.1)  # supervisord tells whole seconds
    conf.write_text(right.replace("/bin/sleep 999", "/bin/sleep 777"))
    assert [step.action for step in shop.plan().steps] == ["rewrite"]
    shop.apply()
    assert shop.pids() == before

    conf.write_text(right.replace("/bin/sleep 999", "/bin/sleep 777"))
    shop.supervisorctl("update")
    assert [step.action for step in shop.plan().steps] == ["replace"]
    assert not shop.apply().failed
    assert conf.read_text() == right
    assert {Path(f"/proc/{pid}/cmdline").read_bytes() for pid in shop.pids().values()} == {
        b"/bin/sleep\x00999\x00"
    }
    assert shop.plan().is_nothing


def test_a_worker_that_read_an_edited_spec_is_replaced(shop: Shop) -> None:
    """Each reads it when it starts: after a crash, or a recycling."""
    shop.write(HANDLER.format("work"))
    shop.apply()
    spec = shop.place.conf_dir / "fleet.shop-a.worker.json"
    time.sleep(1.1)
    spec.write_text(spec.read_text().replace('"timeout": 60.0', '"timeout": 61.0'))
    assert [step.action for step in shop.plan().steps] == ["rewrite"]
    shop.supervisorctl("restart", "shop-a:shop-a_01")
    found = shop.plan().steps[0]
    assert found.action == "replace"
    assert found.why == ("timeout 1m1s → 1m", "fleet.shop-a.worker.json was edited by hand")
    shop.apply()
    assert shop.plan().is_nothing


class Killed(BaseException):
    """Ends an apply at once, as a kill would: no handler of an exception may run on it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trial", "surge"])
def test_killed_at_any_step_a_second_apply_reaches_the_goal(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th file step or call to supervisord is the last one, for a sample of k from 1 to the end."""
    shop = Shop(tmp_path, sys.executable)
    surge = 'rollout = "surge"\n' if kind == "surge" else ""
    manifests = [
        (HANDLER.format("work") + f'timeout = "{n}s"\n' + surge, COMMAND.format(gone, "/bin/sleep 999"))
        for n, gone in ((5, "b"), (6, "c"))
    ]
    shop.write(*manifests[0])
    shop.apply()
    steps: list[int] = []

    def is_poll(method: str, *params: Any) -> bool:
        calls = params[0] if method == "system.multicall" else [{"methodName": method}]
        polls = ("supervisor.getAllProcessInfo", "supervisor.getProcessInfo", "fleet.processes")
        return calls[0]["methodName"] in polls

    def counted(cls: type, name: str) -> None:
        real = getattr(cls, name)

        def step(self: object, *args: object, **more: object) -> object:
            # Polls are alike, and many: only what changes something counts.
            if name != "call" or not is_poll(*args):
                steps[0] -= 1
                if steps[0] == 0:
                    raise Killed
            return real(self, *args, **more)

        monkeypatch.setattr(cls, name, step)

    try:
        for cls, name in ((Transport, "call"), (Folder, "write"), (Folder, "remove")):
            counted(cls, name)
        k, turn = 1, 1
        while True:
            shop.write(*manifests[turn % 2])
            steps[:] = [k]
            try:
                shop.apply()
            except Killed:
                pass
            else:
                break
            steps[:] = [10_000]
            for path in shop.place.conf_dir.glob("fleet.*"):
                assert path.read_text().endswith("\n"), f"{path.name} is not whole after step {k}"
            done = shop.apply()
            assert not done.failed, k
            assert shop.apply().is_unchanged, k
            assert shop.groups() == {"shop-a", f"shop-{'bc'[turn % 2]}"}, k
            assert len(shop.pids()) == 4, k
            assert not [name for name in shop.files() if "~" in name], k
            k, turn = k + (1 if k < 4 or EVERY_STEP else 11), turn + 1
        assert k > 20
    finally:
        steps[:] = [10_000]
        shop.place.client().stop_all()
        private.stop(private.home(tmp_path / ".fleet"))


def test_killed_before_a_drain_a_second_apply_drains(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are there, and nobody has been told: the surplus is known from what was given before."""
    shop.write(COMMAND.format("a", "/bin/sleep 999").replace("2", "4"))
    shop.apply()
    before = shop.pids()
    shop.write(COMMAND.format("a", "/bin/sleep 999"))

    def killed(_: Supervisor) -> Changes:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Supervisor, "reload_config", killed)
        with pytest.raises(Killed):
            shop.apply()
    assert shop.plan().drains == 2
    shop.apply()
    assert shop.pids() == {name: before[name] for name in ("shop-a_00", "shop-a_01")}
    assert shop.plan().is_nothing


def test_a_new_supervisord_gets_its_groups_one_after_another(tmp_path: Path) -> None:
    """It starts with none, so that it never forks all processes in one turn; the next one starts with all."""
    shop = Shop(tmp_path, sys.executable)
    try:
        shop.apply()
        state = tmp_path / ".fleet"
        log = (state / "supervisord.log").read_text()
        assert "supervisord started with pid" in log
        assert "Included extra file" not in log  # what it says of each file that it finds at its start
        assert "\n[include]\n" in (state / "supervisord.conf").read_text()
        assert shop.apply().is_unchanged
    finally:
        shop.place.client().stop_all()
        private.stop(private.home(tmp_path / ".fleet"))


def test_ten_revisions_are_remembered(tmp_path: Path) -> None:
    """The same once more is none; the oldest goes."""
    (tmp_path / "conf.d").mkdir()
    path = tmp_path / "fleet.toml"
    with files.opened(tmp_path / "conf.d", private=True) as folder:
        for n in (*range(1, 12), 11):
            path.write_text(f'[pipelines.a]\ncommand = "/bin/sleep {n}"\n')
            manifest = load(path, environ={})
            wanted = desired(manifest, place_of(manifest))
            history.save(folder, wanted, at=float(n))
        found = history.revisions(folder, "")
    assert [revision.number for revision in found] == list(range(2, 12))
    assert found[-1].desired.files == wanted.files
    assert found[-1].desired.shapes == wanted.shapes
    assert found[-1].desired.access == wanted.access


def test_a_large_group_does_not_silence_supervisord(tmp_path: Path) -> None:
    """It is started by fleet, so many at a time; the file on disk says autostart, for a reboot."""
    shop = Shop(tmp_path, sys.executable)
    try:
        shop.apply()
        big = COMMAND.format("big", "/bin/sleep 999").replace("numprocs = 2", "numprocs = 60\nroom = 0")
        shop.write(COMMAND.format("a", "/bin/sleep 999"), big)
        assert not shop.apply().failed
        assert len(shop.pids("shop-big")) == 60
        assert "autostart=true" in shop.files()["fleet.shop-big.conf"]
        before = shop.pids()
        assert shop.apply().is_unchanged
        shop.write(COMMAND.format("a", "/bin/sleep 998"), big)
        shop.apply()
        assert shop.pids("shop-big").items() <= before.items()
    finally:
        shop.place.client().stop_all()
        private.stop(private.home(tmp_path / ".fleet"))
