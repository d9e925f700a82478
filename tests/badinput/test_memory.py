"""
What bad input may cost in memory: less than 64 MiB above what the command takes anyway, X5 to X14 and J8.

Each row is a process of its own, beside a fleet at work; its peak is the kernel's word.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import fleet
from fleet.errors import PayloadTooLarge
from fleet.supervisor.transport import MAX_BYTES, MAX_ELEMENTS
from tests.badinput.test_supervisord import manifest_for
from tests.badinput.world import Said, World, assert_refused
from tests.supervisor.test_hostile_server import a_process, http, packed, response, serving

pytestmark = pytest.mark.slow

MOST = 64  # MiB
LARGE = MAX_BYTES * 9 // 10  # bytes
_CHILD = """\
import contextlib, io, json, re, sys
from pathlib import Path
import fleet.manager.apply, fleet.manager.files
from fleet.cli.app import run

def kib(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

fleet.manager.files._check_unreachable = lambda folder: None  # as in test_supervisord

def says(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return run(words), out.getvalue()

line = sys.argv[1:]
says(*line, "--help"), says("check")
before = kib("VmRSS")
print(json.dumps([*says(*line), (kib("VmHWM") - before) // 1024]))
"""


def measured(*line: str, stdin: str = "/dev/null") -> tuple[Said, int]:
    """What a command says, and the MiB that it took for that."""
    with open(stdin, "rb") as source:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *line], stdin=source, capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 0, done.stderr
    code, said, peak = json.loads(done.stdout)
    return Said(code=code, out="", err=said), peak


def values(one: str, number: int) -> str:
    return response(f"<array><data>{one * number}</data></array>")


def plugin(text: str) -> str:
    return response(f"<string>{packed(text)}</string>")


# A name: the answer to the plug-in's call, or to any where it has none, and the words of the report.
ROWS: dict[str, tuple[Callable[[], str], str]] = {
    "X5 one text": (lambda: response(f"<string>{'x' * LARGE}</string>"), "without a list"),
    "X8 attributes": (lambda: "<a " + "".join(f'a{n}="" ' for n in range(LARGE // 11)), "does not end"),
    "X11 one odd character": (lambda: response(f"<string>{'x' * LARGE}\U0001f600</string>"), "than 16 MiB"),
    "X11 times": (
        lambda: values("<value><dateTime.iso8601>2</dateTime.iso8601></value>", MAX_ELEMENTS // 3),
        "not XML-RPC (<dateTime.iso8601>)",
    ),
    "X13 short texts": (lambda: values("<value>ab</value>", MAX_ELEMENTS - 9), "lists 699,991 processes"),
    "X13 30,000": (lambda: values(a_process()[13:-15], 30_000), "more than 700,000 elements"),
    "X13 lists of the plug-in": (
        lambda: plugin('{"fields": [], "rows": [' + "[]," * 2_500_000 + "[]]}"),
        "[rpcinterface:fleet]",
    ),
    "X13 few lists of the plug-in": (
        lambda: plugin('{"fields": [], "rows": [' + "[]," * 149_000 + "[]]}"),
        "lists 149,001 processes",
    ),
    "X7 a bomb of the plug-in": (lambda: plugin(" " * 10**8), "[rpcinterface:fleet]"),
    "X11 a wide text of the plug-in": (
        lambda: plugin('{"fields": [], "rows": ["' + "x" * 8_000_000 + r'\ud83d\ude00"]}'),
        "[rpcinterface:fleet]",
    ),
    "X14 a name of 14 MB": (lambda: response(a_process(name=f"<string>{'x' * LARGE}</string>")), "name"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_hostile_supervisord_costs_little_memory(row: str, world: World, tmp_path: Path) -> None:
    """Exit 5 with what is wrong with the answer, and nothing written, whatever it could have become."""
    answer, words = ROWS[row]
    world.manifest.write_text(manifest_for(f"unix://{tmp_path}/s.sock", world.conf_dir, "PATH"))
    with serving(http(answer()), tmp_path / "s.sock", plugin="plug-in" in row, state=True):
        said, peak = measured("--yes", "apply")
    assert_refused(said, 5, words)
    assert peak < MOST


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "line", "code", "words"),
    [
        ("a.plan", "--yes apply a.plan", 2, "a.plan is not a plan that fleet plan -o has saved"),
        (
            "fleet.toml",
            "-m fleet.toml check",
            4,
            "fleet.toml E001 is larger than 16 MiB. Is it the right file?",
        ),
        (".env", "check", 4, ".env E001 is larger than 16 MiB. Is it the right file?"),
    ],
)
@pytest.mark.parametrize("is_device", [False, True])
def test_m38_a_file_without_end_is_not_read_to_it(
    is_device: bool,
    name: str,
    line: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """M38, C2: a terabyte of holes, or a device, in the place of a file that fleet reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text('[pipelines.emails]\ncommand = "/bin/cat"\n')
    (tmp_path / name).unlink(missing_ok=True)
    if is_device:
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        with open(tmp_path / name, "wb") as file:
            file.truncate(10**12)
    said, peak = measured(*line.split())
    assert_refused(said, code, words)
    assert peak < MOST
    assert not (tmp_path / ".fleet").exists()


SIZES = {"a byte more": 1_048_577, "more than its blanks could be": 2_000_000, "100 MiB": 100 * 1024**2}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["@FILE", "-"])
def test_j8_a_payload_that_is_too_large_is_not_read_to_its_end(
    how: str, size: str, world: World, tmp_path: Path
) -> None:
    """J8: exit 2 with both sizes, and not one byte of it is stored."""
    file = tmp_path / "large.json"
    file.write_bytes(b'"' + b"x" * (SIZES[size] - 2) + b'"')
    said, peak = measured(
        *("jobs", "put", "emails", how.replace("FILE", str(file))),
        stdin=str(file if how == "-" else "/dev/null"),
    )
    exact = how == "@FILE" or size != "100 MiB"
    assert_refused(said, 2, f"{SIZES[size]:,} bytes" if exact else "more than ", "takes 1,048,576")
    assert peak < MOST


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["@FILE", "-"])
def test_j8_what_has_no_end_is_given_up(how: str, world: World) -> None:
    """J8: a device, or a line that never ends."""
    said, peak = measured(
        *("jobs", "put", "emails", how.replace("FILE", "/dev/zero")),
        stdin="/dev/zero" if how == "-" else "/dev/null",
    )
    assert_refused(said, 2, "has more than", "takes 1,048,576", "put a reference to it")
    assert peak < MOST


def test_j8_many_large_lines_are_put_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """J8: a hundred lines of 1 MB are never held together; exit 7 says how many went before a bad one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text('[pipelines.emails]\ncommand = "/bin/cat"\n')
    with open(tmp_path / "lines", "wb") as lines:
        for _ in range(100):
            lines.write(b'"' + b"x" * 1_000_000 + b'"\n')
        lines.write(b"{\n")
    said, peak = measured("jobs", "put", "emails", "-", stdin=str(tmp_path / "lines"))
    assert_refused(said, 7, "line 101 is not JSON", "99 jobs were put before it")
    assert peak < MOST
    with fleet.connect(f"sqlite:///{tmp_path}/.fleet/queue.db") as queue:
        assert queue.stats("emails").ready == 99


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_j8_a_payload_of_100_mib_is_not_copied(kind: Callable[[bytes], object]) -> None:
    """J8: with both sizes, and without a second one in memory."""
    payload = kind(bytes(100 * 1024**2))
    with fleet.connect("sqlite:///:memory:") as queue:
        tracemalloc.start()
        try:
            with pytest.raises(PayloadTooLarge, match="104,857,600 bytes, and this back end takes 1,048,576"):
                queue.put("emails", payload)
            assert tracemalloc.get_traced_memory()[1] < MOST * 1024**2
        finally:
            tracemalloc.stop()
        assert queue.stats("emails").ready == 0
