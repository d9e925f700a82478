"""The line that says who is still waited for, on a real terminal."""

from __future__ import annotations

import os
import pty
import sys

import pyte
import pytest

from fleet.cli.drain import DrainLine
from fleet.supervisor.process import Process, ProcessState


def test_the_line_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed next, inside the context or after it, begins in the first column."""
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = pty.openpty()
    going = [Process(group="a", name="emails_00", state=ProcessState.STOPPING, pid=7)]
    with open(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        with DrainLine() as tell:
            tell(going)
            tell([])
            print("emails_00  1/2")
            tell(going)
        print("done")
        terminal.flush()
    said = b""
    while b"done" not in said:  # on a busy machine it comes in pieces
        said += os.read(leader, 65536)
    screen = pyte.Screen(60, 5)
    pyte.ByteStream(screen).feed(said)
    os.close(leader)
    assert [line.rstrip() for line in screen.display] == ["emails_00  1/2", "done", "", "", ""]
