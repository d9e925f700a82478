"""
Manifest to programs: what each pipeline is to supervisord, and the spec that its workers read.

Pure.  One pipeline is one group of two programs: what is wanted, which starts
by itself, and the room above it, whose processes are started one by one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.errors import RenderError
from fleet.manager import escape
from fleet.manager.program import Live, Program, Text
from fleet.manifest import Manifest, Pipeline, codes, dsn
from fleet.manifest.interpolate import split_process
from fleet.manifest.options import EXPANSION
from fleet.manifest.values import STOP_MARGIN

SPEC_SCHEMA = "fleet.worker/1"
PROCESS = Live("%(process_num)02d")
# Options of the manifest that replace a field of Program; the others go to `extra`.
_FIELDS = ("autorestart", "autostart", "exitcodes", "redirect_stderr", "startretries", "startsecs")
_PYTHONS = ("python", "python3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One pipeline as supervisord sees it."""

    pipeline: Pipeline
    name: str  # of the group in supervisord
    programs: tuple[Program, ...]  # one without room, else what is wanted and the room above it
    worker_spec: dict[str, Any] | None  # None: the command runs directly and needs none
    revision: str  # digest of everything that a process is started with

    @property
    def conf_name(self) -> str:
        return f"fleet.{self.name}.conf"

    @property
    def spec_name(self) -> str:
        return spec_name(self.name)

    def log_files(self) -> tuple[str, ...]:
        """Every log file of its processes; their folders must exist before supervisord reads the conf."""
        return tuple(dict.fromkeys(file for program in self.programs for file in program.log_files()))


def spec_name(group: str) -> str:
    return f"fleet.{group}.worker.json"


def programs(manifest: Manifest, *, conf_dir: Path, worker: str) -> tuple[Group, ...]:
    """
    The groups of *manifest*, in its order.

    *conf_dir* is where the rendered files will lie, *worker* the path of fleet-worker.

    Raises:
        ManifestError: the DSN holds a password.
        RenderError: a value that can be carried neither by a conf nor by a spec.
    """
    if dsn.has_password(manifest.queue.dsn):
        message = "the DSN holds a password, and passwords are never rendered"
        hint = (
            'move it: password = { file = "/etc/fleet/secrets/db" }, or { env = "DB_PASSWORD" }, in [queue]'
        )
        raise manifest.source.error(
            [manifest.source.problem(codes.WRONG_VALUE, ("queue", "dsn"), message, hint)]
        )
    return tuple(_group(manifest, pipeline, conf_dir, worker) for pipeline in manifest.pipelines.values())


def _group(manifest: Manifest, pipeline: Pipeline, conf_dir: Path, worker: str) -> Group:
    try:
        return _planned(manifest, pipeline, conf_dir, worker)
    except RenderError as error:
        raise RenderError(f"pipelines.{pipeline.name}: {error}") from error


def _planned(manifest: Manifest, pipeline: Pipeline, conf_dir: Path, worker: str) -> Group:
    if pipeline.python is not None:
        worker = str(Path(pipeline.python).with_name("fleet-worker"))
    carried, spilled = _environment(pipeline)
    spec: dict[str, Any] | None = None
    command = _command(pipeline)
    needs_shim = bool(spilled or pipeline.secrets or manifest.queue.password)
    if pipeline.command is None or needs_shim:
        spec = _spec(manifest, pipeline, command, spilled)
        words = [worker] if pipeline.command is None else [worker, "--exec"]
        command = shlex.join([*words, str(conf_dir / spec_name(pipeline.group))])
    wanted = _program(pipeline, command, {**_own_environment(manifest, pipeline), **carried})
    revision = _revision(wanted, spec)
    wanted = replace(wanted, environment={"FLEET_REVISION": revision, **wanted.environment})
    if spec is not None:
        spec["revision"] = revision
    listed: tuple[Program, ...] = (wanted,)
    if pipeline.room:
        burst = replace(
            wanted,
            name=f"{pipeline.group}-burst",
            numprocs=pipeline.room,
            numprocs_start=pipeline.numprocs,
            autostart="false",
        )
        listed = (wanted, burst)
    return Group(pipeline=pipeline, name=pipeline.group, programs=listed, worker_spec=spec, revision=revision)


def _program(pipeline: Pipeline, command: Text, environment: Mapping[str, Text]) -> Program:
    raw = dict(pipeline.supervisor)
    logs = pipeline.logs
    if "stderr_logfile" in raw:
        raw.setdefault("redirect_stderr", "false")
        raw.setdefault("stderr_logfile_maxbytes", str(logs.max_size))
        raw.setdefault("stderr_logfile_backups", str(logs.keep))
    fields: dict[str, Any] = {name: raw.pop(name) for name in _FIELDS if name in raw}
    for name in ("startsecs", "startretries"):
        if name in fields:
            fields[name] = int(fields[name])
    own_name = Live("%(group_name)s" if pipeline.room else "%(program_name)s")
    log_file = raw.pop("stdout_logfile", None)
    process_name = raw.pop("process_name", None)
    return Program(
        name=pipeline.group,
        group=pipeline.group,
        command=command,
        process_name=_expanding(process_name) if process_name else (own_name, "_", PROCESS),
        numprocs=pipeline.numprocs,
        directory=str(pipeline.directory),
        user=pipeline.user,
        environment=environment,
        stopsignal=pipeline.stop.signal,
        # supervisord sends SIGKILL after this; a worker that used all of its grace still says goodbye.
        stopwaitsecs=math.ceil(pipeline.stop.grace + STOP_MARGIN),
        stopasgroup=pipeline.stop.group,
        stdout_logfile=_expanding(log_file)
        if log_file
        else _joined(_live(str(logs.dir)), f"/{pipeline.group}_", PROCESS, ".log"),
        stdout_logfile_maxbytes=logs.max_size,
        stdout_logfile_backups=logs.keep,
        extra={name: _expanding(raw[name]) for name in sorted(raw)},
        **fields,
    )


def _command(pipeline: Pipeline) -> Text:
    """The command with its program spelt out where supervisord would look in the wrong place."""
    if pipeline.command is None:
        return ""
    words = shlex.split(pipeline.command)
    program = words[0]
    if pipeline.python is not None and program in _PYTHONS:
        program = pipeline.python
    elif "/" in program and not program.startswith("/"):
        # supervisord looks before it changes into the directory.
        program = os.path.normpath(pipeline.directory / program)
    if program == words[0]:
        return _live(pipeline.command)
    if pipeline.command.startswith(words[0]):
        return _live(shlex.quote(program) + pipeline.command[len(words[0]) :])
    return _live(shlex.join([program, *words[1:]]))


def _own_environment(manifest: Manifest, pipeline: Pipeline) -> dict[str, Text]:
    own: dict[str, Text] = {"FLEET_PIPELINE": pipeline.queue_name}
    if manifest.project:
        own["FLEET_PROJECT"] = manifest.project
    if manifest.queue.password is None:
        own["FLEET_DSN"] = manifest.queue.dsn
    return own


def _environment(pipeline: Pipeline) -> tuple[dict[str, Text], dict[str, str]]:
    """Variables that every supervisord can carry, and those that the worker must set itself."""
    carried: dict[str, Text] = {}
    spilled: dict[str, str] = {}
    for name, text in pipeline.environment.items():
        value = _live(text)
        if escape.quote_for(value) is not None:
            carried[name] = value
            continue
        reason = escape.fault(value)
        if reason and reason != escape.CARRIAGE_RETURN:
            raise RenderError(f"environment.{name}: no file can carry {reason}")
        if not isinstance(value, str):
            raise RenderError(
                f"environment.{name}: {{process}} cannot stand beside quotes of both kinds, quotes at the "
                "ends, or a carriage return; supervisord would not put the number in"
            )
        spilled[name] = value
    return carried, spilled


def _spec(manifest: Manifest, pipeline: Pipeline, command: Text, spilled: dict[str, str]) -> dict[str, Any]:
    if not isinstance(command, str):
        raise RenderError(
            "{process} cannot stand in the command of a pipeline with secrets: use $SUPERVISOR_PROCESS_NAME"
        )
    password = manifest.queue.password
    raw = pipeline.supervisor
    return {
        "schema": SPEC_SCHEMA,
        "project": manifest.project,
        "pipeline": pipeline.name,
        "queue_name": pipeline.queue_name,
        "queue": {"dsn": manifest.queue.dsn, "password": password.spec() if password else None},
        "handler": pipeline.handler,
        # Left out when empty: a fleet that learned of hooks must not restart pipelines that have none.
        **({"hooks": list(pipeline.hooks)} if pipeline.hooks else {}),
        "command": command or None,
        "directory": str(pipeline.directory),
        "path": [str(pipeline.directory)],
        "timeout": pipeline.timeout,
        "ttr": pipeline.ttr,
        "concurrency": pipeline.concurrency,
        "retries": {
            "max": pipeline.retries.max,
            "first": pipeline.retries.first,
            "factor": pipeline.retries.factor,
            "cap": pipeline.retries.cap,
            "jitter": pipeline.retries.jitter,
        },
        "max_crashes": pipeline.max_crashes,
        "grace": pipeline.stop.grace,
        "recycle": {
            "jobs": pipeline.recycle.jobs,
            "age": pipeline.recycle.age,
            "memory": pipeline.recycle.memory,
        },
        "environment": spilled,
        "secrets": {
            name: {**secret.spec(), "optional": secret.optional} for name, secret in pipeline.secrets.items()
        },
        "redact": list(pipeline.redact),
        "logs": {"format": pipeline.logs.format, "log_jobs": pipeline.logs.log_jobs},
        "startsecs": int(raw.get("startsecs", "1")),
        "revision": "",
        "run_dir": str(manifest.state_dir / "run"),
    }


def _revision(program: Program, spec: dict[str, Any] | None) -> str:
    """
    Digest of what one process is started with.

    numprocs and autostart are left out: they say how many there are, and a
    change of them leaves the running ones up to date.
    """
    seen = [
        (name, getattr(program, name))
        for name in Program.__dataclass_fields__
        if name not in ("numprocs", "numprocs_start", "autostart")
    ]
    text = json.dumps([seen, spec], default=_plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    return value.expansion if isinstance(value, Live) else dict(value)  # type: ignore[call-overload]


def _live(text: str) -> Text:
    """A text of the manifest, its {process} becoming the number of each process."""
    first, *others = split_process(text)
    return _joined(first, *(piece for other in others for piece in (PROCESS, other)))


def _expanding(text: str) -> Text:
    """A raw option: the expansions that are supervisord's own work, every other % is a percent sign."""
    pieces: list[str | Live] = []
    end = 0
    for found in EXPANSION.finditer(text):
        pieces += [text[end : found.start()], Live(found[0])]
        end = found.end()
    return _joined(*pieces, text[end:])


def _joined(*parts: Text | Live) -> Text:
    """One text of many, plain if nothing in it is live."""
    pieces: list[str | Live] = []
    for part in parts:
        for piece in part if isinstance(part, tuple) else (part,):
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            elif piece != "":
                pieces.append(piece)
    if len(pieces) == 1 and isinstance(pieces[0], str):
        return pieces[0]
    return tuple(pieces) or ""
