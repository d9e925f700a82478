"""Log files: the last lines, and what is added, through rotation and truncation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.supervisor.logfile import LONGEST_LINE, Follower, last_lines, newer, time_of


def test_the_last_lines_are_read_from_the_end(tmp_path: Path) -> None:
    """A log of many blocks, an unfinished last line, fewer lines than asked, none at all."""
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {n} {'x' * 90}\n" for n in range(5000)) + "unfinished")
    assert [line.split()[1] for line in last_lines(path, 3)[:2]] == ["4998", "4999"]
    assert last_lines(path, 1) == ["unfinished"]
    assert last_lines(path, 0) == []
    assert len(last_lines(path, 9999)) == 5001
    assert last_lines(tmp_path / "missing", 5) == []


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    """100 MB without a newline must not fill the memory, nor the screen."""
    path = tmp_path / "a.log"
    path.write_bytes(b"first\n" + b"x" * 3_000_000 + b"\nlast\n")
    assert last_lines(path, 2)[-1] == "last"
    assert len(last_lines(path, 2)[0]) == LONGEST_LINE + 1
    follower = Follower(path, from_start=True)
    assert max(map(len, follower.lines())) <= LONGEST_LINE + 1


def test_bytes_that_are_no_text_stay_visible(tmp_path: Path) -> None:
    """Lone bytes become escapes; control characters are the terminal filter's work."""
    path = tmp_path / "a.log"
    path.write_bytes(b"caf\xe9 \x1b[2J\r\n")
    assert last_lines(path, 1) == ["caf\\xe9 \x1b[2J"]


def test_a_follower_tells_whole_lines_once(tmp_path: Path) -> None:
    """Half a line waits for its other half."""
    path = tmp_path / "a.log"
    path.write_text("old\n")
    follower = Follower(path)
    assert list(follower.lines()) == []
    with open(path, "a") as log:
        log.write("one\ntw")
        log.flush()
        assert list(follower.lines()) == ["one"]
        log.write("o\n")
    assert list(follower.lines()) == ["two"]
    assert list(follower.lines()) == []


def test_a_follower_goes_on_after_rotation_truncation_and_removal(tmp_path: Path) -> None:
    """supervisord renames the full file and opens a new one; clearing a log removes it."""
    path = tmp_path / "a.log"
    follower = Follower(path)
    assert list(follower.lines()) == []
    path.write_text("one\n")
    assert list(follower.lines()) == ["one"]
    path.rename(tmp_path / "a.log.1")
    path.write_text("two\n")
    assert (list(follower.lines()), follower.change) == (["two"], "is a new file now")
    path.write_text("3\n")  # truncated in place
    assert (list(follower.lines()), follower.change) == (["3"], "was cut")
    assert (list(follower.lines()), follower.change) == ([], "")
    path.unlink()
    assert (list(follower.lines()), follower.change) == ([], "is gone; waiting for a new one")
    assert (list(follower.lines()), follower.change) == ([], "")  # told once
    path.write_text("four\n")
    assert (list(follower.lines()), follower.change) == (["four"], "is a new file now")


def test_a_log_that_is_no_file_has_no_lines() -> None:
    """In a container, logs often go to /dev/stdout: a terminal or a pipe."""
    reader, writer = os.pipe()
    follower = Follower(Path(f"/dev/fd/{writer}"))
    try:
        assert list(follower.lines()) == []
        assert last_lines(Path(f"/dev/fd/{writer}"), 5) == []
    finally:
        os.close(reader)
        os.close(writer)


def test_the_end_of_a_rotated_file_is_not_lost(tmp_path: Path) -> None:
    """What was written between the last look and the rename is still in the renamed file."""
    path = tmp_path / "a.log"
    path.write_text("one\n")
    follower = Follower(path)
    with open(path, "a") as log:
        log.write("two\n")
    path.rename(tmp_path / "a.log.1")
    path.write_text("three\n")
    assert list(follower.lines()) == ["two", "three"]


def test_lines_since_a_moment(tmp_path: Path) -> None:
    """By the times in the lines; a traceback belongs to its line, a file without times counts whole."""
    lines = [
        "2026-11-24T14:00:00.000Z one",
        "  File x",
        "2026-11-24 16:05:00,123+02:00 two",
        "  File y",
        '{"at": "2026-11-24T14:10:00Z", "event": "three"}',
    ]
    at = time_of(lines[2]) or 0.0
    path = tmp_path / "a.log"
    path.write_text("")
    assert newer(lines, at, path) == lines[2:]
    assert newer(lines, at + 3600, path) == []
    assert newer(["no time"], 0.0, path) == ["no time"]
    assert newer(["no time"], path.stat().st_mtime + 60, path) == []


@pytest.mark.parametrize("line", ["", "hello", "2026-13-45T99:99:99Z x", '{"at": 7}', "2026-11-24"])
def test_a_line_without_a_time_has_none(line: str) -> None:
    """Whatever a program prints."""
    assert time_of(line) is None
