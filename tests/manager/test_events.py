"""The local file of events: whole lines, never a condition."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from fleet.manager import events
from fleet.manager.events import Event


def test_events_come_back_in_order(tmp_path):
    """With who did it, and which pipelines it concerns."""
    events.tell(tmp_path, "up", "emails 4/4", ["emails"])
    events.tell(tmp_path, "down", "all stopped")
    first, second = events.read(tmp_path)
    assert (first.kind, first.text, first.pipelines) == ("up", "emails 4/4", ("emails",))
    assert first.by
    assert first.is_deploy
    assert first.concerns("emails")
    assert not first.concerns("thumbs")
    assert second.concerns("thumbs")


def test_a_file_that_cannot_be_written_or_read_stops_nobody(tmp_path):
    """A deploy must not fail because of its diary."""
    events.tell(tmp_path / "nowhere" / ".fleet", "up", "x")
    assert events.read(tmp_path / "nowhere" / ".fleet") == []
    (tmp_path / events.FILE).write_bytes(b'{"at": 1}\nnot json\n\xff\xfe\n[1]\n')
    assert events.read(tmp_path) == []


def test_the_first_event_makes_the_state_folder(tmp_path):
    """Under a system's supervisord nobody else does; it is whose the folder above is, and git ignores it."""
    root = tmp_path / "shop"
    root.mkdir()
    root.chmod(0o750)
    if os.geteuid() == 0:
        os.chown(root, 4711, 4712)
    events.tell(root / ".fleet", "apply", "x")
    assert [event.text for event in events.read(root / ".fleet")] == ["x"]
    assert (root / ".fleet" / ".gitignore").read_text() == "*\n"
    above = root.stat()
    for path in (root / ".fleet", *(root / ".fleet").iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (above.st_uid, above.st_gid)
    assert (root / ".fleet").stat().st_mode == above.st_mode


def test_an_event_follows_no_link(tmp_path):
    """root may tell it in a folder that is somebody else's."""
    (tmp_path / events.FILE).symlink_to(tmp_path / "elsewhere")
    events.tell(tmp_path, "up", "x")
    assert not (tmp_path / "elsewhere").exists()


def test_a_line_is_one_write_however_long_its_text(tmp_path):
    """4 KiB, so that lines of two commands never mix."""
    events.append(tmp_path, Event(at=1.0, kind="up", text="x" * 10_000, pipelines=("y" * 5000,)))
    assert len((tmp_path / events.FILE).read_bytes()) <= events.MAX_LINE
    assert events.read(tmp_path)[0].text.startswith("xxx")


def test_many_writers_lose_nothing(tmp_path):
    """Each appends."""
    threads = [
        threading.Thread(target=lambda: [events.tell(tmp_path, "up", "z" * 500) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events.read(tmp_path, limit=1000)) == 80


def test_the_revision_is_the_commit_that_is_checked_out(tmp_path):
    """Also in a worktree, and packed; nothing where there is no git."""

    def git(*words: str, at: Path = tmp_path) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *words], cwd=at, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "x")
    commit = git("rev-parse", "HEAD")[:7]
    (tmp_path / "below").mkdir()
    assert events.revision(tmp_path / "below") == commit
    git("pack-refs", "--all")
    assert events.revision(tmp_path) == commit
    git("worktree", "add", "-q", "-b", "other", "tree")
    assert events.revision(tmp_path / "tree") == commit
    assert events.revision(Path("/nowhere")) == ""
