"""What a manifest asks for and this machine lacks; and who may read what it names."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

import pytest

from fleet.errors import ManifestError, Refused, SecretError
from fleet.manifest import imports, machine
from fleet.manifest.secrets import Secret, dsn_with_password
from tests.manifest.conftest import Write, loaded


def found(path: Path, **environ: str) -> list[tuple[str, int, str]]:
    problems = machine.problems(loaded(path), environ or os.environ)
    return [(p.code, p.line, f"{p.message} {p.hint}".strip()) for p in problems]


def test_a_user_that_does_not_exist_is_told(write: Write) -> None:
    """supervisord would refuse every file because of one unknown user."""
    path = write('[pipelines.x]\ncommand = "cat"\nuser = "no-such-user"\n')
    assert found(path) == [
        ("E010", 3, 'user "no-such-user" does not exist here make it, or name another user')
    ]
    with pytest.raises(ManifestError, match="E010"):
        machine.require(loaded(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_only_root_can_become_somebody_else(write: Write) -> None:
    """A private supervisord runs as whoever called fleet."""
    assert found(write('[pipelines.x]\ncommand = "cat"\nuser = "root"\n'))[0][0] == "E010"


def test_ones_own_user_is_fine(write: Write) -> None:
    """By name or by number."""
    for user in (getpass.getuser(), str(os.geteuid())):
        assert found(write(f'[pipelines.x]\ncommand = "cat"\nuser = "{user}"\n')) == []


def test_a_missing_directory_is_told_once_for_all_pipelines(write: Write, tmp_path: Path) -> None:
    """supervisord accepts it and fails at every start."""
    text = '[defaults]\ndirectory = "gone"\n[pipelines.a]\ncommand = "cat"\n[pipelines.b]\ncommand = "cat"\n'
    gone = f"directory {tmp_path}/gone does not exist here make it, or name another directory"
    assert found(write(text)) == [("E013", 2, gone)]


def test_a_queue_whose_folder_is_missing_is_told(write: Write, tmp_path: Path) -> None:
    """SQLite makes files and no folders; a worker would find out, one after another."""
    one = '[pipelines.a]\ncommand = "cat"\n'
    gone = f"the folder of the queue, {tmp_path}/gone, does not exist here make it, or name another file"
    assert found(write(f'[queue]\ndsn = "sqlite:///gone/jobs.db"\n{one}')) == [("E013", 2, gone)]
    here = f"{tmp_path} is a directory, and no database"
    assert found(write(f'[queue]\ndsn = "sqlite:///{tmp_path}"\n{one}')) == [("E013", 2, here)]
    assert found(write(one)) == []


def test_a_program_that_is_not_found_is_told_with_the_path_searched(write: Write) -> None:
    """As supervisord will search: its own PATH, for a private one fleet's Python first."""
    path = write('[pipelines.x]\ncommand = "no-such-program --flag"\n')
    own = Path(sys.executable).parent
    ((code, line, text),) = found(path, PATH=f"{own}:/usr/bin:/bin")
    assert (code, line) == ("E022", 2)
    assert 'no program "no-such-program"' in text
    assert text.endswith(f"(looked in {own}, /usr/bin, /bin)"), "each folder once"


def test_a_relative_program_lies_in_the_directory_and_is_executable(write: Write, tmp_path: Path) -> None:
    """The directory of the pipeline, not of whoever checks."""
    (tmp_path / "work").mkdir()
    path = write('[pipelines.x]\ncommand = "./run"\ndirectory = "work"\n')
    assert found(path)[0][2].endswith("work/run: not there")
    (tmp_path / "work" / "run").touch(0o644)
    assert found(path)[0][2].endswith("work/run: is not executable")
    (tmp_path / "work" / "run").chmod(0o755)
    assert found(path) == []


def test_an_interpreter_needs_fleet_beside_it(write: Write, tmp_path: Path) -> None:
    """The worker is run from the pipeline's own environment."""
    bin_dir = tmp_path / "venv" / "bin"
    bin_dir.mkdir(parents=True)
    path = write('[pipelines.x]\nhandler = "x:y"\npython = "venv/bin/python"\n')
    assert found(path)[0][2].endswith("venv/bin/python: not there")
    (bin_dir / "python").touch(0o755)
    (problem,) = found(path)
    assert "fleet-worker: not there" in problem[2]
    assert "-m pip install supervisor-fleet" in problem[2]


def test_a_process_that_would_run_as_root_is_a_warning(write: Write) -> None:
    """A system's supervisord is root's; a private one is the caller's."""
    text = '[pipelines.a]\ncommand = "cat"\n[pipelines.b]\ncommand = "cat"\n'
    assert found(write(text)) == []
    ((code, _, message),) = found(write(f"[supervisor]\n{text}"))
    assert code == "W014"
    assert message.startswith(
        "[pipelines.a] and 1 more have no user: under the system's supervisord that is root"
    )
    machine.require(loaded(write(f"[supervisor]\n{text}")))


# Handlers


def test_handlers_are_imported_as_their_worker_would(write: Write, tmp_path: Path) -> None:
    """From the directory, with the environment, output and all; each fault with a near miss."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "images.py").write_text(
        "import os\nprint('noise')\nos.environ['SETTING']\nclass Thumb:\n    def make(self, job): ...\n"
        "def thumb(job): ...\nnumber = 3\n"
    )
    (package / "broken.py").write_text("raise RuntimeError('no database')\n")
    (package / "needs.py").write_text("import no_such_library\n")
    (package / "quits.py").write_text("import os\nos._exit(7)\n")
    handlers = {
        "good": "shop.images:thumb",
        "method": "shop.images:Thumb.make",
        "module": "shop.image:thumb",
        "attribute": "shop.images:thumbs",
        "value": "shop.images:number",
        "broken": "shop.broken:x",
        "needs": "shop.needs:x",
    }
    text = '[defaults.environment]\nSETTING = "1"\n' + "".join(
        f'[pipelines.{name}]\nhandler = "{handler}"\n' for name, handler in handlers.items()
    )
    problems = imports.problems(loaded(write(text)))
    assert {problem.key.split(".")[1]: problem.message.split(": ", 1)[1] for problem in problems} == {
        "module": "no module shop.image",
        "attribute": "shop.images has no thumbs",
        "value": "it is a int, not a function",
        "broken": "shop.broken cannot be imported: RuntimeError: no database",
        "needs": "shop.needs: no module no_such_library",
    }
    hints = {problem.key.split(".")[1]: problem.hint for problem in problems}
    assert hints["module"] == f'did you mean "shop.images"? (looked in {tmp_path})'
    assert hints["attribute"].startswith('did you mean "thumb"?')
    assert not list(tmp_path.rglob("*.pyc"))


def test_an_import_that_ends_or_never_ends_is_told(write: Write, tmp_path: Path) -> None:
    """The child has a time limit, and what it starts ends with it."""
    (tmp_path / "quits.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    (problem,) = imports.problems(loaded(write('[pipelines.x]\nhandler = "quits:x"\n')))
    assert "the import ended the process (exit 7)" in problem.message
    (problem,) = imports.problems(loaded(write('[pipelines.x]\nhandler = "hangs:x"\n')), limit=0.5)
    assert "the import took longer than 0.5 s" in problem.message


# Secrets


def test_a_secret_is_read_from_where_it_is(tmp_path: Path) -> None:
    """The line end of a file is not part of the password."""
    file = tmp_path / "db"
    file.touch(0o600)
    file.write_text("hunter2\n")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Secret(file=str(file)).read({}) == "hunter2"
    assert Secret(credential="db").read(credentials) == "hunter2"
    assert Secret(env="P").read({"P": "hunter2"}) == "hunter2"
    assert Secret(env="P", optional=True).read({}) is None
    assert Secret(file=f"{file}x", optional=True).read({}) is None
    for missing in (Secret(env="P"), Secret(file=f"{file}x"), Secret(credential="db")):
        with pytest.raises(SecretError, match="not there"):
            missing.read({})


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """The command that mends it is in the text; the secret is not."""
    file = tmp_path / "db"
    file.write_text("hunter2")
    file.chmod(mode)
    with pytest.raises(Refused, match="chmod o=,g-w") as caught:
        Secret(file=str(file)).read({})
    assert "hunter2" not in str(caught.value)
    file.chmod(0o640)  # root:rungroup
    assert Secret(file=str(file)).read({}) == "hunter2"


def test_the_password_is_put_into_the_dsn(write: Write) -> None:
    """Percent-encoded, so that any character may be in it."""
    path = write(
        '[queue]\ndsn = "postgresql://shop@db:5432/shop?sslmode=require"\npassword = { env = "P" }\n'
        '[pipelines.x]\ncommand = "x"\n'
    )
    assert dsn_with_password(loaded(path), {"P": "p@ss/w:rd"}) == (
        "postgresql://shop:p%40ss%2Fw%3Ard@db:5432/shop?sslmode=require"
    )
    assert dsn_with_password(loaded(write('[pipelines.x]\ncommand = "x"\n'))).startswith("sqlite:///")
