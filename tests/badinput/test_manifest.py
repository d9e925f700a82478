"""
Bad manifests, M1 to M40: told by place and code with exit 4, and nothing that runs is touched.

Each row is what `fleet apply --yes` makes of it beside a fleet at work.  Columns,
texts and the many variants of a row are tests/manifest/test_problems.py's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from fleet.cli.app import run
from tests.badinput.world import MANIFEST, Said, World, assert_refused, fleet_says, says_as_nobody

COLLIDING_LOG = 'room = 0\nsupervisor = { stdout_logfile = "/tmp/x.log" }\n'


def pipeline(lines: str) -> str:
    return f"{MANIFEST}[pipelines.x]\n{lines}\n"


def queue(lines: str) -> str:
    return MANIFEST.replace("[defaults]", f"[queue]\n{lines}\n[defaults]")


# What stands in fleet.toml: the words of the report, its place and code first.
ROWS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "M4 empty": ("", ("E009 the file is empty", "add [pipelines.NAME]")),
    "M4 only comments": ("# one\n# two\n", ("E009 no pipelines",)),
    "M5 not UTF-8": (b"# caf\xe9\n" + MANIFEST.encode(), ("fleet.toml:1:1 E002", "byte 5 is 0xe9")),
    "M5 a NUL": (MANIFEST.encode() + b"\0\n", ("fleet.toml:9:1 E002 not TOML",)),
    "M7 syntax error": (f"{MANIFEST}a b\n", ("fleet.toml:9:", "E002 not TOML")),
    "M7 YAML": ("pipelines: x\n", ("fleet.toml:1:10 E002", "TOML says key = value")),
    "M8 a YAML tag": (f'{MANIFEST}x = !!python/object/apply:os.system ["id"]\n', ("fleet.toml:9:5 E002",)),
    "M10 a key twice": (f"{MANIFEST}room = 1\nroom = 2\n", ("fleet.toml:10:1 E002", "first is in line 9")),
    "M10 a pipeline twice": (f"{MANIFEST}[pipelines.emails]\n", ("fleet.toml:9:1", "first is in line 4")),
    "M11 unknown key": (f"{MANIFEST}numproc = 4\n", ("fleet.toml:9:1 E003", 'did you mean "numprocs"?')),
    "M13 numprocs -1": (f"{MANIFEST}numprocs = -1\n", ("fleet.toml:9:12 E004", "from 1 to 1000, got -1")),
    "M13 numprocs 100000": (f"{MANIFEST}numprocs = 100000\n", ("fleet.toml:9:12 E004", "got 100000")),
    "M13 numprocs of 5000 digits": (f"{MANIFEST}numprocs = {'9' * 5000}\n", ("E002 a number has too many",)),
    "M14 1:30 is no number": (f"{MANIFEST}ttr = 1:30\n", ("fleet.toml:9:8 E002",)),
    "M14 1:30 is no duration": (f'{MANIFEST}ttr = "1:30"\n', ("fleet.toml:9:7 E004", '"5m30s"')),
    "M14 no is no text": (f"{MANIFEST}user = no\n", ("fleet.toml:9:8 E002", "put text in quotes")),
    **{
        f"M16 name {name!r:.30}": (
            f'{MANIFEST}[pipelines."{name}"]\ncommand = "/bin/cat"\n',
            (
                "fleet.toml:9:12 E006 pipeline",
                "means every pipeline" if name == "all" else "a name has 1 to 48 of A-Z a-z 0-9 _ . -",
            ),
        )
        for name in (
            "a b",
            "a:b",
            "a/b",
            "a]",
            "a%b",
            r"a\nb",
            r"\u001b[1m",
            "*",
            "all",
            "",
            "x" * 65,
            "-a",
            "а",
        )
    },
    "M17 only the case differs": (
        f'{MANIFEST}[pipelines.Emails]\ncommand = "x"\n',
        ("9:12 E012", "shop-emails"),
    ),
    "M19 blank command": (pipeline('command = " "'), ("fleet.toml:10:11 E004 command: expected text",)),
    "M20 no such program": (pipeline('command = "no-such -x"'), ("fleet.toml:10:11 E022", "looked in /")),
    "M20 not executable": (pipeline('command = "/etc/passwd"'), ("10:11 E022", "is not executable")),
    "M20 a folder": (pipeline('command = "./tmp"'), ("10:11 E022", "is a directory")),
    "M22 a carriage return": (pipeline(r'command = "/bin/cat a\rb"'), ("pipelines.x:", "a carriage return")),
    **{
        f"M25 user {user}": (
            f"{MANIFEST}user = {user}\n",
            ("fleet.toml:9:8 E010 user", "does not exist here", "make it, or name another user"),
        )
        for user in (
            '"nosuchuser"',
            '"4000000000"',
            f'"1{"0" * 30}"',
            '"a:b"',
            r'"root\n"',
            '" root"',
            '"-1"',
        )
    },
    "M25 a number": (f"{MANIFEST}user = 0\n", ("fleet.toml:9:8 E004 user: expected text", 'quotes: "0"')),
    "M25 nothing": (f'{MANIFEST}user = ""\n', ("fleet.toml:9:8 E004 user: expected text, got nothing",)),
    "M26 no such directory": (
        f'{MANIFEST}directory = "/no/such"\n',
        ("9:13 E013 directory /no/such does not", "make it, or name another directory"),
    ),
    "M26 a file": (f'{MANIFEST}directory = "/etc/passwd"\n', ("9:13 E013", "is not a directory")),
    **{
        f"M28 variable {name}": (
            f'{MANIFEST}environment = {{ "{name}" = "1" }}\n',
            ("fleet.toml:9:17 E040", why),
        )
        for name, why in (
            *(
                (name, "is no name for a variable: use letters, digits and _")
                for name in ("A=B", "a b", r"a\nb")
            ),
            *(
                (name, "variables that begin with SUPERVISOR_ and FLEET_")
                for name in ("SUPERVISOR_X", "FLEET_X")
            ),
        )
    },
    "M29 200 KiB": (
        f'{MANIFEST}environment = {{ A = "{"x" * 204_800}" }}\n',
        ("9:21 E040 A: longer than 128",),
    ),
    "M29 a NUL": (f'{MANIFEST}environment = {{ A = "a\\u0000" }}\n', ("fleet.toml:9:21 E040 A: a NUL",)),
    "M31 ttr 0": (f"{MANIFEST}ttr = 0\n", ("fleet.toml:9:7 E004 ttr: expected at least 1",)),
    "M31 ttr -1": (f"{MANIFEST}ttr = -1\n", ("fleet.toml:9:7 E004 ttr", "between 0 and 100 years")),
    "M31 ttr 2**63": (f"{MANIFEST}ttr = {2**63}\n", ("fleet.toml:9:7 E004 ttr", "between 0 and 100 years")),
    "M31 ttr infinite": (f"{MANIFEST}ttr = 1e400\n", ("fleet.toml:9:7 E004 ttr", "between 0 and 100 years")),
    "M31 priority": (
        f"{MANIFEST}supervisor = {{ priority = 1000000000000 }}\n",
        ("fleet.toml:9:27 E00", "priority"),
    ),
    "M32 grace below timeout": (
        pipeline('handler = "x:y"\nstop = { grace = "1s" }'),
        ("fleet.toml:11:10 E011", 'make it at least "1m"'),
    ),
    "M35 password in the DSN": (
        queue('dsn = "mysql://u:hunter2@127.0.0.1:1/d"'),
        ("fleet.toml:3:7 E004 the DSN holds a password", "move it: password = { file =", "u:***@127"),
    ),
    "M38 5,001 pipelines": (
        MANIFEST + "".join(f'[pipelines.p{n}]\ncommand = "/bin/cat"\n' for n in range(4999)),
        ("E009 5001 pipelines", "split it into projects"),
    ),
    "M38 a name of 64 KiB": (f"{MANIFEST}[pipelines.{'x' * 65_536}]\ncommand = 'cat'\n", ("9:12 E006",)),
    "M40 two share a log": (
        f'{MANIFEST}{COLLIDING_LOG}[pipelines.y]\ncommand = "/bin/cat"\n{COLLIDING_LOG}',
        ("E012", "log file /tmp/x.log", "give one of them another file"),
    ),
}


# What load cannot see, and every command that starts processes has to.
OF_THE_MACHINE = [row for row in ROWS if row[:3] in ("M20", "M25", "M26")]


@pytest.mark.parametrize(
    ("line", "row"), [("apply", row) for row in ROWS] + [("up", row) for row in OF_THE_MACHINE]
)
def test_a_bad_manifest_changes_nothing(
    line: str, row: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, the place, what is wrong and what to do; no process, file or job has moved."""
    content, words = ROWS[row]
    world.manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = fleet_says(capsys, "--yes", line)
    assert_refused(said, 4, *words, "Nothing was changed.")
    assert "hunter2" not in said.err + said.out


def test_m1_a_missing_manifest_says_how_to_make_one(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """M1: the path, and fleet init."""
    said = fleet_says(capsys, "-m", "nowhere/fleet.toml", "--yes", "apply")
    assert_refused(said, 4, "nowhere/fleet.toml E001", "Create it with `fleet init`", "Nothing was changed.")


# Accepted on purpose, and harmless: what it is, and the text that the process gets.
LITERAL = {
    "M22 blank and semicolon": "a ; b",
    "M22 tab and hash": "a\t# b",
    "M23 percent": "date +%Y",
    "M23 supervisord's environment": "%(ENV_PATH)s",
    "M23 a very wide number": "%(process_num)0999999999d",
    "M29 quotes and commas": "\"a\", 'b' \\",
    "M29 a line break": "a\nb",
}


@pytest.mark.parametrize("row", LITERAL)
def test_a_text_that_supervisord_would_cut_arrives_as_it_is(
    row: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """M22, M23, M29: in a command and in a variable, told by supervisord's own parser in plan."""
    text = LITERAL[row]
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    command = (
        f'command = "/bin/echo {quoted}"' if "'" not in text and '"' not in text else 'command = "/bin/cat"'
    )
    world.manifest.write_text(pipeline(f'{command}\nenvironment = {{ A = "{quoted}" }}'))
    said = fleet_says(capsys, "plan")
    assert said.code == 0, said.err
    assert "+ x" in said.out


def test_m25_root_is_told_where_a_system_runs_the_processes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """M25: W014 from check, an error with --strict; under a private supervisord they are the caller's."""
    assert fleet_says(capsys, "check", "--strict").code == 0
    world.manifest.write_text(f'{MANIFEST}[supervisor]\nconf_dir = "/etc/supervisor/conf.d"\n')
    said = fleet_says(capsys, "check", "--strict")
    assert_refused(said, 4, "W014", "no user: under the system's supervisord that is root", 'add user = "…"')


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_m2_an_unreadable_manifest_is_told_with_owner_and_mode() -> None:
    """M2: exit 4 from each command, and no `.fleet` is made beside it."""
    with tempfile.TemporaryDirectory(prefix="fleet-user-", dir="/tmp") as folder:
        manifest = Path(folder, "fleet.toml")
        manifest.write_text(MANIFEST)
        manifest.chmod(0o600)
        os.chown(folder, 65534, 65534)
        for code, said in says_as_nobody(Path(folder), ["apply"], ["up"], ["check"], ["status", "--once"]):
            assert_refused(
                Said(code=code, out="", err=said),
                4,
                "fleet.toml E001 cannot be read: Permission denied (owner root, mode 0600). "
                "Run fleet as a user who may read it.",
            )
        assert [path.name for path in Path(folder).iterdir()] == ["fleet.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_m25_only_root_becomes_somebody_else() -> None:
    """M25: a real other user, whose folder is as it was afterwards."""
    with tempfile.TemporaryDirectory(prefix="fleet-user-", dir="/tmp") as folder:
        Path(folder, "fleet.toml").write_text(f'{MANIFEST}user = "root"\n')
        os.chown(folder, 65534, 65534)
        for code, said in says_as_nobody(Path(folder), ["apply"], ["up"], ["check"]):
            assert_refused(
                Said(code=code, out="", err=said),
                4,
                "fleet.toml:9:8 E010 only root can start processes",
                "leave user out, or run fleet as root",
            )
        assert [path.name for path in Path(folder).iterdir()] == ["fleet.toml"]


def test_m28_ld_preload_is_the_manifests_to_choose(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """M28: whoever writes the manifest chooses the command too; another allocator is a common use."""
    world.manifest.write_text(f'{MANIFEST}environment = {{ LD_PRELOAD = "/usr/lib/libjemalloc.so.2" }}\n')
    assert fleet_says(capsys, "check").code == 0


def test_m35_a_password_that_everybody_may_read_is_a_warning(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """M35: W012 from check; `--strict` makes it an error.  The password is not in the report."""
    world.manifest.write_text(queue('dsn = "mysql://u:hunter2@127.0.0.1:1/d"'))
    world.manifest.chmod(0o644)
    said = fleet_says(capsys, "check", "--strict")
    assert_refused(said, 4, "fleet.toml:3:7 W012", "mysql://u:***@127.0.0.1:1/d")
    assert "hunter2" not in said.out + said.err


_LOOPS = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "undefined variable": ("{{ nothing }}", "emails: template program.conf.j2:1: 'nothing' is undefined"),
    "syntax error": ("\n{% if %}", "program.conf.j2:2: "),
    "include outside": (
        "\n{% include '../../../etc/passwd' %}",
        "template program.conf.j2:2: there is no template '../../../etc/passwd' in its folder",
    ),
    "include by its whole path": ("{% include '/etc/passwd' %}", "j2:1: there is no template '/etc/passwd'"),
    "endless loop": ("{% for n in range(10 ** 12) %}{% endfor %}", "program.conf.j2:1: Range too big"),
    "division by zero": ("\n{{ 1 // 0 }}", "program.conf.j2:2: integer division"),
    "a call that fails": ("{{ programs[0].name() }}", "program.conf.j2:1: 'Safe' object is not callable"),
    "into Python itself": (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "j2:1: access to attribute '__class__'",
    ),
    "not UTF-8": (b"\xff", "template program.conf.j2: 'utf-8' codec can't decode byte 0xff in position 0"),
    "too much memory": ("{{ 'x' * 10 ** 12 }}", "program.conf.j2:1: MemoryError"),
    "endless loops": (_LOOPS, "took more than 2 s and was ended. Look for a loop in a loop"),
    "one endless step": ("{% set n = 9 ** (9 ** 9) %}", "took more than 2 s"),
    "a macro that calls itself": (
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "program.conf.j2:1: maximum recursion depth",
    ),
}


@pytest.mark.parametrize("row", TEMPLATES)
def test_m34_a_bad_template_is_an_error_with_its_line(
    row: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """M34: exit 4 and the reason; no file is written."""
    text, words = TEMPLATES[row]
    template = tmp_path / "program.conf.j2"
    template.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = fleet_says(capsys, "render", "--templates", str(tmp_path), "-o", "out")
    assert_refused(said, 4, words)


def test_m38_five_thousand_and_one_pipelines_are_refused_in_two_seconds(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """M38: counted in processor time, because the machine may be busy."""
    began = os.times()
    world.manifest.write_bytes(str(ROWS["M38 5,001 pipelines"][0]).encode())
    assert run(["check"]) == 4
    ended = os.times()
    capsys.readouterr()
    assert (ended.user + ended.system) - (began.user + began.system) < 4
