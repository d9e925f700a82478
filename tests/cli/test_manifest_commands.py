"""fleet check, render and schema as people and scripts see them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fleet.cli.app import run

GOOD = 'project = "shop"\n[pipelines.emails]\ncommand = "cat"\nnumprocs = 2\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_MANIFEST", "FLEET_ENV", "FLEET_HOST", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(GOOD)


def test_a_good_manifest_is_said_to_be_good(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, so that it is clear which file was read."""
    assert run(["check"]) == 0
    assert capsys.readouterr().out == "fleet.toml is good: pipelines 1, processes 2\n"


def test_a_bad_manifest_ends_with_4_and_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From check on stdout, because that is its data; from other commands on stderr."""
    (tmp_path / "fleet.toml").write_text(GOOD + "numproc = 4\n")
    assert run(["check"]) == 4
    shown = capsys.readouterr()
    assert "fleet.toml:5:1  E003" in shown.out
    assert shown.out.endswith("1 error\n")
    assert run(["render"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "fleet.toml:5:1  E003" in shown.err


def test_warnings_fail_only_when_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a pipeline of CI can be stricter than a person."""
    (tmp_path / "fleet.toml").write_text(f'[queue]\nkeep_done = "1h"\n{GOOD.split(chr(10), 1)[1]}')
    assert run(["check"]) == 0
    assert run(["check", "--strict"]) == 4
    assert "1 warning" in capsys.readouterr().out


def test_check_asks_the_machine_and_tries_handlers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--no-import leaves the handlers alone."""
    (tmp_path / "fleet.toml").write_text('[pipelines.a]\nhandler = "nosuch:x"\ndirectory = "."\n')
    assert run(["check"]) == 4
    assert 'E021 handler "nosuch:x": no module nosuch' in capsys.readouterr().out
    assert run(["check", "--no-import"]) == 0


def test_check_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same list, also when the file cannot be read at all."""
    for text, codes in ((GOOD, []), (GOOD + "numproc = 4\n", ["E003"]), ("[", ["E002"])):
        (tmp_path / "fleet.toml").write_text(text)
        run(["--json", "check"])
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "fleet.check/1"
        assert [problem["code"] for problem in document["problems"]] == codes


def test_a_setting_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """What it is, and where that was said."""
    assert run(["check", "--explain", "pipelines.emails.numprocs"]) == 0
    assert capsys.readouterr().out == (
        "pipelines.emails.numprocs = 2\n  from  fleet.toml:4:1  numprocs = 2\n"
    )
    assert run(["check", "--explain", "pipelines.emails.room"]) == 0
    assert capsys.readouterr().out == "pipelines.emails.room = 2\n  a default\n"
    assert run(["check", "--explain", "pipelines.email.room"]) == 2
    assert "Did you mean pipelines.emails?" in capsys.readouterr().err


def test_rendering_again_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even the time stamps."""
    assert run(["render", "-o", "out"]) == 0
    file = tmp_path / "out" / "fleet.shop-emails.conf"
    before = file.stat()
    assert run(["render", "-o", "out"]) == 0
    assert file.stat() == before
    assert "0 written, 0 removed, 1 unchanged" in capsys.readouterr().err


def test_files_of_pipelines_that_are_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    """Only what carries the mark of fleet and of this project."""
    run(["render", "-o", "out"])
    out = tmp_path / "out"
    (out / "mine.conf").write_text("[program:mine]\n")
    (out / "fleet.other.conf").write_text("; managed by fleet | project other | pipeline x | rev 1 |\n")
    (tmp_path / "fleet.toml").write_text(GOOD.replace("emails", "mails"))
    assert run(["render", "-o", "out"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "fleet.other.conf",
        "fleet.shop-mails.conf",
        "mine.conf",
    ]


def test_a_foreign_file_in_the_way_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody wrote it by hand."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fleet.shop-emails.conf").write_text("[program:mine]\n")
    assert run(["render", "-o", "out"]) == 8
    assert "was not written by fleet" in capsys.readouterr().err
    assert (tmp_path / "out" / "fleet.shop-emails.conf").read_text() == "[program:mine]\n"


def test_a_worker_spec_is_for_its_worker_alone(tmp_path: Path) -> None:
    """It may hold values of the environment; a conf is for everybody."""
    (tmp_path / "fleet.toml").write_text('[pipelines.a]\nhandler = "x:y"\n')
    assert run(["render", "-o", "out"]) == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes == {"fleet.a.conf": 0o644, "fleet.a.worker.json": 0o600}
    assert f"fleet-worker {tmp_path}/out/fleet.a.worker.json" in (tmp_path / "out/fleet.a.conf").read_text()


def test_check_of_render_tells_differences_with_10(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For CI: are the committed files those of the manifest?"""
    assert run(["render", "-o", "out", "--check"]) == 10
    assert not (tmp_path / "out").exists()
    run(["render", "-o", "out"])
    capsys.readouterr()
    assert run(["render", "-o", "out", "--check"]) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "fleet.toml").write_text(GOOD + 'timeout = "61s"\n[pipelines.new]\nhandler = "x:y"\n')
    assert run(["render", "-o", "out", "--check"]) == 10
    assert capsys.readouterr().out == (
        "+ fleet.shop-new.worker.json\n~ fleet.shop-emails.conf\n+ fleet.shop-new.conf\n"
    )


def test_render_prints_everything_without_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """To look at; --json for programs."""
    assert run(["render"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("==> fleet.shop-emails.conf <==\n; managed by fleet | project shop | ")
    assert run(["render", "-o", "-", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["files"]) == ["fleet.shop-emails.conf"]


def test_templates_of_ones_own_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a mistake in one ends with 4 and its place."""
    (tmp_path / "mine").mkdir()
    template = tmp_path / "mine" / "program.conf.j2"
    template.write_text("; mine\n")
    assert run(["render", "--templates", "mine"]) == 0
    assert "; mine" in capsys.readouterr().out
    template.write_text("\n{% if %}")
    assert run(["render", "--templates", "mine"]) == 4
    assert "program.conf.j2:2" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """For the first line of a manifest."""
    assert run(["schema", "manifest"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "fleet.toml"
    assert run(["schema", "nothing"]) == 2
