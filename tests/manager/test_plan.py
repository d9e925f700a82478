"""From a manifest to groups of programs: pure, and one decision a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import ManifestError, RenderError
from fleet.manager.plan import Group
from fleet.manager.program import Live
from fleet.manifest.report import format_problems
from tests.manager.conftest import Make, planned


def only(groups: tuple[Group, ...]) -> Group:
    (group,) = groups
    return group


def test_a_pipeline_is_one_group_with_room_to_grow(make: Make) -> None:
    """What is wanted starts by itself; as many again can be added without a restart."""
    group = only(planned(make('[pipelines.a]\nhandler = "x:y"\nnumprocs = 3\n')))
    wanted, burst = group.programs
    assert (wanted.name, wanted.numprocs, wanted.numprocs_start, wanted.autostart) == ("a", 3, 0, "true")
    assert (burst.name, burst.numprocs, burst.numprocs_start, burst.autostart) == ("a-burst", 3, 3, "false")
    assert (
        wanted.process_name == burst.process_name == (Live("%(group_name)s"), "_", Live("%(process_num)02d"))
    )


def test_without_room_a_pipeline_is_one_plain_program(make: Make) -> None:
    """room = 0 renders what people write by hand."""
    (program,) = only(planned(make('[pipelines.a]\nhandler = "x:y"\nroom = 0\n'))).programs
    assert program.process_name == (Live("%(program_name)s"), "_", Live("%(process_num)02d"))


def test_the_maximum_of_autoscale_is_the_room(make: Make) -> None:
    """Above it nobody will ever start a process."""
    group = only(planned(make('[pipelines.a]\nhandler = "x:y"\nnumprocs = 2\nautoscale = { max = 7 }\n')))
    assert [program.numprocs for program in group.programs] == [2, 5]


def test_a_handler_is_run_by_the_worker_of_its_interpreter(make: Make) -> None:
    """The handler's packages are in that environment, so its worker must be too."""
    manifest = make('[pipelines.a]\nhandler = "x:y"\npython = "venv/bin/python"\n')
    command = only(planned(manifest)).programs[0].command
    assert command == f"{manifest.root}/venv/bin/fleet-worker /etc/conf.d/fleet.a.worker.json"


def test_a_command_runs_directly_when_nothing_is_in_the_way(make: Make) -> None:
    """No wrapper process, and no spec to read."""
    group = only(planned(make('[pipelines.a]\ncommand = "php worker.php"\n')))
    assert group.programs[0].command == "php worker.php"
    assert group.worker_spec is None


@pytest.mark.parametrize(
    "line",
    [
        'secrets = { KEY = { env = "KEY" } }',
        'environment = { BOTH = "\'\\"" }',
        'environment = { CR = "a\\rb" }',
        'environment = { QUOTED = "\\"a\\"" }',
    ],
)
def test_a_command_runs_through_the_shim_when_its_environment_needs_one(make: Make, line: str) -> None:
    """Secrets are never rendered, and not every value fits into environment=."""
    group = only(planned(make(f'[pipelines.a]\ncommand = "php worker.php"\n{line}\n')))
    assert group.programs[0].command == "/opt/bin/fleet-worker --exec /etc/conf.d/fleet.a.worker.json"
    assert group.worker_spec is not None
    assert group.worker_spec["command"] == "php worker.php"


def test_a_relative_program_is_looked_for_in_the_directory(make: Make) -> None:
    """supervisord looks before it changes into the directory, and would look in its own."""
    group = only(planned(make('[pipelines.a]\ncommand = "bin/work \\"a b\\""\ndirectory = "/srv/a b"\n')))
    assert group.programs[0].command == """'/srv/a b/bin/work' "a b\""""


def test_python_in_a_command_is_the_interpreter_of_the_pipeline(make: Make) -> None:
    """One key names the interpreter, for handlers and for worker scripts."""
    group = only(planned(make('[pipelines.a]\ncommand = "python w.py"\npython = "/venv/bin/python"\n')))
    assert group.programs[0].command == "/venv/bin/python w.py"


def test_every_process_knows_its_pipeline_project_and_revision(make: Make) -> None:
    """A worker script needs no configuration of its own."""
    group = only(planned(make('[queue]\ndsn = "beanstalkd://127.0.0.1"\n[pipelines.a]\ncommand = "x"\n')))
    assert group.programs[0].environment == {
        "FLEET_REVISION": group.revision,
        "FLEET_PIPELINE": "a",
        "FLEET_DSN": "beanstalkd://127.0.0.1",
    }


def test_a_dsn_whose_password_is_a_secret_is_not_in_the_environment(make: Make) -> None:
    """The DSN without it would not connect; the shim or the worker puts it together."""
    queue = '[queue]\ndsn = "mysql://u@h/d"\npassword = { env = "P" }\n'
    group = only(planned(make(queue + '[pipelines.a]\ncommand = "x"\n')))
    assert "FLEET_DSN" not in group.programs[0].environment
    assert group.worker_spec is not None
    assert group.worker_spec["queue"] == {"dsn": "mysql://u@h/d", "password": {"env": "P"}}


def test_a_password_in_the_dsn_is_never_rendered(make: Make) -> None:
    """The refusal says where it stands and what to write instead, and does not repeat the password."""
    with pytest.raises(ManifestError) as caught:
        planned(make('[queue]\ndsn = "mysql://u:hunter2@h/d"\n[pipelines.a]\ncommand = "x"\n'))
    (problem,) = caught.value.problems
    assert (problem.key, problem.column) == ("queue.dsn", 7)
    assert "password = {" in problem.hint
    assert "hunter2" not in str(caught.value) + format_problems(caught.value)


PIPELINE = '[pipelines.a]\nhandler = "x:y"\n'


@pytest.mark.parametrize("line", ["numprocs = 7", "room = 9", 'rollout = "surge"', "alerts = { buried = 1 }"])
def test_a_change_of_number_keeps_the_revision(make: Make, line: str) -> None:
    """The processes that run are still what was asked for."""
    assert only(planned(make(PIPELINE))).revision == only(planned(make(PIPELINE + line))).revision


@pytest.mark.parametrize(
    "line",
    [
        'timeout = "61s"',
        "retries = { max = 6 }",
        'environment = { A = "1" }',
        'directory = "/"',
        "supervisor = { startretries = 3 }",
        'secrets = { KEY = { env = "KEY" } }',
        "logs = { keep = 6 }",
    ],
)
def test_a_change_of_what_runs_changes_the_revision(make: Make, line: str) -> None:
    """Drift is seen by a process's own environment."""
    assert only(planned(make(PIPELINE))).revision != only(planned(make(PIPELINE + line))).revision


def test_the_number_of_a_process_cannot_stand_where_supervisord_does_not_put_it(make: Make) -> None:
    """Refused with the reason, rather than passed on as text."""
    with pytest.raises(RenderError, match=r"environment\.X: \{process\}"):
        planned(make('[pipelines.a]\nhandler = "x:y"\nenvironment = { X = "\'{process}\\"" }\n'))
    with pytest.raises(RenderError, match="command of a pipeline with secrets"):
        planned(make('[pipelines.a]\ncommand = "x {process}"\nsecrets = { K = { env = "K" } }\n'))


def test_log_files_are_known_before_supervisord_asks_for_their_folders(make: Make) -> None:
    """supervisord refuses everything when one folder is missing."""
    manifest = make('[pipelines.a]\nhandler = "x:y"\nlogs = { dir = "logs/{pipeline}/{process}" }\n')
    folder = Path(manifest.root) / "logs/a"
    assert only(planned(manifest)).log_files() == (f"{folder}/00/a_00.log", f"{folder}/01/a_01.log")
