"""Programs that run already become pipelines, and what was guessed is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import RenderError
from fleet.manifest import load
from fleet.manifest.adopt import Adopted, all_names, from_procfile, from_supervisor
from fleet.manifest.draft import FIRST, Draft, text_of
from fleet.manifest.values import Pipeline

LARAVEL = """\
[program:laravel-worker]
process_name=%(program_name)s_%(process_num)02d
command=php artisan queue:work --id=%(process_num)02d --rate=5%% {process} ; a comment
numprocs=8
autostart=true
autorestart=True
stopwaitsecs=3600
stopasgroup=true
stopsignal=INT
directory=%(here)s/app
stdout_logfile=/var/log/shop/worker.log
stdout_logfile_maxbytes=5MB
environment=APP_ENV="prod",DB_PASSWORD='it,s',N=3
[program:odd name]
command=/bin/sleep 1
startsecs=0
autorestart=false
[group:all]
programs=laravel-worker
"""


def pipelines(adopted: Adopted, folder: Path) -> dict[str, Pipeline]:
    path = folder / "fleet.toml"
    path.write_text(text_of(all_names(adopted.drafts), source="x"))
    return dict(load(path, environ={}).pipelines)


def test_a_file_of_supervisord(tmp_path: Path) -> None:
    """Its words become the manifest's; percent signs, braces and comments keep their meaning."""
    adopted = from_supervisor(Path("/srv/x.conf"), LARAVEL)
    assert adopted.left == ("[group:all] has no counterpart here",)
    found = pipelines(adopted, tmp_path)
    worker = found["laravel-worker"]
    assert worker.command == "php artisan queue:work --id={process} --rate=5% {{process}}"
    assert (worker.numprocs, worker.stop.signal, worker.stop.grace, worker.stop.group) == (
        8,
        "INT",
        3600,
        True,
    )
    assert worker.supervisor == {}, "what fleet does anyway is not written down"
    assert str(worker.directory) == "/srv/app"
    assert str(worker.logs.dir) == "/var/log/shop"
    assert worker.logs.max_size == 5 * 1024**2
    assert worker.environment == {"APP_ENV": "prod", "DB_PASSWORD": "it,s", "N": "3"}
    odd = found["odd-name"]
    assert odd.supervisor == {"startsecs": "1", "autorestart": "false"}
    said = " ".join(guess for draft in adopted.drafts for guess in draft.guesses)
    for word in ("DB_PASSWORD looks like a secret", "startsecs is 1", "the name was 'odd name'"):
        assert word in said


def test_a_procfile(tmp_path: Path) -> None:
    """A shell reads such a line: it stays only where the line needs it."""
    text = (
        "web: puma -p $PORT\nworker: RAILS_ENV=prod rake jobs:work\nboth: a && b\n# c\nno line\nworker: x y\n"
    )
    adopted = from_procfile(text)
    assert adopted.left == ("line 5 is not NAME: COMMAND",)
    found = pipelines(adopted, tmp_path)
    assert {name: p.command for name, p in found.items()} == {
        "web": "sh -c 'exec puma -p $PORT'",
        "worker": "rake jobs:work",
        "both": "sh -c 'a && b'",
        "worker-2": "x y",
    }
    assert found["worker"].environment == {"RAILS_ENV": "prod"}


@pytest.mark.parametrize(
    ("line", "command", "comment"),
    [
        ("sleep 9 # until morning; or so", "sleep 9", "# until morning; or so"),
        ("sleep 9 '# a' b#c # d # e", "sleep 9 '# a' b#c", "# d # e"),
        ("sleep 9 '# not closed", "sleep 9 '# not closed", ""),
        ("a && b # c", "sh -c 'a && b'", "# c"),
        ("x\\ # b", "sh -c 'exec x\\ # b'", ""),
        ('echo "$(date # x)"', "sh -c 'exec echo \"$$(date # x)\"'", ""),
    ],
)
def test_a_comment_behind_a_command_is_left_out(line: str, command: str, comment: str) -> None:
    """foreman and honcho give the line to a shell, to which it is one; without a shell it would be words."""
    (draft,) = from_procfile(f"worker: {line}\n").drafts
    assert draft.keys["command"] == command
    told = [guess.partition(" is left out: ")[2] for guess in draft.guesses if "is left out" in guess]
    assert told == [comment] * bool(comment)


def test_a_line_that_is_only_a_comment_is_no_command() -> None:
    """A shell would do nothing, and end well."""
    adopted = from_procfile("worker: # later\n")
    assert (adopted.drafts, adopted.left) == ((), ("line 1 has no command, only a comment",))


def test_what_is_no_file_of_supervisord_is_refused() -> None:
    """With its name."""
    with pytest.raises(RenderError, match=r"x\.conf is not a file of supervisord"):
        from_supervisor(Path("/x.conf"), "just text\n")


def test_the_first_manifest_can_be_used(tmp_path: Path) -> None:
    """Every comment that is a setting, too."""
    path = tmp_path / "fleet.toml"
    path.write_text(FIRST)
    assert load(path, environ={}).pipelines["hello"].numprocs == 2
    lines = (
        line.lstrip("# ") if line.startswith("# ") and " = " in line else line for line in FIRST.splitlines()
    )
    text = "\n".join(line for line in lines if not line.startswith(('dsn = "postgresql', "url", "conf_dir")))
    path.write_text(text.replace("password = {", "# ").replace('command = "php', '# "'))
    assert load(path, environ={}).pipelines["hello"].rollout == "surge"


@given(
    command=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), value=st.text(max_size=20)
)
def test_any_text_survives_the_way_into_a_manifest(
    command: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """TOML has its own escapes; a comment must not end early."""
    import tomllib

    draft = Draft(name="a b.c", keys={"command": command}, environment={"X": value}, guesses=(command,))
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    found = tomllib.loads(text_of([draft], source=command))
    assert found["pipelines"]["a b.c"] == {"command": command, "environment": {"X": value}}


def test_programs_of_one_name_get_names_that_are_free(tmp_path: Path) -> None:
    """Also to a file system that does not see case."""
    adopted = from_procfile("web: a\nweb: b\nweb-2: c\nWeb: d\n")
    assert [draft.name for draft in all_names(adopted.drafts)] == ["web", "web-3", "web-2", "Web-4"]
    assert len(pipelines(adopted, tmp_path)) == 4
