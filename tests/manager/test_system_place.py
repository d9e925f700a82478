"""A supervisord that is not fleet's own: only our files and groups are touched, and it is never ended."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import Refused, RenderError, SupervisorUnavailable
from fleet.manager import scale as scaling
from fleet.manager.apply import Desired, apply
from fleet.manager.files import opened
from fleet.manager.places import Place
from fleet.supervisor import private
from tests.cli.command import fleet
from tests.manager.test_apply import by_pipeline, conf, desired, process, running
from tests.supervisord import private_home


@pytest.fixture
def place() -> Iterator[Place]:
    """A system's supervisord with a program of somebody else in its conf_dir."""
    # conf_dir and everything above it must be in nobody else's reach, and pytest's folders are below /tmp.
    folder = Path(tempfile.mkdtemp(prefix=".fleet-test-", dir=Path(__file__).parents[2]))
    try:
        with opened(folder, private=False):
            pass
    except Refused as refused:
        folder.rmdir()
        pytest.skip(str(refused))
    try:
        with private_home(folder, {"nginx.conf": "[program:nginx]\ncommand=/bin/sleep 1000\n"}) as home:
            private.start(home)
            # Its main file is found by the daemon's own command line.
            yield Place(url=home.url, conf_dir=home.conf_dir, main_conf=Path("/nowhere/supervisord.conf"))
    finally:
        shutil.rmtree(folder)


def test_foreign_programs_never_notice(place: Place) -> None:
    """Add, change and remove: their pids and files stay, and so does the daemon."""
    daemon = place.client().state()
    theirs = process(place, "nginx").pid
    for step in ({"a": conf("a")}, {"a": conf("a", mark="y"), "b": conf("b")}, {"b": conf("b")}):
        result = apply(place, system(place, step))
        assert not result.failed
        assert process(place, "nginx").pid == theirs
    assert by_pipeline(result) == {"shop-a": "removed", "b": "kept"}
    assert sorted(running(place)) == ["nginx:nginx", "shop-b:shop-b_00", "shop-b:shop-b_01"]
    assert place.client().state() == daemon
    assert (place.conf_dir / "nginx.conf").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_process_of_another_user_keeps_nothing_of_root(place: Place) -> None:
    """S33: as docs/worker.md says: no capability, none to be had back, and no group but its own."""
    assert not apply(place, system(place, {"a": conf("a", numprocs=1, user="nobody")})).failed
    pid = process(place, "shop-a_00").pid
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert {status[name].strip("\t0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}
    user = pwd.getpwnam("nobody")
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Groups"].split() == [str(user.pw_gid)]


def system(place: Place, confs: dict[str, str]) -> Desired:
    """As `desired`, without a main file: that one is not ours."""
    home = private.home(place.conf_dir.parent)
    return replace(desired(replace(place, home=home), confs), main_conf=None)


def test_a_conf_dir_that_nobody_includes_is_told(place: Place) -> None:
    """Otherwise the files would lie there, and nothing would happen."""
    elsewhere = place.conf_dir.parent / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(RenderError, match=r"does not include .*elsewhere.*\[include\] files"):
        apply(replace(place, conf_dir=elsewhere), system(place, {"a": conf("a")}))
    assert list(elsewhere.glob("*.conf")) == []


def test_a_group_of_somebody_else_is_neither_stopped_nor_scaled(place: Place, tmp_path: Path) -> None:
    """As long as fleet has made none of that name, a pipeline of the manifest is not it."""
    (tmp_path / "fleet.toml").write_text(
        f'[supervisor]\nurl = "{place.url}"\nconf_dir = "{place.conf_dir}"\n'
        '[pipelines.nginx]\ncommand = "/bin/sleep 999"\n'
    )
    theirs = process(place, "nginx").pid
    for words in (
        ("stop", "nginx"),
        ("start", "all"),
        ("restart", "n*"),
        ("restart", "nginx", "--rolling"),
        ("scale", "nginx=0"),
    ):
        done = fleet(*words, "-y", folder=tmp_path)
        assert done.returncode == Refused.exit_code, done.stderr
        assert "nginx" in done.stderr
        assert "was not made by fleet" in done.stderr
    with pytest.raises(Refused, match="not made by fleet"):
        scaling.scale(place, "", {"nginx": 0}, numprocs={"nginx": 1})
    assert process(place, "nginx").pid == theirs


def test_it_is_not_started(place: Place) -> None:
    """Whoever manages it does that."""
    with pytest.raises(SupervisorUnavailable, match="no such socket"):
        apply(replace(place, url="unix:///nowhere/s.sock"), system(place, {"a": conf("a")}))
    assert not (place.conf_dir / "fleet.shop-a.conf").exists()
