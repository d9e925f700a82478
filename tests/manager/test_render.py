"""Rendered files: byte for byte what is expected, and read by supervisord as they were meant."""

from __future__ import annotations

import json
import os
import pwd
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import RenderError
from fleet.manager.plan import programs
from fleet.manager.render import render, render_supervisord, template_dir
from fleet.manifest import Manifest, load
from tests.manager.conftest import Make, confs, planned, rendered
from tests.manager.reading import Reader

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFESTS = ("shop", "plain")


def golden_manifest(name: str) -> Manifest:
    """The manifest as if it lay in /srv/shop: the folder of this checkout must not show."""
    return replace(load(GOLDEN / f"{name}.toml", environ={}), root=Path("/srv/shop"))


@pytest.mark.parametrize("name", MANIFESTS)
def test_rendered_files_are_the_golden_ones(name: str) -> None:
    """A change of what is rendered is seen in review; FLEET_GOLDEN=write takes it over."""
    manifest = golden_manifest(name)
    files = render(programs(manifest, conf_dir=Path("/etc/conf.d"), worker="/opt/bin/fleet-worker"), manifest)
    for file, text in files.items():
        if os.environ.get("FLEET_GOLDEN") == "write":
            (GOLDEN / file).write_text(text, encoding="utf-8")
        assert (GOLDEN / file).read_text(encoding="utf-8") == text


def test_every_golden_file_is_still_rendered() -> None:
    """A golden file that nothing writes proves nothing."""
    there = {path.name for path in GOLDEN.iterdir() if path.suffix in (".conf", ".json")}
    assert there == {name for manifest in MANIFESTS for name in rendered(golden_manifest(manifest))}


def test_supervisord_reads_every_golden_file(reader: Reader) -> None:
    """Both versions accept the files, alone and together, and find the intended processes."""
    paths = sorted(GOLDEN.glob("*.conf"))
    groups = reader.read(*(path.read_text(encoding="utf-8") for path in paths))
    assert {name: [process["name"] for process in found] for name, found in groups.items()} == {
        "shop-emails": [f"shop-emails_{n:02}" for n in range(8)],
        "shop-thumbs": [f"shop-thumbs_{n:02}" for n in range(8)],
        "shop-pdf": ["shop-pdf_00", "shop-pdf_01"],
        "email_worker": ["email_worker_00", "email_worker_01"],
        "counter": ["counter_00", "counter_01"],
    }


def test_the_room_does_not_start_by_itself(reader: Reader) -> None:
    """After a reboot there are numprocs processes, and the room above them waits."""
    groups = reader.read((GOLDEN / "fleet.shop-thumbs.conf").read_text(encoding="utf-8"))
    assert [process["autostart"] for process in groups["shop-thumbs"]] == [True] * 2 + [False] * 6


def test_values_of_the_manifest_arrive_in_the_process(reader: Reader) -> None:
    """Percent signs, quotes, commas, comment characters, unicode and numbers."""
    first, second = reader.read(*confs(golden_manifest("plain")))["counter"]
    assert first["command"] == "/srv/jobs/bin/count --number 00 --format 100% ; # {process}"
    assert (first["environment"]["NUMBER"], second["environment"]["NUMBER"]) == ("n00", "n01")
    (worker, *_) = reader.read(*confs(golden_manifest("shop")))["shop-emails"]
    assert worker["command"] == "/srv/shop/venv/bin/fleet-worker /etc/conf.d/fleet.shop-emails.worker.json"
    assert worker["environment"]["GREETING"] == "100% “größer”, it's # true ; now"


def test_the_example_of_a_hand_written_program_comes_out_with_its_settings(reader: Reader) -> None:
    """An email_worker as people write it by hand can be expressed, option by option."""
    (text,) = (t for t in confs(golden_manifest("plain")) if "email_worker" in t)
    for line in (
        "[program:email_worker]",
        "command=/usr/bin/python3 /srv/jobs/email_worker.py",
        "process_name=%(program_name)s_%(process_num)02d",
        "numprocs=2",
        "directory=/srv/jobs",
        "user=nobody",
        "autostart=true",
        "autorestart=true",
        "startretries=3",
        "stdout_logfile=/var/log/email_worker.out.log",
        "stderr_logfile=/var/log/email_worker.err.log",
    ):
        assert line in text.splitlines()
    assert text.count("[") == 1
    first, second = reader.read(text)["email_worker"]
    assert [first["name"], second["name"]] == ["email_worker_00", "email_worker_01"]
    assert first["stderr_logfile"] == "/var/log/email_worker.err.log"
    assert first["stdout_logfile"] == "/var/log/email_worker.out.log"
    assert (first["autorestart"], first["startretries"], first["redirect_stderr"]) == ("true", 3, False)


def test_rendering_twice_gives_the_same_bytes(make: Make) -> None:
    """Nothing of the clock, the process or the order of a set gets into a file."""
    text = '[pipelines.a]\nhandler = "x:y"\nenvironment = { B = "2", A = "1" }\n'
    assert rendered(make(text)) == rendered(make(text))


def test_safe_settings_are_always_there(make: Make, reader: Reader) -> None:
    """User and folder, startsecs of at least 1, the whole group killed, time for a goodbye, logs that end."""
    lines = 'handler = "x:y"\nstop = { grace = "61s" }\nuser = "nobody"\ndirectory = "/usr"\n'
    (text,) = confs(make(f"[pipelines.a]\n{lines}"))
    process = reader.read(text)["a"][0]
    assert (process["uid"], process["directory"]) == (pwd.getpwnam("nobody").pw_uid, "/usr")
    assert (process["autostart"], process["autorestart"]) == (True, "true")
    assert process["startsecs"] == 1
    assert (process["killasgroup"], process["stopasgroup"], process["redirect_stderr"]) == (True, False, True)
    assert process["stopwaitsecs"] > 61
    assert process["stopsignal"] == signal.SIGTERM
    assert process["stdout_logfile_maxbytes"] == 20_000_000  # supervisord's own "MB" is 1024 * 1024
    assert process["stdout_logfile_backups"] == 5


def test_each_process_has_its_own_log_file(make: Make, reader: Reader) -> None:
    """supervisord cannot rotate a file that two processes write."""
    (text,) = confs(make('[pipelines.a]\nhandler = "x:y"\nnumprocs = 3\n'))
    files = [process["stdout_logfile"] for process in reader.read(text)["a"]]
    assert len(set(files)) == len(files) == 6


INJECTIONS = {
    "command with a new section": ('command = "x\\n[program:evil]\\ncommand=/bin/evil"', "command"),
    "command with a new option": ('command = "x\\nautostart=false"', "command"),
    "command with a comment": ('command = "x ; y # z"', "command"),
    "command with an expansion": ('command = "echo %(ENV_SECRET)s"', "command"),
    "command with a date format": ('command = "date +%Y"', "command"),
    "command with a wide number": ('command = "echo %(process_num)0999999999d"', "command"),
    "command with an escape": ('command = "echo \\u001b[31m"', "command"),
}


@pytest.mark.parametrize(("line", "option"), INJECTIONS.values(), ids=INJECTIONS)
def test_a_command_injects_nothing(make: Make, reader: Reader, line: str, option: str) -> None:
    """The text of the manifest is the command, and no line, key or expansion of its own."""
    manifest = make(f"[pipelines.a]\n{line}\nroom = 0\n")
    groups = reader.read(*confs(manifest))
    assert list(groups) == ["a"]
    (process,) = groups["a"]
    assert process[option] == manifest.pipelines["a"].command
    assert process["autostart"] is True


def test_directories_with_hostile_names_arrive_unchanged(make: Make, reader: Reader) -> None:
    """A directory is text too."""
    name = "/srv/%(here)s ;a\\n[program:evil]"
    (text,) = confs(make(f'[pipelines.a]\nhandler = "x:y"\ndirectory = "{name}"\nroom = 0\n'))
    (process,) = reader.read(text)["a"]
    assert process["directory"] == name.replace("\\n", "\n")


def test_a_raw_option_expands_what_supervisord_offers_and_nothing_else(make: Make, reader: Reader) -> None:
    """%(process_num)02d is wanted there; %(ENV_SECRET)s is text."""
    log = "logs/%(ENV_SECRET)s_%(program_name)s_%(process_num)02d.log"
    root = make('[pipelines.a]\nhandler = "x:y"\n').root
    text = f'[pipelines.a]\nhandler = "x:y"\nroom = 0\nsupervisor = {{ stdout_logfile = "{root}/{log}" }}\n'
    (process,) = reader.read(*confs(make(text)))["a"]
    assert process["stdout_logfile"] == f"{root}/logs/%(ENV_SECRET)s_a_00.log"


def test_a_carriage_return_in_a_command_is_refused(make: Make) -> None:
    """The reason and the pipeline are named, and nothing is rendered."""
    with pytest.raises(RenderError, match=r"pipelines\.a: .*carriage return"):
        rendered(make('[pipelines.a]\ncommand = "x\\rautostart=false"\n'))


def test_a_template_of_ones_own_is_used_first(make: Make, tmp_path: Path) -> None:
    """--templates DIR replaces a template of the same name; the others stay fleet's."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "program.conf.j2").write_text("; mine {{ pipeline }} {{ programs[0].numprocs }}\n")
    manifest = make('[pipelines.a]\nhandler = "x:y"\n')
    assert render(planned(manifest), manifest, templates=mine)["fleet.a.conf"] == "; mine a 1\n"
    assert "[supervisord]" in main_file(tmp_path, templates=mine)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ programs }}", "passed no filter"),
        ("{{ 'x' }}", "passed no filter"),
        ("{{ programs[0].command.text }}", "passed no filter"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ programs[0].nothing }}", "has no attribute 'nothing'"),
        ("\n{% if %}", r"program\.conf\.j2:2: "),
        ("{% include '../../../etc/passwd' %}", "template"),
    ],
)
def test_a_template_that_reaches_too_far_fails(
    make: Make, tmp_path: Path, template: str, reason: str
) -> None:
    """A template prints values that passed the filter; it cannot forget to."""
    (tmp_path / "program.conf.j2").write_text(template)
    manifest = make('[pipelines.a]\nhandler = "x:y"\n')
    with pytest.raises(RenderError, match=reason):
        render(planned(manifest), manifest, templates=tmp_path)


def test_the_templates_of_a_checkout_are_found() -> None:
    """An editable install has them beside the package."""
    assert (template_dir() / "program.conf.j2").is_file()


def main_file(folder: Path, **more: Any) -> str:
    return render_supervisord(
        socket=folder / "s.sock", state_dir=folder, conf_dir=folder / "conf.d", minfds=1024, **more
    )


def test_supervisord_reads_the_private_main_file(reader: Reader, tmp_path: Path) -> None:
    """Socket, mode, limits and included files are what was asked for, also in a folder with a hard name."""
    home = tmp_path / "100% %(here)s ;home #1"
    (home / "conf.d").mkdir(parents=True)
    (home / "conf.d" / "a.conf").write_text("[program:a]\ncommand=/bin/cat\n")
    user = "root" if os.geteuid() == 0 else None
    (home / "main.conf").write_text(main_file(home, user=user, nodaemon=True))
    answer = reader.read_main(home / "main.conf")
    assert list(answer["groups"]) == ["a"]
    assert answer["servers"] == [{"file": str(home / "s.sock"), "chmod": 0o700}]
    main = answer["main"]
    assert (main["minfds"], main["nodaemon"], main["strip_ansi"]) == (1024, True, True)
    assert main["logfile"] == str(home / "supervisord.log")
    assert main["pidfile"] == str(home / "supervisord.pid")


@pytest.mark.parametrize("name", ["a*b", "[work]", "what?"])
def test_a_folder_that_include_would_glob_is_refused(tmp_path: Path, name: str) -> None:
    """supervisord globs the pattern with the folder in front, and would find nothing."""
    with pytest.raises(RenderError, match="Rename the folder"):
        main_file(tmp_path / name)


def test_a_worker_spec_is_json_that_names_its_secrets_and_holds_none() -> None:
    """Passwords are read by the worker; a rendered file only says where."""
    files = rendered(golden_manifest("shop"))
    spec = json.loads(files["fleet.shop-thumbs.worker.json"])
    assert spec["schema"] == "fleet.worker/1"
    assert spec["queue"]["password"] == {"file": "/etc/fleet/secrets/db"}
    assert spec["secrets"]["SENTRY_DSN"] == {"credential": "sentry", "optional": True}
    assert spec["environment"] == {"BOTH": """it's "quoted" """}
