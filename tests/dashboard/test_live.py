"""The live screen in a real pseudo-terminal, read back by a terminal emulator."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

import fleet
from tests import servers

ROOT = Path(__file__).parent.parent.parent
ENTER_ALTERNATE, LEAVE_ALTERNATE = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """A child on a pseudo-terminal, and what a person would see."""

    def __init__(
        self,
        *args: str,
        command: list[str] | None = None,
        width: int = 80,
        height: int = 24,
        **env: str,
    ) -> None:
        command = command or [sys.executable, "-m", "tests.dashboard.live_app", *args]
        clean = {
            k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        }
        self.child = pexpect.spawn(
            command[0],
            command[1:],
            cwd=str(ROOT),
            env={**clean, "TERM": "xterm-256color", **env},
            dimensions=(height, width),
            timeout=60,
        )
        self.raw = b""
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.ByteStream(self.screen)

    def read(self) -> None:
        try:
            data = self.child.read_nonblocking(65536, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        self.stream.feed(data)

    def until(self, condition: Callable[[str], bool], seconds: float = 60) -> str:
        """Read until the screen satisfies *condition*."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = "\n".join(self.screen.display)
            if condition(text):
                return text
            self.read()
        raise AssertionError("the screen shows:\n" + "\n".join(self.screen.display))

    def press(self, keys: str) -> None:
        self.child.send(keys)

    def finish(self) -> int | None:
        """Read the rest; exit code, or minus the signal."""
        end = time.monotonic() + 60
        while self.child.isalive() and time.monotonic() < end:
            self.read()
        self.read()
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else -(self.child.signalstatus or 0)


@contextlib.contextmanager
def postgres_of_our_own() -> Iterator[servers.Server]:
    """One that may be stopped; skipped at home where PostgreSQL is not installed."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(servers.postgres())
        except servers.NotInstalled as missing:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(missing))
        yield server


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened = []

    def start(*args: str, **options: object) -> Terminal:
        opened.append(Terminal(*args, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for each in opened:
        each.child.close(force=True)


def assert_restored(terminal: Terminal) -> None:
    """The alternate screen was left, the cursor is visible, and lines echo again."""
    assert terminal.raw.count(ENTER_ALTERNATE) == terminal.raw.count(LEAVE_ALTERNATE) > 0
    assert terminal.raw.rindex(LEAVE_ALTERNATE) > terminal.raw.rindex(ENTER_ALTERNATE)
    assert terminal.raw.rindex(SHOW_CURSOR) > terminal.raw.rindex(HIDE_CURSOR)


def test_q_leaves_restores_the_terminal_and_prints_what_to_do_next(terminal):
    """The farewell stands on the ordinary screen, after the alternate one was left."""
    it = terminal("all-well")
    it.until(lambda text: "emails_00" in text and "live" in text)
    it.press("q")
    assert it.finish() == 0
    assert_restored(it)
    tail = it.raw[it.raw.rindex(LEAVE_ALTERNATE) :].decode()
    assert "try: fleet why emails" in tail
    assert "ended: quit" in tail


def test_a_resize_redraws_at_the_new_size(terminal):
    """SIGWINCH: the next frame fits the new terminal, wider or smaller."""
    it = terminal("fatal")
    it.until(lambda text: "reports" in text and "DELAY" in text)
    it.child.setwinsize(50, 160)
    it.screen.resize(50, 160)
    it.until(lambda text: "SCALE" in text and "reports_01 FATAL: exit 1" in text)
    it.child.setwinsize(12, 40)
    it.screen.resize(12, 40)
    it.until(lambda text: "SCALE" not in text and "reports" in text and "DELAY" not in text)
    it.press("q")
    assert it.finish() == 0


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted"), (signal.SIGHUP, "hung up")],
)
def test_a_signal_ends_the_screen_like_q(terminal, number, word):
    """SIGTERM, Ctrl-C and a lost connection restore the terminal too."""
    it = terminal("all-well")
    it.until(lambda text: "emails_00" in text)
    os.kill(it.child.pid, number)
    assert it.finish() == 0
    assert_restored(it)
    assert f"ended: {word}" in it.raw.decode(errors="replace")


def test_ctrl_c_typed_at_the_keyboard_ends_it(terminal):
    """The terminal turns the key into SIGINT; nothing swallows it."""
    it = terminal("all-well")
    it.until(lambda text: "emails_00" in text)
    it.press("\x03")
    it.finish()
    assert_restored(it)
    assert "ended: interrupted" in it.raw.decode(errors="replace")


def test_an_exception_restores_the_terminal_first(terminal):
    """A bug in a source is shown as a traceback on the ordinary screen."""
    it = terminal("all-well", "3")
    assert it.finish() == 1
    assert_restored(it)
    assert "the source is broken" in it.raw[it.raw.rindex(LEAVE_ALTERNATE) :].decode()


def test_ctrl_z_gives_the_terminal_back_until_fg(terminal):
    """In a shell with job control: Ctrl-Z leaves the screen and stops, `fg` draws again."""
    it = terminal(command=["bash", "--norc", "--noprofile", "-i"])
    it.press(f"{sys.executable} -m tests.dashboard.live_app all-well\r")
    it.until(lambda text: "emails_00" in text)
    it.press("\x1a")
    it.until(lambda _: b"Stopped" in it.raw)
    assert it.raw.count(LEAVE_ALTERNATE) == 1
    it.press("fg\r")
    it.until(lambda _: it.raw.count(ENTER_ALTERNATE) == 2)
    it.press("q")
    it.until(lambda _: b"ended: quit" in it.raw)
    assert_restored(it)
    it.press("exit\r")
    it.finish()


def test_keys_select_filter_sort_freeze_and_help(terminal):
    """The keys of the footer do what it says."""
    it = terminal("fatal")
    it.until(lambda text: "emails_00" in text)
    it.press("j")
    it.until(lambda text: "▸✖ reports" in text)
    it.press("\x1b[B")
    it.until(lambda text: "▸● emails" in text)
    it.press("\r")
    it.until(lambda text: "thumbs_00" not in text and "emails_03" in text)
    it.press("\x1b")
    it.until(lambda text: "thumbs_00" in text)
    it.press("/rep\r")
    it.until(lambda text: "emails" not in text and "/rep" in text)
    it.press("\x1b ")
    it.until(lambda text: "frozen" in text)
    it.press(" ++")
    it.until(lambda text: "every 0.5s" in text and "live" in text)
    it.press("s")
    it.until(lambda text: "emails" in text)
    it.press("?")
    it.until(lambda text: "filter by name" in text)
    it.press("x")
    it.until(lambda text: "filter by name" not in text)
    it.press("q")
    assert it.finish() == 0


def test_a_slow_source_slows_the_refresh_and_not_the_keys(terminal):
    """Help appears while the source still thinks, and the title says why numbers come late."""
    it = terminal("backlog")
    it.until(lambda text: "thumbs" in text)
    for _ in range(3):
        asked = time.monotonic()
        it.press("?")
        it.until(lambda text: "filter by name" in text)
        it.press("x")
        it.until(lambda text: "filter by name" not in text)
        assert time.monotonic() - asked < 5  # the source takes six
    it.until(lambda text: "(slow)" in text)
    it.press("q")
    assert it.finish() == 0


def test_a_terminal_that_is_resized_a_hundred_times_down_to_nothing(terminal):
    """reliability T8: no size is too small, and no exception."""
    it = terminal("fatal")
    it.until(lambda text: "reports" in text)
    for number in range(100):
        it.child.setwinsize(1 + number * 7 % 30, 1 + number * 13 % 120)
        it.read()
    it.child.setwinsize(24, 80)
    it.screen.resize(24, 80)
    it.until(lambda text: "✖ reports" in text and "q quit" in text)
    it.press("q")
    assert it.finish() == 0
    assert_restored(it)


def test_no_color_leaves_icons_and_bold_but_no_colour(terminal):
    """NO_COLOR on a terminal: the live screen still works."""
    it = terminal("fatal", NO_COLOR="1")
    it.until(lambda text: "✖ reports" in text)
    it.press("q")
    it.finish()
    assert b"\x1b[31m" not in it.raw
    assert b"\x1b[1;31m" not in it.raw


def test_why_and_logs_are_read_beside_the_running_screen(terminal):
    """w and l open a text that scrolls; esc goes back to the tables."""
    it = terminal("fatal")
    it.until(lambda text: "emails_00" in text)
    it.press("w")
    it.until(lambda text: "why reports" in text and "line 3 about reports" in text)
    it.press("jj")
    it.until(lambda text: "line 1 about" not in text and "↑ 2" in text)
    it.press("\x1b")
    it.until(lambda text: "emails_00" in text)
    it.press("\tj")
    it.until(lambda text: "▸✖ reports_01" in text)
    it.press("l")
    it.until(lambda text: "logs reports_01" in text)
    it.press("q")
    assert it.finish() == 0


def test_a_capital_key_shows_the_command_and_asks(terminal):
    """Nothing runs before enter; what came of it stands where the keys stood."""
    it = terminal("fatal")
    it.until(lambda text: "emails_00" in text)
    it.press("R")
    it.until(lambda text: "fleet restart reports --rolling --yes" in text and "⏎ run · esc cancel" in text)
    it.press("\x1b")
    it.until(lambda text: "cancelled: nothing was changed" in text)
    it.press("K\r")
    it.until(lambda text: "did run jobs kick reports --all --yes" in text)
    it.press("X\r")
    it.until(lambda text: "exit 7" in text and "it did not stop" in text)
    it.press("\x1bp")
    it.until(lambda text: "did pause reports" in text)
    it.press("q")
    assert it.finish() == 0


@pytest.mark.server
def test_a_queue_that_is_away_is_told_since_when_and_comes_back_by_itself(terminal, tmp_path):
    """PostgreSQL is stopped and started while the screen is open; nobody touches a key."""
    with postgres_of_our_own() as server:
        manifest = f'version = 1\n[queue]\ndsn = "{server.dsn}"\n[pipelines.emails]\ncommand = "sleep 1"\n'
        (tmp_path / "fleet.toml").write_text(manifest)
        with fleet.connect(server.dsn) as queue:
            queue.put_many("emails", range(7))
        words = ["-m", "fleet", "--manifest", str(tmp_path / "fleet.toml"), "status"]
        it = terminal(command=[sys.executable, *words])
        it.until(lambda text: "ready 7 " in text)
        server.stop()
        text = it.until(
            lambda text: re.search(r"no answer since \S+ \(\d+s\) from the queue: ", text) is not None
        )
        assert "ready 7 " in text, "its last words stay"
        server.start()
        it.until(lambda text: "the queue answers again" in text and "from the queue: " not in text)
        it.press("q")
        assert it.finish() == 0
