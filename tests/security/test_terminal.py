"""
S22 to S24: foreign text through every command that shows some, in every skin.

Job payloads, reasons, log lines, names of processes and the manifest's own texts
hold what steers terminals and breaks pages; no byte of it comes out as it was.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fleet
from fleet.cli.app import run
from fleet.manager.stop import down
from fleet.supervisor import private

EVIL = (
    "\x1b[2J\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil\x07link\x9b31m\x90q\x9c"
    "\rover\bbell\x07 \u202egnp.exe \u2066x\u200b\ufeff\u2028\x7f [/b][red]bold[/] <script>alert(1)</script>"
)
MANIFEST = """\
project = "shop"
[defaults]
logs = {{ dir = ".fleet/logs" }}
[pipelines.emails]
command = "/bin/sh -c 'cat evil; exec sleep 999'"
environment = {{ EVIL = {evil} }}
alerts = {{ oldest = "1s", buried = 1 }}
"""
LINES = [
    ["status", "--once", "--procs"],
    ["status", "--once", "--plain"],
    ["status", "--once", "--json"],
    ["status", "--once", "--color", "always"],
    ["why", "emails"],
    ["why", "emails", "--json"],
    ["jobs", "list", "emails"],
    ["jobs", "list", "emails", "--json"],
    ["jobs", "list", "emails", "--error", EVIL],
    ["jobs", "list", EVIL],
    ["jobs", "show", "1"],
    ["jobs", "show", "1", "--json"],
    ["jobs", "export", "emails"],
    ["logs"],
    ["logs", "--json"],
    ["logs", EVIL],
    ["events"],
    ["events", "--json"],
    ["plan", "--diff"],
    ["render", "--json"],
    ["check", "--explain", EVIL],
    ["doctor"],
    ["stop", EVIL],
    ["scale", f"{EVIL}=1"],
    ["-m", f"/nowhere/{EVIL}", "check"],
    [EVIL],
    [f"--{EVIL}"],
    ["-v", "jobs", "put", EVIL, "1"],
    ["rollback", EVIL],
]
# What `--color always` may print of its own: colours and nothing else.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("t")
    (root / "evil").write_bytes(
        f"{EVIL}\n".encode("utf-8", "surrogateescape") + b"\xff\xfe raw \x9b2J\n" + b"x" * 10_000
    )
    (root / "fleet.toml").write_text(MANIFEST.format(evil=json.dumps(EVIL)))
    try:
        assert run(["-q", "-m", str(root / "fleet.toml"), "up"]) == 0
        with fleet.connect(f"sqlite:///{root}/.fleet/queue.db") as queue:
            for payload in ({"n": EVIL, EVIL: 1}, EVIL.encode(), b"\xff\x9b2J"):
                queue.put("emails", payload)
            job = queue.reserve("emails")
            assert job is not None
            job.bury(EVIL)
        yield root
    finally:
        down(private.home(root / ".fleet"), now=True)


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line).split("\x1b")[0])
def test_no_command_passes_an_escape_on(line: list[str], shop: Path) -> None:
    """No control, no bidi mark, no zero width; markup stays text; JSON is ASCII."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        run(line if "-m" in line else ["-m", str(shop / "fleet.toml"), *line])
    text = out.getvalue()
    assert text
    if "--color" in line:
        text = COLOUR.sub("", text)
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert not bad, text
    assert "Traceback" not in text and "(a bug" not in text
    if "--json" in line:
        assert text.isascii()
        for document in text.splitlines():
            json.loads(document)


def test_the_page_has_no_live_markup(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """W5: what foreign texts say is escaped, and the page holds no script at all."""
    assert run(["-m", str(shop / "fleet.toml"), "status", "--html", "-"]) == 0
    page = capsys.readouterr().out
    assert "<script" not in page.lower()
    assert "javascript:" not in page.lower()
    assert all(char.isprintable() or char == "\n" for char in page)
