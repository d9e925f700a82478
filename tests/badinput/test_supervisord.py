"""
Hostile and broken supervisords, X1 to X20, as `fleet apply` meets them: exit 5, nothing written.

A real socket server plays the attacker.  The answers that only one call can
give (wrong types in a process, say) are tests/supervisor/test_hostile_server.py's.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fleet.errors import BadReply
from fleet.manager.places import Place
from fleet.supervisor import private
from fleet.supervisor.client import CANT_REREAD, SHUTDOWN_STATE, Supervisor
from fleet.supervisor.process import ProcessState
from tests.badinput.world import MANIFEST, Said, World, assert_refused, fleet_says, is_safe
from tests.supervisor.test_hostile_server import (
    ABOUT_PROCESSES,
    HOSTILE,
    PACKED,
    a_process,
    fault,
    http,
    patience_for,
    response,
    serving,
)
from tests.supervisord import private_home

Answer = Callable[[socket.socket], None]


def of_version(version: str, api: str = "3.0") -> Answer:
    state = "<struct><member><name>statename</name><value>RUNNING</value></member></struct>"
    values = "".join(f"<value>{each}</value>" for each in (state, "<int>7</int>", version, api))
    return http(response(f"<array><data>{values}</data></array>"))


# What it answers to whatever it is asked: a pattern of the report.
ROWS: dict[str, tuple[Answer, str]] = {
    **{f"X {name}": (answer, words) for name, (answer, _, words) in HOSTILE.items()},
    "X19 an old supervisord": (of_version("3.3.1"), "version 3.3.1 .* needs 4.2.5 or later"),
    "X19 one a bit too old": (of_version("4.2.4"), "version 4.2.4 .* needs 4.2.5 or later"),
    "X19 another API": (of_version("5.0", "4.0"), r"version 5.0 \(API 4.0\)"),
}
# Of one that tells its state as it should, and lies about its processes, by itself or by fleet's plug-in.
LIES: dict[str, tuple[Answer, str]] = {
    **{f"X {name}": ROWS[f"X {name}"] for name, (_, _, words) in HOSTILE.items() if words in ABOUT_PROCESSES},
    **{
        f"X plug-in: {name}": (http(response(value)), r"\[rpcinterface:fleet\]")
        for name, value in PACKED.items()
    },
    "X13 too many": (
        http(response(a_process()[:13] + "<value/>" * 10_001 + a_process()[-15:])),
        r"10,001 processes; fleet reads 10,000\. Share them out among several",
    ),
}


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conf_dir lies below /tmp, where everybody may write; that is another row's matter (R2)."""
    monkeypatch.setattr("fleet.manager.files._check_unreachable", lambda folder: None)


def manifest_for(url: str, conf_dir: Path, variable: str = "SUPERVISOR_PASSWORD") -> str:
    """One more pipeline than runs, so that there is something to write, for the supervisord at *url*."""
    place = f'[supervisor]\nurl = "{url}"\nconf_dir = "{conf_dir}"\nusername = "fleet"\n'
    more = '[pipelines.x]\ncommand = "/bin/cat"\nuser = "root"\n'
    return f'{MANIFEST}{more}{place}password = {{ env = "{variable}" }}\n'


@pytest.mark.parametrize("line", ["--yes apply", "plan"])
@pytest.mark.parametrize("row", ROWS)
def test_a_bad_supervisord_gets_nothing_written(
    row: str,
    line: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 5 with the address and the reason; no password in the text, no file written; X5: and in time."""
    answer, words = ROWS[row]
    monkeypatch.setenv("SUPERVISOR_PASSWORD", "hunter2")
    real = Place.client  # a call has five or sixty seconds there
    monkeypatch.setattr(Place, "client", lambda place, timeout=0.0: real(place, patience_for(words)))
    with serving(answer, tmp_path / "s.sock"):
        world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", world.conf_dir))
        began = time.monotonic()
        said = fleet_says(capsys, *line.split())
    assert time.monotonic() - began < 10  # 0.6 s on an idle machine: one call, which is not tried again
    assert_refused(said, 5, "fleet: error: ")
    assert re.search(
        words if words not in ABOUT_PROCESSES else "answers a multicall of 4 in another form", said.err
    )
    assert f"unix://{tmp_path}/s.sock" in said.err
    assert "hunter2" not in said.err + said.out


@pytest.mark.parametrize("line", ["--yes apply", "plan", "status --once"])
@pytest.mark.parametrize("row", LIES)
def test_x11_lies_about_processes_are_told_by_their_field(
    row: str,
    line: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """X11, X13: exit 5, the field or the section to blame; a screen says so in the place of the processes."""
    answer, words = LIES[row]
    monkeypatch.setenv("SUPERVISOR_PASSWORD", "hunter2")
    with serving(answer, tmp_path / "s.sock", plugin="plug-in" in row, state=True):
        world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", world.conf_dir))
        said = fleet_says(capsys, *line.split())
    assert_refused(said, 0 if line == "status --once" else 5)
    assert re.search(words, said.err + said.out)
    assert "X13" not in row or said.code == 0 or f"unix://{tmp_path}/s.sock" in said.err
    assert "hunter2" not in said.err + said.out


X1 = {
    "nothing": ("there is no such socket", "Start supervisord"),
    "a file": ("that is not a socket (0644, ", "Move it away"),
    "a link": ("it is a symbolic link (0777, ", "Name the socket itself"),
    "a folder": ("that is not a socket (0755, ", "Move it away"),
    "a dead socket": ("nobody listens at it", "Start supervisord again"),
}


@pytest.mark.parametrize("what", X1)
def test_x1_what_lies_at_the_address_is_said(
    what: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """X1: the path, what it is, its mode and owner, and what to do; exit 5."""
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
    world.manifest.write_text(manifest_for(f"unix://{path}", world.conf_dir, "PATH"))
    assert_refused(fleet_says(capsys, "--yes", "apply"), 5, str(path), *X1[what])


def test_x13_more_processes_than_anybody_has_are_refused(tmp_path: Path) -> None:
    """X13: no list of millions is built; the error counts them."""
    one = a_process().removeprefix("<array><data>").removesuffix("</data></array>")
    body = response(f"<array><data>{one * 10_001}</data></array>")
    with (
        serving(http(body), tmp_path / "s.sock") as supervisor,
        pytest.raises(BadReply, match=r"lists 10,001 processes; fleet reads 10,000\."),
    ):
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


@pytest.mark.parametrize("line", ["status --once --procs", "status --once --json", "plan", "doctor", "logs"])
def test_x14_no_screen_passes_a_name_on(
    line: str,
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """X14: names of groups, processes and files that a supervisord thinks up are shown escaped."""
    monkeypatch.setenv("SUPERVISOR_PASSWORD", "hunter2")
    evil = "../../etc/x\u202e\u009b2J[red]"
    one = a_process(name=f"<string>{evil}</string>", group=f"<string>{evil}</string>")
    ours = a_process(
        name=f"<string>{evil}</string>",
        group="<string>shop-emails</string>",
        spawnerr=f"<string>{evil}</string>",
        state="<int>200</int>",
        stdout_logfile=f"<string>{evil}</string>",
    )
    answer = http(response(one[:-15] + ours[13:]))
    with serving(answer, tmp_path / "s.sock", state=True):
        world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", world.conf_dir))
        said = fleet_says(capsys, *line.split())
    text = said.out + said.err
    assert said.code in (0, 3), text
    assert is_safe(text)
    assert "Traceback" not in text and "a bug" not in text
    if "--procs" in line:
        assert r"../../etc/x\u202e\x9b2J[red]" in said.out
    if line == "plan":
        assert r"left alone: 1 of others (../../etc/x\u202e\x9b2J[red])" in said.out


def test_x4_a_redirect_is_not_followed(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X4: nobody ever calls at the other address, and so it is told no password."""
    monkeypatch.setenv("SUPERVISOR_PASSWORD", "hunter2")
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        to = f"Location: http://127.0.0.1:{other.getsockname()[1]}/RPC2\r\n"
        for status in (
            "301 Moved Permanently",
            "302 Found",
            "307 Temporary Redirect",
            "308 Permanent Redirect",
        ):
            with serving(http("", status, to), tmp_path / "s.sock"):
                world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", world.conf_dir))
                assert_refused(
                    fleet_says(capsys, "--yes", "apply"), 5, f"redirect ({status[:3]})", "follows none"
                )
            (tmp_path / "s.sock").unlink()
        with pytest.raises(BlockingIOError):
            other.accept()


class Refusing:
    """
    Stands before a supervisord, and gives some calls an answer that it thinks of itself.

    `reply` is that answer, `at` what such a call holds; `times` counts down
    those that are left, and the proof that it bit is that it reached nought.
    """

    def __init__(self, real: Path) -> None:
        self.real = real
        self.reply, self.at, self.times = http(""), b"", 0

    def answer(self, client: socket.socket, asked: bytes) -> None:
        if self.times and self.at in asked:
            self.times -= 1
            self.reply(client)
            return
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self.real))
            server.sendall(asked)
            while chunk := server.recv(65536):  # it closes, as it was asked to
                client.sendall(chunk)


@contextmanager
def relaying(refusing: Refusing, path: Path) -> Iterator[None]:
    """Its socket at *path*; one caller at a time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, suppress(OSError):
                    asked = b""
                    while b"</methodCall>" not in asked:
                        asked += client.recv(65536)
                    refusing.answer(client, asked)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def write_shop(folder: Path, conf_dir: Path, *commands: str) -> None:
    """A manifest with a pipeline for each of *commands*, for the supervisord at s.sock beside it."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    text = f"""\
project = "shop"
[supervisor]
url = "unix://{folder}/s.sock"
conf_dir = "{conf_dir}"
[defaults]
user = "{user}"
logs = {{ dir = "{folder}/logs" }}
"""
    for name, command in zip(("emails", "thumbs"), commands, strict=False):
        text += f'[pipelines.{name}]\ncommand = "{command}"\n'
    (folder / "fleet.toml").write_text(text)


def confs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("fleet.*.conf")}


BACK = ("not now", "refuses the files", "old files are back in place")
WROTE = (
    "Done before that: wrote fleet.shop-emails.conf, fleet.shop-thumbs.conf",
    "Run the same command again",
)
BEGUN = ("thumbs.conf; begun with thumbs, emails. Run",)
REREAD, SHUTDOWN = (http(fault(code, "not now")) for code in (CANT_REREAD, SHUTDOWN_STATE))
# What is answered to which call, how often; then the exit code and words of the report.
X17: dict[str, tuple[Answer, bytes, int, int, tuple[str, ...]]] = {
    "the new files, and the old ones too": (REREAD, b"reloadConfig", 2, 4, BACK),
    "to read": (SHUTDOWN, b"reloadConfig", 1, 7, ("not now", *WROTE)),
    "to add": (SHUTDOWN, b"addProcessGroup", 1, 7, ("not now", *WROTE, *BEGUN)),
    "in nonsense": (http("hello"), b"addProcessGroup", 1, 7, ("is not XML", *WROTE, *BEGUN)),
}


@pytest.mark.parametrize("what", X17)
def test_x17_a_fault_in_the_middle_tells_what_was_done(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """X17: files that it refuses are taken back; else what was done is listed, and a second run finishes."""

    def apply() -> Said:
        return fleet_says(capsys, "-m", f"{tmp_path}/fleet.toml", "--yes", "apply")

    with private_home(tmp_path / "daemon") as home:
        private.start(home)
        refusing = Refusing(home.socket)
        with relaying(refusing, tmp_path / "s.sock"):
            write_shop(tmp_path, home.conf_dir, "/bin/sleep 997")
            assert apply().code == 0
            before = confs(home.conf_dir)
            write_shop(tmp_path, home.conf_dir, "/bin/sleep 996", "/bin/sleep 995")
            refusing.reply, refusing.at, refusing.times, code, words = X17[what]
            assert_refused(apply(), code, *words)
            assert refusing.times == 0
            assert (confs(home.conf_dir) == before) == (code == 4)
            done = apply()
            assert done.code == 0, done
        running = {p.group for p in Supervisor(home.url).processes() if p.state is ProcessState.RUNNING}
        assert running == {"shop-emails", "shop-thumbs"}
        assert "sleep 996" in confs(home.conf_dir)["fleet.shop-emails.conf"]
