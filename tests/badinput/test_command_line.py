"""
Bad command lines, C1 to C14, beside a fleet at work: exit 2 and the nearest right word, nothing touched.

C8 (Ctrl-C while apply
works) test_meanwhile.py's, and C10 (a lock whose holder died) tests/manager/test_apply.py's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says, says_as_nobody

ROWS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "C1 unknown command": (["stauts"], ("Did you mean: fleet status",)),
    "C1 a word of other tools": (["retry", "emails"], ("fleet jobs kick",)),
    "C1 unknown option": (["status", "--porcs"], ("--procs",)),
    "C1 nothing to the option": (["-m"], ("--manifest needs a value",)),
    "C2 unknown pipeline": (["stop", "emials"], ("Did you mean 'emails'?",)),
    "C2 no pipeline like it": (["why", "zzz"], ("There are: emails, thumbs",)),
    "C2 in jobs": (["jobs", "put", "emials", "{}"], ('Did you mean "emails"?',)),
    "C2 a glob of nothing": (["stop", "[z-a]"], ("The pipelines are: emails, thumbs",)),
    "C2 a plan that is none": (["apply", "fleet.toml"], ("is not a plan that fleet plan -o has saved",)),
    "C2 a plan that is a device": (["apply", "/dev/zero"], ("is not a plan that",)),
    "C4 a million processes": (["scale", "emails=1000000"], ("expected PIPELINE=N",)),
    "C4 minus one": (["scale", "emails=-1"], ("expected PIPELINE=N",)),
    "C4 no number": (["scale", "emails=x"], ("expected PIPELINE=N",)),
    **{
        f"C5 {' '.join(words)} {option} {time}": (
            [*words, option, time],
            (f"{option} 0: expected more than 0 seconds",)
            if time == "0"
            else (f"{option}: expected a duration such as", f"got '{time}'"),
        )
        for words, option in (
            (["apply"], "--timeout"),
            (["up"], "--timeout"),
            (["stop", "emails"], "--timeout"),
            (["restart", "emails"], "--timeout"),
            (["scale", "emails=2"], "--for"),
        )
        for time in ("0", "-5", "nan", "1e99")
    },
    "C5 watch 0": (["status", "--watch", "0"], ("0.1 seconds to one day",)),
    "C5 rate 0": (["jobs", "kick", "emails", "--all", "--rate", "0/s"], ("must be above 0",)),
    "C5 priority": (["jobs", "put", "emails", "{}", "--priority", "4294967296"], ("from 0 (most urgent)",)),
    "C5 priority of many": (["jobs", "put", "emails", "-", "--priority", "-1"], ("from 0 (most urgent)",)),
    "C5 ttr 0": (
        ["jobs", "put", "emails", "{}", "--ttr", "0"],
        ("ttr: expected more than 0 seconds and at most ten years",),
    ),
    "C5 delay -1": (["jobs", "put", "emails", "{}", "--delay", "-1"], ("--delay: expected a duration",)),
    "C5 since": (["logs", "--since", "yesterday"], ("--since: expected a duration",)),
    "C5 for": (["pause", "emails", "--for", "1e99"], ("--for: expected a duration",)),
    "C5 an id of 20 digits": (["jobs", "show", "9" * 20], ("is not in the range",)),
    "C5 a pattern that is none": (["logs", "--grep", "("], ("not a regular expression",)),
    "C11 ESC": (["stop", "\x1b[2J"], (r"\x1b[2J",)),
    "C11 ESC in an option": (["check", "--explain", "\x1b[2J"], (r"\x1b[2J",)),
    "C11 not UTF-8": (["jobs", "put", "a\udcff", "{}"], (r"a\xff",)),
    "C11 CR LF into a tube": (["jobs", "put", "a\r\ndelete 1", "{}"], (r"a\r\ndelete 1",)),
    "C13 a place that cannot be written": (["render", "-o", "/dev/null/x"], ("cannot make the folder",)),
    "C13 a plan into nowhere": (["plan", "-o", "/no/such/plan"], ("cannot write /no/such/plan",)),
    "J1 no JSON": (["jobs", "put", "emails", "{"], ("is not JSON", "put quotes around it")),
    "J2 NaN": (["jobs", "put", "emails", "[NaN]"], ("JSON has no NaN",)),
    "J7 brackets": (["jobs", "put", "emails", "[" * 100_000], ("is not JSON",)),
    "J7 5,000 digits": (["jobs", "put", "emails", "9" * 5000], ("is not JSON",)),
    "J8 one byte too many": (
        ["jobs", "put", "emails", f'"{"x" * 1_048_575}"'],
        ("1,048,577 bytes", "1,048,576"),
    ),
    "J8 a folder": (["jobs", "put", "emails", "@/tmp"], ("cannot read /tmp: Is a directory",)),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_command_line_changes_nothing(
    row: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, what is wrong, and what is near; typed characters come back visible."""
    line, words = ROWS[row]
    assert_refused(fleet_says(capsys, "--yes", *line), 2, *words, "Nothing was changed.")


def test_a_bad_command_line_makes_nothing_in_a_fresh_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the queue that a good one would have made; 5, 6: nothing runs, and there are no jobs yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    for row, (line, _) in ROWS.items():
        said = fleet_says(capsys, "--yes", *line)
        assert said.code in (2, 5, 6), (row, said)
        if "J8" not in row:  # which asks the back end how much it takes
            assert [path.name for path in tmp_path.iterdir()] == ["fleet.toml"], row


def test_c4_beyond_the_room_says_how_to_get_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """C4: refused with 8, because one more word makes it right."""
    said = fleet_says(capsys, "scale", "emails=9")
    assert_refused(said, 8, "has room for 4", "Nothing was changed", "fleet scale emails=9 --save")


@pytest.mark.parametrize("line", [["stop", "all"], ["jobs", "delete", "emails", "1"], ["scale", "emails=0"]])
def test_what_needs_a_yes_is_refused_without_a_terminal(
    line: list[str], world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 8, and the word that was missing."""
    monkeypatch.setattr(sys, "stdin", None)
    assert_refused(fleet_says(capsys, *line), 8, "Add --yes", "Nothing was changed")


@pytest.mark.parametrize(
    "environ",
    [
        {"TERM": "dumb"},
        {"COLUMNS": "10", "LINES": "3"},
        {"NO_COLOR": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_c14_a_poor_terminal_gets_plain_text(environ: dict[str, str], world: World) -> None:
    """C14: also with stdin closed; no escape, no traceback."""
    fleet = Path(sys.executable).with_name("fleet")
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {fleet} status --once 0<&-"],
        env={**os.environ, **environ},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b"emails" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["status --once --procs", "status --once --json", "jobs list emails", "-h"])
@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_c7_a_reader_that_leaves_early_hears_nothing_more(line: str, reader: str, world: World) -> None:
    """C7: no traceback and no message; 141, as git ends, if it had more to say."""
    fleet = Path(sys.executable).with_name("fleet")
    script = f"{{ {fleet} {line}; echo $? >&2; }} | {reader}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr in ("0\n", "141\n")
    assert len(done.stdout.splitlines()) == (reader != "true")


LINES = [["apply"], ["up"], ["stop", "emails"], ["status", "--once"], ["plan"], ["doctor"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_c13_somebody_else_is_told_whose_it_is(world: World) -> None:
    """C13, X1: another user gets the folder with owner and mode from each command; nothing is written."""
    world.root.chmod(0o755)
    try:
        answers = says_as_nobody(world.root, *LINES)
    finally:
        world.root.chmod(0o700)
    for line, (code, said) in zip(LINES, answers, strict=True):
        assert "Traceback" not in said and "a bug" not in said, said
        assert code == {"status": 0, "doctor": 3, "stop": 5}.get(line[0], 8), (line, said)
        assert "0700, root:root" in said, (line, said)
        assert line[0] not in ("apply", "up") or "Nothing was changed." in said, (line, said)


def test_two_manifests_of_one_name_do_not_share_files(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R1, M40: a file of another project in the conf_dir is not overwritten; exit 8 with its name."""
    conf = world.root / ".fleet" / "conf.d" / "fleet.x.conf"
    conf.write_text("; managed by fleet | project other | pipeline x | rev 1 | edits are overwritten\n")
    try:
        world.manifest.write_text(MANIFEST.replace('"shop"', '""') + '[pipelines.x]\ncommand = "/bin/cat"\n')
        said = fleet_says(capsys, "--yes", "apply")
    finally:
        conf.unlink()
    assert_refused(said, 8, "fleet.x.conf", "another project name")
