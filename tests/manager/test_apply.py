"""Files and groups become what is wanted, and nothing else is disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from fleet.errors import Refused, RenderError
from fleet.manager import apply as applying
from fleet.manager import foreign, world
from fleet.manager.apply import Applied, Desired, apply
from fleet.manager.places import Place
from fleet.supervisor import pids, private
from fleet.supervisor.client import Supervisor, Verdicts
from fleet.supervisor.process import Process, ProcessState
from tests.supervisord import VERSIONS, main_conf, private_home, python_with
from tests.waiting import eventually

DRAINER = (
    "import signal, sys, time; "
    "signal.signal(15, lambda *_: (time.sleep({drain}), sys.exit(0))); time.sleep(1000)"
)


def conf(
    pipeline: str,
    numprocs: int = 2,
    room: int = 2,
    command: str = "/bin/sleep 1000",
    mark: str = "x",
    **extra: object,
) -> str:
    """One group with room to grow, as fleet renders it."""
    common = f"""\
command={command}
process_name=%(group_name)s_%(process_num)02d
environment=FLEET_REVISION="{mark}"
autorestart=true
startsecs=1
redirect_stderr=true
stdout_logfile=%(here)s/../logs/%(group_name)s_%(process_num)02d.log
""" + "".join(f"{key}={value}\n" for key, value in extra.items())
    return f"""\
; managed by fleet | project shop | pipeline {pipeline} | rev {mark} | edits are overwritten
[program:shop-{pipeline}]
numprocs={numprocs}
autostart=true
{common}
[program:shop-{pipeline}-burst]
numprocs={room}
numprocs_start={numprocs}
autostart=false
{common}
[group:shop-{pipeline}]
programs=shop-{pipeline},shop-{pipeline}-burst
"""


@pytest.fixture(params=VERSIONS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A private place whose supervisord is of each supported version."""
    python = python_with(request.param)
    start = private.start
    monkeypatch.setattr(private, "start", lambda home, **more: start(home, **{"python": python, **more}))
    with private_home(tmp_path) as home:
        yield Place(url=home.url, conf_dir=home.conf_dir, main_conf=home.main_conf, home=home)


def desired(place: Place, confs: Mapping[str, str]) -> Desired:
    return Desired(
        project="shop",
        files={f"fleet.shop-{name}.conf": text for name, text in confs.items()},
        groups={f"shop-{name}": name for name in confs},
        main_conf=main_conf(place.home),
    )


def planned(place: Place, want: Desired) -> None:
    """What `fleet plan` asks, so that it tells of what apply would refuse."""
    foreign.check(place, want, world.plan(place, want))


def running(place: Place) -> dict[str, int]:
    return {p.full_name: p.pid for p in place.client().processes() if p.state is ProcessState.RUNNING}


def process(place: Place, name: str) -> Process:
    return next(p for p in place.client().processes() if p.name == name)


def by_pipeline(applied: Applied) -> dict[str, str]:
    return {group.pipeline: group.action for group in applied.groups}


def test_the_first_apply_starts_supervisord_and_every_wanted_process(place: Place) -> None:
    """The room above numprocs stays empty; a second run touches nothing and says so."""
    told: list[str] = []
    want = desired(place, {"emails": conf("emails"), "thumbs": plain("thumbs")})
    first = apply(place, want, tell=lambda group: told.append(group.pipeline))

    assert first.started
    assert by_pipeline(first) == {"emails": "added", "thumbs": "added"}
    assert sorted(told) == ["emails", "thumbs"]
    pids_before = running(place)
    assert sorted(pids_before) == [
        "shop-emails:shop-emails_00",
        "shop-emails:shop-emails_01",
        "shop-thumbs:shop-thumbs_00",
    ]

    second = apply(place, want)
    assert second.is_unchanged
    assert not second.started
    assert running(place) == pids_before


@pytest.mark.parametrize(("delay", "most"), [(0.0, 25), (0.3, 10)])
def test_new_groups_come_in_portions(
    delay: float, most: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supervisord forks a portion in one turn, in which it answers nobody; a slow one gets fewer."""
    portions: list[list[str]] = []
    add = Supervisor.add_groups

    def slowly(client: Supervisor, groups: Iterable[str]) -> Verdicts:
        portions.append(list(groups))
        time.sleep(delay)
        return add(client, portions[-1])

    monkeypatch.setattr(Supervisor, "add_groups", slowly)
    names = ("a", "b", "c", "d", "e", "f")
    assert not apply(place, desired(place, {name: conf(name, numprocs=10) for name in names})).failed
    added = [portion for portion in portions if portion]
    assert sorted(group for portion in added for group in portion) == [f"shop-{name}" for name in names]
    assert max(10 * len(portion) for portion in added) <= 25
    assert all(10 * len(portion) <= most for portion in added[2:])


def test_the_whole_list_is_asked_for_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs supervisord dearly; those that are waited for are asked for by name."""
    asked: list[Supervisor] = []
    processes = Supervisor.processes

    def counted(client: Supervisor) -> tuple[Process, ...]:
        asked.append(client)
        return processes(client)

    monkeypatch.setattr(Supervisor, "processes", counted)
    apply(place, desired(place, {"a": conf("a"), "b": conf("b")}))
    assert len(asked) == 0
    done = apply(place, desired(place, {"a": conf("a", mark="new"), "c": conf("c")}))
    assert by_pipeline(done) == {"a": "replaced", "shop-b": "removed", "c": "added"}
    assert len(asked) == 1


def plain(pipeline: str) -> str:
    """`room = 0`: one program and no group section."""
    return f"""\
; managed by fleet | project shop | pipeline {pipeline} | rev x | edits are overwritten
[program:shop-{pipeline}]
command=/bin/sleep 1000
process_name=%(program_name)s_%(process_num)02d
redirect_stderr=true
stdout_logfile=NONE
"""


def test_other_groups_keep_their_pids(place: Place) -> None:
    """One group is new, one changes, one goes: the fourth, and a foreign one, never notice."""
    (place.conf_dir / "other.conf").write_text("[program:other]\ncommand=/bin/sleep 1000\n")
    apply(place, desired(place, {"a": conf("a"), "b": conf("b"), "c": conf("c")}))
    eventually(lambda: len(running(place)) == 7)
    before = running(place)

    after = apply(place, desired(place, {"a": conf("a"), "b": conf("b", mark="y"), "d": conf("d")}))

    assert by_pipeline(after) == {"a": "kept", "b": "replaced", "shop-c": "removed", "d": "added"}
    now = running(place)
    untouched = [name for name in before if name.startswith(("shop-a:", "other:"))]
    assert {name: now[name] for name in untouched} == {name: before[name] for name in untouched}
    assert not any(name.startswith("shop-c:") for name in now)
    assert not {now["shop-b:shop-b_00"], now["shop-b:shop-b_01"]} & set(before.values())
    assert not (place.conf_dir / "fleet.shop-c.conf").exists()
    assert (place.conf_dir / "other.conf").exists()


def test_a_new_number_keeps_those_that_run(place: Place) -> None:
    """2 → 3 → 1 inside the room: survivors keep their pids, and the files say what a reboot would start."""
    apply(place, desired(place, {"a": conf("a", 2, 2)}))
    before = running(place)

    up = apply(place, desired(place, {"a": conf("a", 3, 1)}))
    assert by_pipeline(up) == {"a": "started"}
    more = running(place)
    assert len(more) == 3
    assert before.items() <= more.items()

    down = apply(place, desired(place, {"a": conf("a", 1, 3)}))
    assert by_pipeline(down) == {"a": "scaled"}
    left = running(place)
    assert left == {"shop-a:shop-a_00": before["shop-a:shop-a_00"]}
    assert apply(place, desired(place, {"a": conf("a", 1, 3)})).is_unchanged


def test_more_than_the_room_replaces_the_group(place: Place) -> None:
    """supervisord cannot add a process to a group that runs."""
    apply(place, desired(place, {"a": conf("a", 1, 1)}))
    result = apply(place, desired(place, {"a": conf("a", 3, 1)}))
    assert by_pipeline(result) == {"a": "replaced"}
    assert len(running(place)) == 3


def test_a_stopped_process_is_started_again(place: Place) -> None:
    """`up` means that what is wanted runs, whoever stopped it."""
    want = desired(place, {"a": conf("a")})
    apply(place, want)
    before = running(place)
    place.client().stop(["shop-a:shop-a_01"])
    result = apply(place, want)
    assert by_pipeline(result) == {"a": "started"}
    assert running(place)["shop-a:shop-a_00"] == before["shop-a:shop-a_00"]
    assert len(running(place)) == 2


def test_a_process_that_does_not_come_up_is_told_with_its_last_words(place: Place) -> None:
    """Not after all of its retries: two deaths are enough."""
    broken = conf(
        "a",
        1,
        0,
        command=f"{sys.executable} -c 'raise SystemExit(\"no module named shop\")'",
        startretries=10,
    )
    began = time.monotonic()
    result = apply(place, desired(place, {"a": broken, "b": conf("b")}))

    assert time.monotonic() - began < 30  # all ten take 55 s
    (failed,) = result.failed
    assert failed.pipeline == "a"
    assert failed.failures[0].lines[-1] == "no module named shop"
    assert "Exited too quickly" in failed.failures[0].reason
    assert len([name for name in running(place) if name.startswith("shop-b:")]) == 2


def test_a_command_that_does_not_exist_is_named(place: Place) -> None:
    """supervisord takes such a file and fails at the start."""
    result = apply(place, desired(place, {"a": conf("a", 1, 0, command="/nowhere/worker")}))
    assert "/nowhere/worker" in result.failed[0].failures[0].reason


def test_a_broken_file_of_others_is_named_and_nothing_is_written(place: Place) -> None:
    """supervisord would refuse everything; its own parser finds out first."""
    apply(place, desired(place, {"a": conf("a")}))
    before = running(place), tree(place.conf_dir)
    (place.conf_dir / "theirs.conf").write_text("[program:theirs]\ncommand=x\nuser=no-such-user\n")
    want = desired(place, {"a": conf("a", mark="y")})
    for attempt in (apply, planned):
        with pytest.raises(RenderError, match=r"no-such-user.*theirs\.conf"):
            attempt(place, want)
    (place.conf_dir / "theirs.conf").unlink()
    assert (running(place), tree(place.conf_dir)) == before


def test_files_that_the_daemon_refuses_after_all_are_taken_back(place: Place) -> None:
    """Its parser imports what a file names, and ours does not: the last word is the daemon's."""
    apply(place, desired(place, {"a": conf("a")}))
    before = running(place), tree(place.conf_dir)
    listener = "[eventlistener:x]\ncommand=/bin/cat\nevents=TICK_5\nresult_handler=no.such:thing\n"
    with pytest.raises(RenderError, match=r"no\.such:thing.*\n.*old files are back"):
        apply(place, desired(place, {"a": conf("a", mark="y") + listener, "b": conf("b")}))
    assert (running(place), tree(place.conf_dir)) == before
    assert apply(place, desired(place, {"a": conf("a")})).is_unchanged


def test_a_program_of_the_same_name_in_a_foreign_file_is_refused(place: Place) -> None:
    """supervisord would merge the two sections, option by option."""
    theirs = place.conf_dir / "theirs.conf"
    theirs.write_text("[program:shop-a]\ncommand=/bin/true\n")
    for attempt in (apply, planned):
        with pytest.raises(
            RenderError, match=r"\[program:shop-a\] stands in .* supervisord would merge"
        ) as no:
            attempt(place, desired(place, {"a": conf("a")}))
        assert "fleet.shop-a.conf" in str(no.value)
        assert "theirs.conf" in str(no.value)
    theirs.write_text("[program:theirs]\ncommand=/bin/true\n")
    planned(place, desired(place, {"a": conf("a")}))
    assert private.find(place.home) is None


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("[program:x]\ncommand=/bin/true\n[group:shop-a]\nprograms=x\n", "group:shop-a"),
        ("[eventlistener:shop-a]\ncommand=/bin/true\nevents=TICK_60\n", "eventlistener:shop-a"),
    ],
)
def test_a_group_of_the_same_name_in_a_foreign_file_is_refused(section: str, name: str, place: Place) -> None:
    """supervisord would run one of the two, and an apply would take theirs for ours."""
    (place.conf_dir / "theirs.conf").write_text(section)
    for attempt in (apply, planned):
        with pytest.raises(RenderError, match="the group shop-a is made twice") as no:
            attempt(place, desired(place, {"a": plain("a")}))
        assert f"[{name}] in {place.conf_dir / 'theirs.conf'}" in str(no.value)
        assert f"[program:shop-a] in {place.conf_dir / 'fleet.shop-a.conf'}" in str(no.value)
    assert private.find(place.home) is None


@pytest.mark.parametrize(
    "text", ["[program:x]\ncommand=x\n", conf("a").replace("project shop", "project other")]
)
def test_a_file_that_is_not_ours_is_never_overwritten(text: str, place: Place) -> None:
    """The first line decides, and the project in it."""
    path = place.conf_dir / "fleet.shop-a.conf"
    path.write_text(text)
    for attempt in (apply, planned):
        with pytest.raises(Refused, match="Nothing was changed"):
            attempt(place, desired(place, {"a": conf("a")}))
    assert path.read_text() == text


def test_links_are_neither_followed_nor_replaced(place: Place, tmp_path: Path) -> None:
    """Whoever can plant a link must not choose what fleet overwrites."""
    outside = tmp_path / "outside.conf"
    outside.write_text(conf("a", mark="old"))
    path = place.conf_dir / "fleet.shop-a.conf"
    for plant in (path.symlink_to, path.hardlink_to):
        plant(outside)
        with pytest.raises(Refused, match=r"is not a plain file|another hard link"):
            apply(place, desired(place, {"a": conf("a")}))
        path.unlink()
    assert outside.read_text() == conf("a", mark="old")


def test_left_over_temporary_files_are_swept_and_never_included(place: Place) -> None:
    """A killed write leaves a name that no `*.conf` matches; the next run removes it."""
    left = place.conf_dir / ".fleet.shop-a.conf.0123abcd.tmp"
    left.write_text("[program:half")
    apply(place, desired(place, {"a": conf("a")}))
    assert not left.exists()


def test_a_killed_supervisord_is_brought_back(place: Place) -> None:
    """Its socket, pid file and our record are all out of date then."""
    want = desired(place, {"a": conf("a")})
    first = apply(place, want)
    killed = pids.mark([first.daemon.pid, *running(place).values()])
    os.kill(first.daemon.pid, signal.SIGKILL)
    for worker in killed[1:]:
        worker.kill()  # sleep does not notice that its parent died; fleet's own worker does
    assert not pids.wait_gone(killed, timeout=30)

    second = apply(place, want)
    assert second.started
    assert len(running(place)) == 2
    assert apply(place, want).is_unchanged


@pytest.mark.slow
def test_a_busy_supervisord_is_waited_for(place: Place) -> None:
    """The list of two thousand processes takes it ten seconds when its machine has other work."""
    want = desired(place, {"a": conf("a")})
    pid = apply(place, want).daemon.pid
    os.kill(pid, signal.SIGSTOP)
    awake = threading.Timer(6.0, os.kill, (pid, signal.SIGCONT))
    awake.start()
    try:
        assert len(place.client().processes()) == 4
    finally:
        awake.join()


def test_two_applies_at_once_take_turns(place: Place) -> None:
    """The second finds nothing left to do."""
    want = desired(place, {"a": conf("a")})
    results: list[Applied] = []
    threads = [threading.Thread(target=lambda: results.append(apply(place, want))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.is_unchanged for result in results) == [False, True, True]
    assert len(running(place)) == 2


def test_a_lock_that_is_held_is_told_with_its_holder(place: Place) -> None:
    """Waiting has an end."""
    with (
        applying.locked(place.conf_dir / ".fleet.lock", timeout=1),
        pytest.raises(Refused, match=f"pid {os.getpid()}"),
    ):
        apply(place, desired(place, {"a": conf("a")}), lock_timeout=0.1)


SCRIPT = """\
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.manager.test_apply import *
home = private.home(Path({home!r}))
place = Place(url=home.url, conf_dir=home.conf_dir, main_conf=home.main_conf, home=home)
apply(place, desired(place, {{"a": conf("a", mark="new"), "c": conf("c")}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.25, 0.4, 0.7, 1.2])
def test_an_apply_that_ends_in_the_middle_is_finished_by_the_next(
    after: float, signal_number: int, place: Place, tmp_path: Path
) -> None:
    """Ctrl-C or kill -9 at any moment: files are whole, and a second run reaches the goal."""
    drainer = f"{sys.executable} -c '{DRAINER.format(drain=0.5)}'"
    apply(place, desired(place, {"a": conf("a", command=drainer), "b": conf("b")}))
    root = str(Path(__file__).parents[2])
    script = SCRIPT.format(root=root, home=str(place.home.state_dir))
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, cwd=root) as child:
        time.sleep(after)
        child.send_signal(signal_number)
    for path in place.conf_dir.glob("fleet.*.conf"):
        assert path.read_text() in [conf("a", command=drainer), conf("a", mark="new"), conf("b"), conf("c")]

    want = desired(place, {"a": conf("a", mark="new"), "c": conf("c")})
    assert not apply(place, want).failed
    assert sorted(running(place)) == [f"shop-{g}:shop-{g}_0{n}" for g in "ac" for n in range(2)]
    assert apply(place, want).is_unchanged


def tree(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != ".fleet.lock"}
