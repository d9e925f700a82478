"""What people read when a manifest is wrong: every problem at once, its place, and what to do."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import ManifestError, Problem
from fleet.manifest import codes, load
from fleet.manifest.report import as_json, count, format_problems, shown
from tests.manifest.conftest import Write, loaded, problems, report

GOOD = '[pipelines.good]\nhandler = "x:y"\n'


def test_two_mistakes_are_told_at_once_with_line_and_column(write: Write) -> None:
    """Sorted by line, each underlined, with one thing to do."""
    text = (
        '[pipelines.emails]\nhandler = "shop.jobs.email:send"\nnumproc = 4\n'
        'timeout = "5m"\nstop = { grace = "90s" }\n'
    )
    assert report(write(text)) == (
        'fleet.toml:3:1   E003 unknown key "numproc" in [pipelines.emails]\n'
        "    3 │ numproc = 4\n"
        '      │ ^^^^^^^ did you mean "numprocs"?\n'
        "fleet.toml:5:10  E011 stop.grace (1m30s) is shorter than timeout (5m): a restart kills jobs\n"
        '    5 │ stop = { grace = "90s" }\n'
        '      │          ^^^^^ make it at least "5m"\n'
        "2 errors"
    )


# A line in a pipeline: the code, where it points, and words that must be there.
LINES = {
    # unknown keys
    "stopwaitsecs = 90": ("E003", 1, 'in fleet.toml it is stop.grace = "90s"'),
    "autostart = true": ("E003", 1, "write supervisor = { autostart = … }"),
    "workers = 4": ("E003", 1, "in fleet.toml it is numprocs = 2"),
    'cmd = "x"': ("E003", 1, 'in fleet.toml it is command = "…"'),
    'grace = "5s"': ("E003", 1, "in fleet.toml it is stop.grace"),
    "stop = { grase = 3 }": ("E003", 10, 'did you mean "grace"?'),
    "zzz = 1": ("E003", 1, "known here: user, directory"),
    # types and ranges
    "numprocs = 0": ("E004", 12, "Set it to 1, or remove the table to retire the pipeline"),
    "numprocs = -1": ("E004", 12, "expected a whole number from 1 to 1000, got -1"),
    "numprocs = 100000": ("E004", 12, "expected a whole number from 1 to 1000, got 100000"),
    'numprocs = "4"': ("E004", 12, 'got "4". Take off the quotes: 4'),
    "numprocs = true": ("E004", 12, "got true"),
    "numprocs = 1.5": ("E004", 12, "got 1.5"),
    'numprocs = "${N}"': ("E004", 12, "a ${VARIABLE} gives text, never a number"),
    "user = 1000": ("E004", 8, 'expected text, got 1000. Put it in quotes: "1000"'),
    'user = ""': ("E004", 8, "expected text, got nothing"),
    'timeout = "1:30"': ("E004", 11, 'expected a duration such as "90s" or "5m30s", got "1:30"'),
    "timeout = 0": ("E004", 11, "expected at least 0.001 seconds, got 0"),
    "timeout = true": ("E004", 11, "expected a duration"),
    "timeout = 1979-05-27": ("E004", 11, "got a date or time"),
    "timeout = -5": ("E004", 11, "must be between 0 and 100 years"),
    "timeout = nan": ("E004", 11, "must be between 0 and 100 years"),
    "timeout = 1e99": ("E004", 11, "must be between 0 and 100 years"),
    "ttr = 0": ("E004", 7, "expected at least 1 seconds"),
    'recycle = { memory = "lots" }': ("E004", 22, "expected a size"),
    "retries = { jitter = 1 }": ("E004", 22, "expected true or false, got 1"),
    'retries = { jitter = "no" }': ("E004", 22, 'expected true or false, got "no"'),
    "retries = 5": ("E004", 11, "expected a table [pipelines.x.retries], got 5"),
    "stop = []": ("E004", 8, "expected a table [pipelines.x.stop], got an array"),
    'stop = { signal = "TREM" }': ("E004", 19, 'expected one of "TERM", "INT"'),
    'logs = { format = "xml" }': ("E004", 19, 'expected one of "text", "json", got "xml"'),
    'rollout = "fast"': ("E004", 11, 'expected one of "rolling", "surge"'),
    'redact = "password"': ("E004", 10, 'expected an array such as ["a", "b"], got "password"'),
    'hooks = "shop.metrics:Timing"': ("E004", 9, 'expected an array such as ["a", "b"]'),
    'hooks = ["shop.metrics.Timing"]': ("E004", 9, 'Write "shop.metrics:Timing"'),
    'python = "python3"': ("E004", 10, "expected the path of an interpreter"),
    'queue_name = "-x"': ("E004", 14, 'not starting with "-"'),
    "autoscale = { cooldown = 1 }": ("E004", 1, "autoscale lacks the key max"),
    "numprocs = 3\nautoscale = { max = 2 }": ("E004", 21, "autoscale.max (2) is below numprocs (3)"),
    "secrets = { A = {} }": ("E004", 17, "a secret has exactly one of file, env, credential"),
    'secrets = { A = { env = "A", file = "/a" } }': ("E004", 17, "exactly one of file, env, credential"),
    # raw options
    'supervisor = { umaks = "022" }': ("E008", 16, 'did you mean "umask"?'),
    "supervisor = { numprocs = 3 }": ("E008", 16, "it is the key numprocs = 2"),
    "supervisor = { stopwaitsecs = 3 }": ("E008", 16, 'it is stop.grace = "90s"'),
    "supervisor = { killasgroup = false }": ("E008", 16, "it is always true"),
    "supervisor = { startsecs = 0 }": ("E004", 28, "restarted without any delay"),
    "supervisor = { umask = 22 }": ("E004", 24, 'octal digits in quotes, such as "027"'),
    "supervisor = { exitcodes = [0, 256] }": ("E004", 28, "from 0 to 255"),
    'supervisor = { autorestart = "maybe" }': ("E004", 30, 'expected true, false or "unexpected"'),
    'supervisor = { stdout_logfile = "x.log" }': ("E004", 33, "expected an absolute path"),
    'room = 0\nsupervisor = { process_name = "a b" }': ("E004", 31, "a process name is made of"),
    'supervisor = { process_name = "x" }': ("E004", 16, "process_name needs room = 0"),
    'numprocs = 2\nroom = 0\nsupervisor = { process_name = "x" }': (
        "E004",
        31,
        "must hold %(process_num)02d",
    ),
    # environment
    'environment = { "A=B" = "1" }': ("E040", 17, "is no name for a variable"),
    'environment = { "a b" = "1" }': ("E040", 17, "is no name for a variable"),
    'environment = { SUPERVISOR_X = "1" }': ("E040", 17, "set for you"),
    'environment = { FLEET_X = "1" }': ("E040", 17, "set for you"),
    "environment = { PORT = 8080 }": ("E004", 24, 'Put it in quotes: "8080"'),
    'environment = { A = "a\\u0000b" }': ("E040", 21, "no process can be given one"),
    f'environment = {{ A = "{"x" * 200_000}" }}': ("E040", 21, "longer than 128 KiB"),
    'environment = { A = "1" }\nsecrets = { A = { env = "A" } }': ("E040", 13, "a variable has one value"),
    'secrets = { "a-b" = { env = "A" } }': ("E040", 13, "is no name for a variable"),
    # keys that depend on each other
    'command = "y"': ("E005", 1, "handler and command exclude each other"),
    'stop = { grace = "1s" }': ("E011", 10, 'make it at least "1m"'),
    'hosts = ["web9"]': ("E015", 9, '"web9" is not in [hosts]'),
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_line_in_a_pipeline_is_explained(write: Write, line: str) -> None:
    """The code is stable, the column is right, and the text says what to do."""
    code, column, words = LINES[line]
    path = write(f'[pipelines.x]\nhandler = "x:y"\n{line}\n')
    found = [problem for problem in problems(path, N="4") if not problem.is_warning]
    assert [problem.code for problem in found] == [code]
    (problem,) = found
    assert (problem.line, problem.column) == (2 + len(line.split("\n")), column)
    assert words in f"{problem.message} {problem.hint}"


# A whole file: the code, the line, and words that must be there.
FILES = {
    "": ("E009", 0, "the file is empty"),
    "# only a comment\n": ("E009", 0, "no pipelines"),
    "[pipelines]\n": ("E009", 0, "no pipelines"),
    "version = 2\n" + GOOD: ("E004", 1, "this fleet reads version 1 of the manifest, got 2"),
    "[pipelines.x\n": ("E002", 1, "not TOML"),
    "a: 1\n": ("E002", 1, "TOML says key = value"),
    "user = shop\n": ("E002", 1, "put text in quotes"),
    "[pipelines.x]\n\tname = \n": ("E002", 2, "not TOML"),
    f"x = {'9' * 5000}\n": ("E002", 0, "a number has too many digits"),
    f"x = {'[' * 5000}\n": ("E002", 0, "nested too deeply"),
    f"{GOOD}handler = 'a:b'\n": ("E002", 3, "the first is in line 2"),
    f"{GOOD}numprocs = 1\n[pipelines.b]\n[pipelines.good]\n": ("E002", 5, "the first is in line 1"),
    f"pipeline = 3\n{GOOD}": ("E003", 1, "it is [pipelines.NAME]"),
    f'handler = "x:y"\n{GOOD}': ("E003", 1, "belongs into [pipelines.NAME] or [defaults]"),
    f'[defaults]\nhandler = "x:y"\n{GOOD}': ("E003", 2, "belongs into a pipeline"),
    f'[defaults]\nproject = "x"\n{GOOD}': ("E003", 2, "stands above the first table"),
    f"[queue]\ndsm = 'x'\n{GOOD}": ("E003", 2, 'did you mean "dsn"?'),
    f"defaults = 3\n{GOOD}": ("E004", 1, "expected a table [defaults], got 3"),
    f"[pipelines]\nx = 3\n{GOOD}": ("E004", 2, "expected a table [pipelines.x], got 3"),
    "[pipelines.x]\n": ("E005", 1, "neither handler nor command"),
    '[pipelines.x]\nhandler = "shop.jobs.send"\n': ("E004", 2, 'Write "shop.jobs:send"'),
    '[pipelines.x]\ncommand = " "\n': ("E004", 2, "expected text, got nothing"),
    '[pipelines.x]\ncommand = "it\'s"\n': ("E004", 2, "no closing quotation"),
    "[pipelines.x]\ncommand = \"''\"\n": ("E004", 2, "names no program"),
    f'project = "a b"\n{GOOD}': ("E006", 1, "a name has 1 to 48 of"),
    '[queue]\ndsn = "jobs.db"\n' + GOOD: ("E004", 2, "expected a DSN such as"),
    '[queue]\ndsn = "redis://x"\n' + GOOD: ("E004", 2, "expected a DSN such as"),
    '[queue]\ndsn = "sqlite:/x"\n' + GOOD: ("E004", 2, "expected a DSN such as"),
    '[queue]\ndsn = "sqlite:///:memory:"\n' + GOOD: ("E004", 2, "cannot be shared by processes"),
    '[queue]\ndsn = "sqlite:///"\n' + GOOD: ("E004", 2, "sqlite needs a file"),
    '[queue]\ndsn = "mysql://h/d\\r\\n"\n' + GOOD: ("E004", 2, "no control characters"),
    '[queue]\ndsn = "sqlite:///x"\npassword = { env = "P" }\n' + GOOD: ("E004", 3, "has no password"),
    "[hosts.a]\n[hosts.b]\n" + GOOD: ("E014", 1, "cannot be shared by several hosts"),
    "[hosts.a]\n" + GOOD: ("E015", 1, "is none of the hosts"),
    '[pipelines.x]\nhandler = "x:y"\nnumprocs = { web1 = 2 }\n': ("E015", 3, '"web1" is not in [hosts]'),
    '[pipelines."a.b"]\nhandler = "${NO_SUCH}"\n': ("E007", 2, "$NO_SUCH is not set"),
    f"{GOOD}[[schedules]]\nname='n'\npipeline='good'\ncron='${{C}}'\n": ("E007", 6, "$C is not set"),
    f"{GOOD}[[schedules]]\nname='n'\npipeline='good'\ncron='* * * * *'\ntimezone='${{C}}'\n": (
        "E007",
        7,
        "$C is not set",
    ),
    f"{GOOD}[schedules]\nname = 'x'\n": ("E004", 3, "expected an array of tables [[schedules]]"),
    f"{GOOD}[[schedules]]\nname = 'x'\ncron = '* * * * *'\n": ("E004", 3, 'lacks the key "pipeline"'),
}


@pytest.mark.parametrize("text", FILES)
def test_a_wrong_file_is_explained(write: Write, text: str) -> None:
    """Whatever is wrong with it as a whole, there is a text for it and no traceback."""
    code, line, words = FILES[text]
    found = [problem for problem in problems(write(text)) if not problem.is_warning]
    assert (found[0].code, found[0].line) == (code, line)
    assert len(found) == 1 or code in ("E014", "E002")
    assert words in f"{found[0].message} {found[0].hint}"


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a:b",
        "a/b",
        "a]",
        "a%b",
        "a\\nb",
        "\\u001b[1m",
        "*",
        "all",
        "",
        "x" * 49,
        "-a",
        ".a",
        "\u0430b",
    ],
)
def test_a_name_that_supervisord_would_trip_over_is_refused(write: Write, name: str) -> None:
    """supervisord itself takes most of them, and then nobody can stop the program."""
    (problem,) = problems(write(f'[pipelines."{name}"]\nhandler = "x:y"\n'))
    assert (problem.code, problem.line, problem.column) == ("E006", 1, 12)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 25 * * *", "hour 25 is outside 0-23"),
        ("60 * * * *", "minute 60 is outside 0-59"),
        ("* * 0 * *", "day 0 is outside 1-31"),
        ("* * * 13 *", "month 13 is outside 1-12"),
        ("* * * * 8", "weekday 8 is outside 0-7"),
        ("* x * * *", "hour x means nothing"),
        ("* * *", "five fields"),
        ("0 0 30 2 *", "day 30 never comes"),
        ("@daily", "five fields"),
    ],
)
def test_a_wrong_cron_expression_says_which_part(write: Write, cron: str, words: str) -> None:
    """The field by its name, and what it may be."""
    text = f'{GOOD}[[schedules]]\nname = "n"\npipeline = "good"\ncron = "{cron}"\n'
    (problem,) = [p for p in problems(write(text)) if not p.is_warning]
    assert (problem.code, problem.line, problem.column) == ("E030", 6, 8)
    assert words in problem.message


def test_a_schedule_names_a_pipeline_and_a_time_zone(write: Write) -> None:
    """Near misses are offered; names are unique."""
    one = '[[schedules]]\nname = "n"\npipeline = "goood"\ncron = "* * * * *"\ntimezone = "Europe/Bonn"\n'
    text = report(write(GOOD + one + one))
    assert 'E031 no pipeline "goood"' in text
    assert 'did you mean "good"?' in text
    assert 'E031 no time zone "Europe/Bonn"' in text
    assert 'E012 a second schedule "n"' in text


def test_a_mistake_does_not_hide_the_others_in_its_table(write: Write) -> None:
    """A schedule with a wrong key still has its cron checked, at its own place."""
    first = '[[schedules]]\nname = "a"\npipeline = "good"\ncron = "* * * * *"\nzone = 1\n'
    second = '[[schedules]]\nname = "b"\npipeline = "good"\ncron = "bad"\n'
    found = [(p.code, p.line) for p in problems(write(GOOD + first + second)) if not p.is_warning]
    assert found == [("E003", 7), ("E030", 11)]


def test_names_that_differ_only_in_case_collide(write: Write) -> None:
    """File systems and people take them for one."""
    (problem,) = problems(write(f'{GOOD}[pipelines.Good]\nhandler = "x:y"\n'))
    assert (problem.code, problem.line) == ("E012", 3)
    assert 'pipelines "Good" and "good" would both have group good' in problem.message


def test_a_pipeline_cannot_have_the_name_of_another_ones_room(write: Write) -> None:
    """Two sections of one name are merged by supervisord without a word."""
    (problem,) = problems(write(f'{GOOD}[pipelines.good-burst]\nhandler = "x:y"\nroom = 0\n'))
    assert "group good-burst" in problem.message


def test_two_pipelines_cannot_share_a_log_file(write: Write) -> None:
    """Two processes that rotate one file lose lines."""
    pipeline = '[pipelines.{}]\nhandler = "x:y"\nroom = 0\nsupervisor = {{ stdout_logfile = "/tmp/x.log" }}\n'
    (problem,) = problems(write(pipeline.format("a") + pipeline.format("b")))
    assert (problem.code, problem.message) == (
        "E012",
        'pipelines "b" and "a" would both have log file /tmp/x.log',
    )


def test_a_mistake_in_the_defaults_is_told_once(write: Write) -> None:
    """Not once for each pipeline that takes it."""
    text = f'[defaults]\nstop = {{ grace = "1s" }}\n{GOOD}[pipelines.b]\nhandler = "x:y"\n'
    (problem,) = problems(write(text))
    assert (problem.code, problem.line, problem.column) == ("E011", 2, 10)


def test_a_problem_in_what_others_depend_on_is_told_alone(write: Write) -> None:
    """A handler that is wrong is not also missing."""
    (problem,) = problems(write('[pipelines.x]\nhandlr = "x:y"\n'))
    assert (problem.code, problem.hint) == ("E003", 'did you mean "handler"?')


def test_at_most_fifty_problems_are_told(write: Write) -> None:
    """A file of another kind would fill the terminal."""
    assert len(problems(write("".join(f"k{n} = 1\n" for n in range(200))))) == 50


def test_a_file_that_is_not_utf8_is_told_with_the_byte(tmp_path: Path) -> None:
    """Editors of the last century still write Latin-1."""
    path = tmp_path / "fleet.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ManifestError, match="E002 not UTF-8: byte 5 is 0xe9"):
        load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_told_with_owner_and_mode(write: Write) -> None:
    """So that it is clear whom to ask."""
    path = write(GOOD)
    path.chmod(0)
    assert "cannot be read: Permission denied (owner " in report(path)


def test_a_folder_or_a_missing_overlay_is_told(write: Write, tmp_path: Path) -> None:
    """Nothing is guessed."""
    (tmp_path / "folder.toml").mkdir()
    assert "E001 cannot be read: Is a directory" in report(tmp_path / "folder.toml")
    assert "E001 fleet.staging.toml does not exist, and --env staging asks for it." in report(
        write(GOOD), env="staging"
    )
    assert "E001" in report(write(GOOD), env="../x")


def test_a_password_in_a_file_that_everybody_may_read_is_a_warning(write: Write) -> None:
    """Told at its line, and the password itself is not shown."""
    path = write(f'[queue]\ndsn = "mysql://shop:hunter2@db/shop"\n{GOOD}')
    path.chmod(0o644)
    (warning,) = loaded(path).warnings
    assert (warning.code, warning.line) == ("W012", 2)
    text = format_problems(ManifestError("fleet.toml", [warning]))
    assert "mysql://shop:***@db/shop" in text
    assert "hunter2" not in text
    path.chmod(0o640)
    assert loaded(path).warnings == ()


def test_a_password_from_a_variable_is_not_in_the_file(write: Write) -> None:
    """Then the file may be read by everybody."""
    path = write(f'[queue]\ndsn = "mysql://shop:${{P}}@db/shop"\n{GOOD}')
    path.chmod(0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert loaded(path, P="hunter2").warnings == ()


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://jobs1.internal:9001", True),
        ("http://10.0.0.7:9001", True),
        ("http://[fd00::7]:9001", True),
        ("http://localhost:9001", False),
        ("http://127.0.0.2:9001", False),
        ("http://[::1]:9001", False),
        ("unix:///run/supervisor.sock", False),
    ],
)
def test_a_password_that_crosses_the_network_in_clear_is_a_warning(
    url: str, warned: bool, write: Write
) -> None:
    """S2: supervisord speaks plain HTTP; said at the address, that of [hosts] too."""
    head = '[supervisor]\nusername = "fleet"\npassword = { env = "P" }\n'
    own = load(write(f'{head}url = "{url}"\n{GOOD}'), environ={}).warnings
    assert [(w.code, w.line) for w in own] == [("W016", 4)] * warned
    named = load(
        write(f'{head}[hosts.a]\nsupervisor = "{url}"\n{GOOD}'), environ={"FLEET_HOST": "a"}
    ).warnings
    assert [(w.code, w.line) for w in named] == [("W016", 5)] * warned
    assert load(write(f'[supervisor]\nurl = "{url}"\n{GOOD}'), environ={}).warnings == ()


@pytest.mark.parametrize("dsn", ["redis://u:hunter2@h", "mysql://u:hunter2@h/d\\n", "u:hunter2@h"])
def test_an_error_about_a_dsn_never_shows_its_password(write: Write, dsn: str) -> None:
    """Error texts end in logs and tickets."""
    path = write(f'[queue]\ndsn = "{dsn}"\n{GOOD}')
    with pytest.raises(ManifestError) as caught:
        load(path, environ={})
    for text in (format_problems(caught.value), str(caught.value), str(as_json("x", caught.value.problems))):
        assert "hunter2" not in text


@pytest.mark.parametrize("text", ["x" * 300_000, "a:" * 150_000, "a:b@" * 75_000, "://" * 100_000])
def test_a_long_line_is_reported_at_once(write: Write, text: str) -> None:
    """What hides passwords looks at every character once."""
    began = time.process_time()
    assert "E040" in report(write(f'[pipelines.x]\nhandler = "x:y"\nenvironment = {{ A = "{text}" }}\n'))
    assert time.process_time() - began < 5


def test_what_does_nothing_yet_is_said(write: Write) -> None:
    """A key that is accepted and not acted on would be a promise."""
    text = f'{GOOD}[[schedules]]\nname = "n"\npipeline = "good"\ncron = "* * * * *"\n'
    assert [(w.code, w.line) for w in loaded(write(text)).warnings] == [("W015", 3)]


def test_a_report_shows_nothing_that_steers_a_terminal(write: Write) -> None:
    """Names and lines of a file are foreign text."""
    text = report(write('[pipelines.x]\nhandler = "x:y"\n"\\u001b[2J" = "\u202e\u200b"\n'))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[2J" in text
    assert shown("a\tb\x9b\ud800") == r"a b\x9b\ud800"


def test_problems_as_json_have_the_same_words() -> None:
    """For editors and CI."""
    problem = Problem(code="E003", message="m", hint="h", key="a.b", line=3, column=2)
    assert as_json("fleet.toml", [problem]) == [
        {
            "code": "E003",
            "severity": "error",
            "file": "fleet.toml",
            "line": 3,
            "column": 2,
            "key": "a.b",
            "message": "m",
            "hint": "h",
        }
    ]
    assert count([problem]) == "1 error"
    assert count([problem, problem, Problem(code="W012", message="")]) == "2 errors, 1 warning"


def test_every_code_has_a_meaning() -> None:
    """The table is complete, and no code means two things."""
    named = [v for k, v in vars(codes).items() if k.isupper() and isinstance(v, str)]
    assert sorted(named) == sorted(codes.MEANING)


TOML = st.sampled_from(
    ["pipelines", "x", "stop", "grace", "numprocs", "queue", "dsn", "defaults", "secrets", "env"]
)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", '"', "'", '"""', " ", "#", "\\"]
        ),
        TOML,
        st.sampled_from(
            ["1", "true", '"${X}"', '"x:y"', "nan", "1979-05-27", "[pipelines.x]\n", "stop.grace = 1\n"]
        ),
    ),
    max_size=25,
).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_any_text_is_a_manifest_or_a_manifest_error(write: Write, text: str) -> None:
    """Nothing else is ever raised, and every error can be shown."""
    try:
        loaded(write(text))
    except ManifestError as error:
        assert format_problems(error)


VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(max_size=3), st.floats(), st.just("${X}")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = [
    "user",
    "numprocs",
    "timeout",
    "stop",
    "logs",
    "environment",
    "secrets",
    "supervisor",
    "redact",
    "autoscale",
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([*KEYS, "handler", "command", "hosts"]), VALUES), st.booleans())
def test_any_value_of_a_key_is_taken_or_explained(
    write: Write, table: dict[str, object], in_defaults: bool
) -> None:
    """Whatever type stands behind a key."""
    import tomlkit

    document = {"defaults" if in_defaults else "pipelines": table if in_defaults else {"x": table}}
    try:
        loaded(write(tomlkit.dumps(document)))
    except ManifestError as error:
        assert format_problems(error)
