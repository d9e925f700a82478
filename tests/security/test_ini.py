"""
S17 to S21: every text of a manifest, through fleet's whole way and supervisord's own parser.

tests/manager/test_escape.py fuzzes the filter alone; here a manifest with hostile
texts in every place is loaded, planned, rendered and read back by both supported
supervisords: each value arrives as it was written, or the whole is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fleet.errors import ManifestError, RenderError
from fleet.manager.plan import programs
from fleet.manager.render import render, render_supervisord
from fleet.manifest import load
from tests.manager.reading import Reader
from tests.supervisord import VERSIONS


@pytest.fixture(scope="module", params=VERSIONS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(request.param, tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


# No { and $, which the manifest itself puts values in for; no / or NUL, which no name of a file holds.
TEXT = st.lists(
    st.one_of(
        st.sampled_from([*"%;#\"'\\,=[]()\n\r\t *?\x0b\x0c\x1c\x85\xa0\u2028\u3000sd0é"]),
        st.sampled_from(
            ["(here)s", "%(here)s", "%(ENV_SECRET)s", "%d", " ;", "\t#", "\n[program:y]\ncommand="]
        ),
        st.sampled_from(
            ["\nuser=root", "\n;", "\n[supervisord]\n", "%(process_num)099d", "\r\nautostart=false"]
        ),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0/{$"),
    ),
    max_size=8,
).map("".join)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
EMPTY: st.SearchStrategy[dict[str, str]] = st.just({})
FEW = settings(
    max_examples=int(os.environ.get("FLEET_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(
    project=NAME,
    name=NAME,
    command=TEXT,
    directory=TEXT,
    logs=TEXT,
    variables=st.dictionaries(st.sampled_from(["A", "B_2", "PATH"]), TEXT, max_size=3),
    raw=st.dictionaries(st.sampled_from(["stderr_logfile", "serverurl"]), TEXT, max_size=2),
    wrong=st.dictionaries(st.sampled_from(["umask", "priority", "exitcodes"]), TEXT, max_size=1) | EMPTY,
    queue_name=st.from_regex(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,20}", fullmatch=True),
)
def test_every_text_of_a_manifest_arrives_or_is_refused(
    reader: Reader,
    tmp_path: Path,
    project: str,
    name: str,
    command: str,
    directory: str,
    logs: str,
    variables: dict[str, str],
    raw: dict[str, str],
    wrong: dict[str, str],
    queue_name: str,
) -> None:
    """No section, option or expansion more than was asked for, and not a blank less."""
    pipeline = {
        "command": f"/bin/echo {command}",
        "directory": f"{tmp_path}/{directory}",
        "environment": variables,
        "logs": {"dir": f"{tmp_path}/logs{logs}"},
        "supervisor": {**{key: f"{tmp_path}/{text}" for key, text in raw.items()}, **wrong},
        "room": 0,
        "queue_name": queue_name,
    }
    path = tmp_path / "fleet.toml"
    path.write_text(
        tomlkit.dumps({"project": project, "pipelines": {name: pipeline}}), encoding="utf-8", newline=""
    )
    try:
        manifest = load(path, environ={})
        groups = programs(manifest, conf_dir=tmp_path, worker="/opt/bin/fleet-worker")
        confs = [text for file, text in render(groups, manifest).items() if file.endswith(".conf")]
    except (ManifestError, RenderError):
        event("refused")
        return
    event("read back")
    wanted = manifest.pipelines[name]
    try:
        wanted.logs.dir.mkdir(parents=True, exist_ok=True)
    except OSError:  # a name that is too long
        return
    found = reader.read(*confs)
    assert list(found) == [wanted.group]
    (process,) = found[wanted.group]
    assert wanted.command is not None
    is_direct = "fleet-worker" not in process["command"]
    assert not is_direct or process["command"] == wanted.command
    assert process["directory"] == str(wanted.directory)
    assert process["stdout_logfile"].startswith(f"{wanted.logs.dir}/")
    assert (process["autostart"], process["autorestart"], process["killasgroup"]) == (True, "true", True)
    assert process["stopwaitsecs"] >= wanted.stop.grace
    set_by_us = {"FLEET_PIPELINE", "FLEET_DSN", "FLEET_REVISION", "FLEET_PROJECT"}
    others = {key: value for key, value in process["environment"].items() if key not in set_by_us}
    assert others.items() <= wanted.environment.items()  # what is missing is in the worker spec
    assert not is_direct or others == wanted.environment
    assert process["environment"]["FLEET_PIPELINE"] == wanted.queue_name


@FEW
@given(folder=TEXT)
def test_a_folder_of_any_name_makes_a_main_file_or_is_refused(
    reader: Reader, tmp_path: Path, folder: str
) -> None:
    """The private supervisord's own file: its paths are text too."""
    state = Path(f"{tmp_path}/x{folder}")
    try:
        text = render_supervisord(
            socket=state / "s.sock", state_dir=state, conf_dir=state / "conf.d", minfds=1024
        )
        state.mkdir(exist_ok=True)
    except (RenderError, OSError):
        return
    main = tmp_path / "supervisord.conf"
    main.write_text(text, encoding="utf-8", newline="")
    answer = reader.read_main(main)
    assert "error" not in answer, answer
    assert answer["main"]["logfile"] == str(state / "supervisord.log")
    assert answer["main"]["pidfile"] == str(state / "supervisord.pid")
    assert [server["file"] for server in answer["servers"]] == [str(state / "s.sock")]
    assert answer["servers"][0]["chmod"] == 0o700
    assert answer["main"]["strip_ansi"] is True
