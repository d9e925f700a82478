"""
Programs to supervisord's configuration files.  Pure, and byte for byte the same every time.

The only door to jinja2.  A template prints nothing but values that passed a
filter of `escape`; a template that reaches for anything else fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from traceback import extract_tb
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from fleet.errors import RenderError
from fleet.manager import bounded, escape
from fleet.manager.escape import SECTION_GUARD, Safe
from fleet.manager.plan import Group
from fleet.manager.program import Program
from fleet.manifest import Manifest

_GLOB = "*?["


def template_dir() -> Path:
    """The folder of fleet's own templates: in the wheel below `fleet`, in a checkout beside it."""
    inside = Path(str(files("fleet"))) / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "templates"


def render(groups: Iterable[Group], manifest: Manifest, *, templates: Path | None = None) -> dict[str, str]:
    """
    File names and their text: a conf for each group, and the worker specs that there are.

    A template in *templates* is used instead of fleet's own of the same name, and has two seconds a file.

    Raises:
        RenderError: a value that a conf cannot carry, or a template that does not work.
    """
    if templates is None:
        return _rendered(groups, manifest, None)
    return bounded.within_limits(lambda: _rendered(groups, manifest, templates), f"templates in {templates}")


def _rendered(groups: Iterable[Group], manifest: Manifest, templates: Path | None) -> dict[str, str]:
    template = _template("program.conf.j2", templates)
    rendered = {}
    for group in groups:
        if templates is not None:
            bounded.begin_file()
        try:
            rendered[group.conf_name] = _print(template, _conf(group, manifest))
        except RenderError as error:
            raise RenderError(f"pipelines.{group.pipeline.name}: {error}") from error
        if group.worker_spec is not None:
            rendered[group.spec_name] = json.dumps(group.worker_spec, indent=2, ensure_ascii=False) + "\n"
    return rendered


def render_supervisord(
    *,
    socket: Path,
    state_dir: Path,
    conf_dir: Path,
    minfds: int,
    user: str | None = None,
    nodaemon: bool = False,
    logfile: Path | None = None,
    pidfile: Path | None = None,
    templates: Path | None = None,
) -> str:
    """
    The main file of a private supervisord, which lies in *state_dir* and includes *conf_dir*.

    *user* must be given when supervisord starts as root, or it complains.

    Raises:
        RenderError: a path that the file cannot carry.
    """
    return _print(
        _template("supervisord.conf.j2", templates),
        {
            "socket": _path(socket),
            "logfile": _path(logfile or state_dir / "supervisord.log"),
            "pidfile": _path(pidfile or state_dir / "supervisord.pid"),
            "childlogdir": _path(state_dir),
            "nodaemon": _word(nodaemon),
            "minfds": _word(minfds),
            "user": user and escape.value(user, guard=SECTION_GUARD),
            "include": _include(conf_dir, state_dir),
        },
    )


def _conf(group: Group, manifest: Manifest) -> dict[str, Any]:
    return {
        "project": _word(manifest.project),
        "pipeline": _word(group.pipeline.name),
        "revision": _word(group.revision),
        "programs": [_options(program) for program in group.programs],
        "group": _word(group.name) if len(group.programs) > 1 else None,
        "program_names": _word(",".join(program.name for program in group.programs)),
    }


def _options(program: Program) -> dict[str, Any]:
    """Each option of the section as text that is safe to print."""
    log_files = ("stdout_logfile", "stderr_logfile")
    return {
        "name": _word(program.name),
        "command": escape.value(program.command),
        "process_name": escape.value(program.process_name),
        "numprocs": _word(program.numprocs),
        "numprocs_start": _word(program.numprocs_start) if program.numprocs_start else None,
        "directory": escape.value(program.directory),
        "user": program.user and escape.value(program.user),
        "environment": escape.environment(program.environment),
        "autostart": _word(program.autostart),
        "autorestart": _word(program.autorestart),
        "startsecs": _word(program.startsecs),
        "startretries": _word(program.startretries),
        "exitcodes": _word(program.exitcodes),
        "stopsignal": _word(program.stopsignal),
        "stopwaitsecs": _word(program.stopwaitsecs),
        "stopasgroup": _word(program.stopasgroup),
        "killasgroup": _word(program.killasgroup),
        "redirect_stderr": _word(program.redirect_stderr),
        "stdout_logfile": escape.log_file(program.stdout_logfile),
        "stdout_logfile_maxbytes": _word(program.stdout_logfile_maxbytes),
        "stdout_logfile_backups": _word(program.stdout_logfile_backups),
        "extra": [
            (_word(name), escape.log_file(text) if name in log_files else escape.value(text))
            for name, text in program.extra.items()
        ],
    }


def _word(value: str | int | bool) -> Safe:
    """A value that is made of harmless characters already, as supervisord writes it."""
    if isinstance(value, bool):
        return Safe("true" if value else "false")
    return escape.word(str(value))


def _path(path: Path) -> Safe:
    return escape.value(str(path), guard=SECTION_GUARD)


def _include(conf_dir: Path, state_dir: Path) -> Safe:
    """
    The pattern of [include], which supervisord splits at blanks and globs from the main file's folder.

    Raises:
        RenderError: the path holds a character that means something there.
    """
    relative = conf_dir.relative_to(state_dir) if conf_dir.is_relative_to(state_dir) else conf_dir
    # A relative pattern is globbed together with the folder that it starts at.
    if any(c in str(conf_dir) for c in _GLOB) or any(c.isspace() for c in str(relative)):
        raise RenderError(
            f"supervisord cannot include files from {conf_dir}: "
            "the path holds one of * ? [ or a blank. Rename the folder."
        )
    return escape.value(f"{relative}/*.conf", guard=SECTION_GUARD)


def _template(name: str, templates: Path | None) -> jinja2.Template:
    folders = [folder for folder in (templates, template_dir()) if folder is not None]
    # A template is its author's code, and no border: the sandbox only ends what reaches into Python by
    # mistake.  What has no end is ended by `bounded`.
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in folders]),
        undefined=jinja2.StrictUndefined,
        finalize=_only_safe,
        autoescape=False,  # INI, not HTML: `_only_safe` stands in its place
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(name)
    except (jinja2.TemplateError, UnicodeDecodeError) as error:
        raise RenderError(f"template {_where(error, name)}: {error}") from error


def _only_safe(value: object) -> str:
    """What `{{ … }}` may print."""
    if isinstance(value, Safe):
        return value.text
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, with the name
    raise RenderError(f"the template prints {type(value).__name__} {value!r:.60} that passed no filter")


def _print(template: jinja2.Template, values: Mapping[str, Any]) -> str:
    try:
        return template.render(values)
    except RenderError:
        raise
    except Exception as error:  # whatever the expressions of a template of one's own come to
        reason = str(error) or type(error).__name__
        if isinstance(error, jinja2.TemplateNotFound):
            reason = f"there is no template {error.name!r} in its folder, and no other is read"
        raise RenderError(f"template {_where(error, str(template.name))}: {reason}") from error


def _where(error: Exception, name: str) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.name or name}:{error.lineno}"
    # jinja2 puts the template's own lines into the traceback
    lines = [at.lineno for at in extract_tb(error.__traceback__) if at.filename.endswith(f"/{name}")]
    return f"{name}:{lines[-1]}" if lines else name
