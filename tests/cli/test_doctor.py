"""fleet doctor: findings with what mends them, and nothing touched."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet.cli.doctor import clock_finding
from fleet.queue.backend import clock_ahead
from fleet.supervisor import pids
from tests.cli.test_up_and_down import fleet, shop  # noqa: F401  (a fixture)
from tests.waiting import eventually


def tree(root: Path) -> dict[str, str]:
    """Every file with its mode and content; pipes and sockets by name alone."""
    found = {}
    for path in sorted(root.rglob("*")):
        text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(root))] = f"{path.lstat().st_mode:o} {text}"
    return found


def test_it_looks_and_touches_nothing(shop: Path) -> None:  # noqa: F811
    """Before anything exists, and while everything runs: plan, too."""
    before = tree(shop)
    assert "a private one, and it does not run" in fleet(shop, "doctor")
    assert "2 to add" in fleet(shop, "plan", "--diff")
    assert tree(shop) == before

    fleet(shop, "up")
    (shop / "fleet.toml").write_text(
        (shop / "fleet.toml").read_text().replace("numprocs = 2", "numprocs = 3")
    )
    logs = shop / ".fleet" / "logs"
    # After that the workers write nothing more.
    eventually(lambda: [log.read_text().split()[:1] for log in logs.glob("*")] == [["ready"]] * 3)
    before = tree(shop)
    said = fleet(shop, "doctor")
    assert "▲ drift        what runs is not what the manifest asks for: emails" in said
    assert "fleet plan && fleet apply" in said
    fleet(shop, "plan", "--diff")
    assert tree(shop) == before


def test_a_clock_that_differs_is_a_warning() -> None:
    """With how much and which way; what lies within the round trip is no difference."""
    assert clock_finding(0.5).level == "ok"
    assert "1m00s ahead of this host" in clock_finding(60.0).text
    late = clock_finding(-90.0)
    assert "1m30s behind this host" in late.text
    assert (late.level, bool(late.mend)) == ("warning", True)
    assert clock_ahead(100.0, 99.0, 101.0) == 0
    assert clock_ahead(111.0, 99.0, 101.0) == 10
    assert clock_ahead(90.0, 99.0, 101.0) == -9


def test_what_an_earlier_supervisord_left_is_found(shop: Path) -> None:  # noqa: F811
    """With the command that ends it; exit 3."""
    fleet(shop, "up")
    daemon = int((shop / ".fleet" / "supervisord.pid").read_text())
    workers = pids.mark(p.pid for p in psutil.Process(daemon).children())
    os.kill(daemon, signal.SIGKILL)
    try:
        document = json.loads(fleet(shop, "doctor", "--json", code=3))
        (found,) = (f for f in document["findings"] if f["what"] == "orphans")
        assert found["level"] == "bad"
        assert found["mend"] == [
            f"kill -TERM {' '.join(str(p.pid) for p in sorted(workers, key=lambda p: p.pid))}"
        ]
    finally:
        for worker in workers:
            worker.kill()


def test_workers_of_a_supervisord_that_lives_are_no_orphans(shop: Path) -> None:  # noqa: F811
    """Its socket is gone, or refuses us, and it goes on looking after them."""
    fleet(shop, "up")
    socket = shop / ".fleet" / "supervisor.sock"
    text = (shop / "fleet.toml").read_text()
    place = f'[supervisor]\nurl = "unix://{socket}"\nconf_dir = "{shop}/.fleet/conf.d"\n'
    (shop / "fleet.toml").write_text(text + place)
    socket.rename(shop / "away")
    try:
        said = fleet(shop, "doctor", code=3)
    finally:
        (shop / "away").rename(socket)
    assert "✖ supervisord" in said
    assert "✔ orphans      none" in said


def test_a_handler_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    """As `fleet check` does: its worker would end at once, again and again."""
    (tmp_path / "fleet.toml").write_text('[pipelines.emails]\nhandler = "nowhere:send"\n')
    assert "no module nowhere" in fleet(tmp_path, "doctor", code=3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_python_that_the_user_may_not_run_is_told_with_the_user(tmp_path: Path) -> None:
    """A virtual environment below /root, most often."""
    (tmp_path / "python").touch(mode=0o700)
    (tmp_path / "fleet.toml").write_text(
        '[pipelines.emails]\nhandler = "nowhere:send"\nuser = "nobody"\npython = "./python"\n'
    )
    assert "cannot be run as nobody: Permission denied" in fleet(tmp_path, "check", code=4)


def test_a_place_that_cannot_be_used_is_told(shop: Path) -> None:  # noqa: F811
    """A supervisord that is not there, a conf_dir that is not there."""
    text = (shop / "fleet.toml").read_text()
    place = f'[supervisor]\nurl = "unix://{shop}/no.sock"\nconf_dir = "{shop}/nowhere"\n'
    (shop / "fleet.toml").write_text(text + '[defaults]\nuser = "nobody"\nlogs = { dir = "logs" }\n' + place)
    said = fleet(shop, "doctor", code=3)
    assert "✖ supervisord" in said
    assert "sudo install -d -o" in said
    assert "includes" not in said, "which file it would read is not known while it does not run"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path) -> None:
    """Where the logs go; with what shows who takes the space."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "fleet.toml").write_text(
        '[pipelines.emails]\ncommand = "/bin/sleep 9"\nlogs = { dir = "logs" }\n'
    )
    fleet_there = f"exec {sys.executable} -m fleet doctor --json"
    script = f"mount -t tmpfs -o size=50M none logs && {fleet_there}"
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    if "mount:" in said.stderr or "unshare:" in said.stderr:
        pytest.skip(f"no mounts here: {said.stderr.strip()}")
    (disk,) = [found for found in json.loads(said.stdout)["findings"] if found["what"] == "disk"]
    assert said.returncode == 3
    assert disk["level"] == "bad"
    assert disk["text"].endswith("logs: 50M are free")
    assert disk["mend"] == [f"df -h {tmp_path}/logs"]
