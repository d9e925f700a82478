"""
What a manifest asks for and this machine does not have.

`load` never asks this: a manifest is also read to look at what runs, and to
render for another machine.  `fleet check` and everything that starts
processes here do.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.errors import Problem
from fleet.manifest import codes, dsn, shells
from fleet.manifest.source import ordered
from fleet.manifest.values import Manifest, Pipeline


def problems(manifest: Manifest, environ: Mapping[str, str] = os.environ) -> tuple[Problem, ...]:
    """Users, directories and programs that are missing here, and who would run as root."""
    found: list[Problem] = [*_queue_file(manifest)]
    for pipeline in manifest.pipelines.values():
        found += _user(manifest, pipeline)
        found += _directory(manifest, pipeline)
        found += _program(manifest, pipeline, environ)
        found += _shell(manifest, pipeline, environ)
    return ordered([*found, *_root(manifest)], manifest.source)


def require(manifest: Manifest, environ: Mapping[str, str] = os.environ) -> None:
    """
    Refuse to start what cannot run here.

    Raises:
        ManifestError: with everything that is missing.
    """
    missing = [problem for problem in problems(manifest, environ) if not problem.is_warning]
    if missing:
        raise manifest.source.error(missing)


def _queue_file(manifest: Manifest) -> Iterator[Problem]:
    """SQLite makes the file, and nobody makes its folder but that of `.fleet`."""
    if not dsn.is_sqlite(manifest.queue.dsn):
        return
    file = dsn.file_of(manifest.queue.dsn)
    path = ("queue", "dsn")
    if os.path.isdir(file):  # noqa: PTH112  (pathlib raises where this user may not look)
        yield manifest.source.problem(codes.NO_DIRECTORY, path, f"{file} is a directory, and no database")
    elif file.parent != manifest.state_dir and not os.path.isdir(file.parent):  # noqa: PTH112
        message = f"the folder of the queue, {file.parent}, does not exist here"
        yield manifest.source.problem(codes.NO_DIRECTORY, path, message, "make it, or name another file")


def _user(manifest: Manifest, pipeline: Pipeline) -> Iterator[Problem]:
    if pipeline.user is None:
        return
    path = ("pipelines", pipeline.name, "user")
    uid = user_id(pipeline.user)
    if uid is None:
        message = f'user "{pipeline.user[:40]}" does not exist here'
        yield manifest.source.problem(codes.NO_USER, path, message, "make it, or name another user")
    elif manifest.supervisor is None and os.geteuid() not in (0, uid):
        message = f'only root can start processes as "{pipeline.user[:40]}"; supervisord would be yours'
        hint = "leave user out, or run fleet as root"
        yield manifest.source.problem(codes.NO_USER, path, message, hint)


def user_id(user: str) -> int | None:
    """The uid of a name or number; None if there is no such user."""
    try:
        return pwd.getpwuid(int(user)).pw_uid if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except (KeyError, OverflowError, ValueError):
        return None


def _directory(manifest: Manifest, pipeline: Pipeline) -> Iterator[Problem]:
    folder = pipeline.directory
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist here"
        path = ("pipelines", pipeline.name, "directory")
        hint = "make it, or name another directory"
        yield manifest.source.problem(codes.NO_DIRECTORY, path, f"directory {folder} {what}", hint)


def _program(manifest: Manifest, pipeline: Pipeline, environ: Mapping[str, str]) -> Iterator[Problem]:
    if pipeline.python is not None:
        path = ("pipelines", pipeline.name, "python")
        if fault := _fault(Path(pipeline.python)):
            yield manifest.source.problem(codes.NO_PROGRAM, path, f"python {pipeline.python}: {fault}")
            return
        beside = Path(pipeline.python).with_name("fleet-worker")
        if pipeline.handler is not None and (fault := _fault(beside)):
            hint = f"install it there: {pipeline.python} -m pip install supervisor-fleet"
            yield manifest.source.problem(codes.NO_PROGRAM, path, f"{beside}: {fault}", hint)
    if pipeline.command is None:
        return
    program = shlex.split(pipeline.command)[0]
    if pipeline.python is not None and program in ("python", "python3"):
        return
    path = ("pipelines", pipeline.name, "command")
    if "/" in program:
        if fault := _fault(pipeline.directory / program):
            message = f"program {pipeline.directory / program}: {fault}"
            yield manifest.source.problem(codes.NO_PROGRAM, path, message)
        return
    folders = search_path(manifest, environ)
    if shutil.which(program, path=folders) is None:
        looked = ", ".join(dict.fromkeys(folders.split(":")))
        message = f'no program "{program[:60]}" (looked in {looked})'
        yield manifest.source.problem(codes.NO_PROGRAM, path, message)


def _shell(manifest: Manifest, pipeline: Pipeline, environ: Mapping[str, str]) -> Iterator[Problem]:
    """A shell that ends by the signal to stop, and leaves its program behind."""
    if pipeline.command is None or pipeline.stop.group:
        return
    words = shlex.split(pipeline.command)
    script = shells.script_of(words)
    if script is None:
        return
    shell = shutil.which(words[0], path=search_path(manifest, environ)) or words[0]
    # Debian's sh; it waits for the last program, too.
    if shells.stays_around(script, forks=Path(shell).resolve().name == "dash"):
        yield manifest.source.problem(
            codes.SHELL_AROUND,
            ("pipelines", pipeline.name, "command"),
            "the shell gets the signal to stop, and what it runs goes on without supervisord",
            f'end it with the program, after exec: {words[0]} -c "…; exec PROGRAM"',
        )


def search_path(manifest: Manifest, environ: Mapping[str, str]) -> str:
    """The PATH that supervisord will have: a private one begins with the folder of fleet's own python."""
    folders = environ.get("PATH", os.defpath)
    return f"{Path(sys.executable).parent}:{folders}" if manifest.supervisor is None else folders


def _fault(path: Path) -> str:
    if not path.exists():
        return "not there"
    if path.is_dir():
        return "is a directory"
    return "" if os.access(path, os.X_OK) else "is not executable"


def _root(manifest: Manifest) -> Iterator[Problem]:
    """A supervisord of the system is root's, and so is every process without a user."""
    nobody = [p.name for p in manifest.pipelines.values() if p.user is None]
    if manifest.supervisor is None or not nobody:
        return
    more = f" and {len(nobody) - 1} more have" if len(nobody) > 1 else " has"
    yield manifest.source.problem(
        codes.RUNS_AS_ROOT,
        ("pipelines", nobody[0]),
        f"[pipelines.{nobody[0]}]{more} no user: under the system's supervisord that is root",
        'add user = "…" here or in [defaults]',
        at="key",
    )
