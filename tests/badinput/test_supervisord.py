"""
Hostile and broken supervisords, X1 to X20, as `fleet apply` meets them: exit 5, nothing written.

A real socket server plays the attacker.  The answers that only one call can
give (wrong types in a process, say) are tests/supervisor/test_hostile_server.py's.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import BadReply
from fleet.manager.places import Place
from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says
from tests.supervisor.test_hostile_server import HOSTILE, TIMEOUT, a_process, http, response, serving

SLOW = {"says nothing", "one byte at a time", "slow body", "endless body", "endless header"}
OLD = response(
    "<array><data>"
    "<value><struct><member><name>statename</name><value><string>RUNNING</string></value></member></struct></value>"
    "<value><int>7</int></value><value><string>3.3.1</string></value><value><string>3.0</string></value>"
    "</data></array>"
)

# A name: what the server sends, and the words of the report.
ROWS: dict[str, tuple[Callable[[socket.socket], None], tuple[str, ...]]] = {
    **{f"X {name}": (HOSTILE[name][0], ("s.sock",)) for name in HOSTILE},
    "X19 an old supervisord": (http(OLD), ("version 3.3.1", "needs 4.2.5 or later")),
}


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conf_dir lies below /tmp, where everybody may write; that is another row's matter (R2)."""
    monkeypatch.setattr("fleet.manager.files._check_unreachable", lambda folder: None)


def manifest_for(url: str, conf_dir: Path) -> str:
    place = f'[supervisor]\nurl = "{url}"\nconf_dir = "{conf_dir}"\nusername = "fleet"\n'
    return MANIFEST + 'user = "root"\n' + place + 'password = { env = "SUPERVISOR_PASSWORD" }\n'


@pytest.mark.parametrize(
    ("line", "row"),
    [("--yes apply", row) for row in ROWS] + [("plan", row) for row in ROWS if row[2:] not in SLOW],
)
def test_a_bad_supervisord_gets_nothing_written(
    row: str,
    line: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 5 with the address; no password in the text, no file in the conf_dir; X5: and in time."""
    answer, words = ROWS[row]
    conf_dir = tmp_path / "conf.d"
    conf_dir.mkdir(mode=0o755)
    monkeypatch.setenv("SUPERVISOR_PASSWORD", "hunter2")
    monkeypatch.setattr(Place.client, "__defaults__", (TIMEOUT,))  # seconds for each call, in place of five
    with serving(answer, tmp_path / "s.sock"):
        world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", conf_dir))
        began = time.monotonic()
        said = fleet_says(capsys, *line.split())
    assert time.monotonic() - began < 30  # 0.6 s on an idle machine: one call, which is not tried again
    assert_refused(said, 5, *words)
    assert "hunter2" not in said.err + said.out
    assert {path.name for path in conf_dir.iterdir()} <= {".fleet.lock"}


@pytest.mark.parametrize("what", ["nothing", "a file", "a link", "a folder", "a dead socket"])
def test_x1_what_lies_at_the_address_is_said(
    what: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """X1: the path and what it is; exit 5."""
    path = tmp_path / "s.sock"
    match what:
        case "a file":
            path.write_text("")
        case "a link":
            path.symlink_to(world.root / ".fleet" / "supervisor.sock")
        case "a folder":
            path.mkdir()
        case "a dead socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
    text = manifest_for(f"unix://{path}", tmp_path).replace(
        'password = { env = "SUPERVISOR_PASSWORD" }\n', ""
    )
    world.manifest.write_text(text)
    assert_refused(fleet_says(capsys, "--yes", "apply"), 5, str(path))


def test_x13_more_processes_than_anybody_has_are_refused(tmp_path: Path) -> None:
    """X13: no list of millions is built; the error counts them."""
    one = a_process().removeprefix("<array><data>").removesuffix("</data></array>")
    body = response(f"<array><data>{one * 10_001}</data></array>")
    with (
        serving(http(body), tmp_path / "s.sock") as supervisor,
        pytest.raises(BadReply, match=r"10,001|16 MiB"),
    ):
        supervisor._transport.timeout = 30  # 10,001 entries are seven megabytes
        supervisor.processes()


@pytest.mark.parametrize("name", ["../../etc/x", "&#27;]0;evil&#7;", "a:b:c", "&#x202e;evil", "x" * 5000])
def test_x14_a_name_is_a_text_and_never_a_path(name: str, tmp_path: Path) -> None:
    """X14: it is carried as it came, or is no XML; whoever prints it escapes it (tests/security)."""
    answer = http(response(a_process(name=f"<string>{name}</string>")))
    with serving(answer, tmp_path / "s.sock") as supervisor:
        if "&#27;" in name:
            with pytest.raises(BadReply):
                supervisor.processes()
        else:
            (process,) = supervisor.processes()
            assert process.full_name.startswith("w:")
