"""Whether handlers can be imported: tried in a child process, as the worker would."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.errors import Problem
from fleet.manifest import codes
from fleet.manifest.machine import user_id
from fleet.manifest.source import ordered
from fleet.manifest.values import Manifest, Pipeline

LIMIT = 10.0  # seconds for all handlers of one interpreter and directory

# Runs under the pipeline's python, which need not have fleet.  Handlers may
# print: their output goes away, the answers go to the pipe.
_CHILD = r"""
import difflib, importlib, json, os, pkgutil, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.path[:1] = [os.getcwd()]

def close(word, words):
    found = difflib.get_close_matches(word, list(words), n=1)
    return found[0] if found else ""

def near_module(name):
    above, _, last = name.rpartition(".")
    try:
        path = importlib.import_module(above).__path__ if above else None
        found = close(last, [m.name for m in pkgutil.iter_modules(path)])
    except BaseException:
        return ""
    return (above + "." if above else "") + found if found else ""

def attempt(handler):
    name, _, attribute = handler.partition(":")
    try:
        thing = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            return "no module " + error.name, near_module(error.name)
        return "%s: no module %s" % (name, error.name), ""
    except BaseException as error:
        return "%s cannot be imported: %s: %s" % (name, type(error).__name__, error), ""
    for part in attribute.split("."):
        if not hasattr(thing, part):
            return "%s has no %s" % (name, part), close(part, dir(thing))
        thing = getattr(thing, part)
    return (None if callable(thing) else "it is a %s, not a function" % type(thing).__name__), ""

for handler in json.loads(sys.argv[1]):
    answers.write(json.dumps([handler, None, None]) + "\n")
    answers.flush()
    answers.write(json.dumps([handler, *attempt(handler)]) + "\n")
    answers.flush()
os._exit(0)
"""


def problems(manifest: Manifest, limit: float = LIMIT) -> tuple[Problem, ...]:
    """
    Handlers that cannot be imported here (E021).

    Each is tried with its pipeline's interpreter, directory, environment and,
    when we are root, user.  A pipeline whose user or directory is missing is
    passed over: that is told elsewhere.
    """
    together: dict[tuple[Any, ...], list[Pipeline]] = {}
    for pipeline in manifest.pipelines.values():
        uid = None if pipeline.user is None else user_id(pipeline.user)
        known = pipeline.user is None or uid is not None
        if pipeline.handler is not None and known and pipeline.directory.is_dir():
            key = (pipeline.python, pipeline.directory, uid, tuple(sorted(pipeline.environment.items())))
            together.setdefault(key, []).append(pipeline)
    found = []
    for (_, _, uid, _), pipelines in together.items():
        faults = _try(pipelines, uid, limit)
        for pipeline in pipelines:
            if fault := faults.get(str(pipeline.handler)):
                message, near = fault
                hint = f'did you mean "{near}"? ' if near else ""
                found.append(
                    manifest.source.problem(
                        codes.BAD_HANDLER,
                        ("pipelines", pipeline.name, "handler"),
                        f'handler "{pipeline.handler}": {message}',
                        f"{hint}(looked in {pipeline.directory})",
                    )
                )
    return ordered(found, manifest.source)


def _try(pipelines: Sequence[Pipeline], uid: int | None, limit: float) -> Mapping[str, tuple[str, str]]:
    """What is wrong with the handlers of pipelines that are alike, by handler."""
    first = pipelines[0]
    handlers = sorted({str(pipeline.handler) for pipeline in pipelines})
    python = first.python or sys.executable
    # Root does not run other people's code as root.
    person = pwd.getpwuid(uid) if uid is not None and os.geteuid() == 0 else None
    try:
        child = subprocess.Popen(
            [python, "-c", _CHILD, json.dumps(handlers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=first.directory,
            # Compiled files would belong to whoever checks, not to the worker's user.
            env={**os.environ, **first.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
            user=person.pw_uid if person else None,
            group=person.pw_gid if person else None,
            extra_groups=os.getgrouplist(person.pw_name, person.pw_gid) if person else None,
        )
    except OSError as error:
        who = f" as {person.pw_name}" if person else ""
        return dict.fromkeys(handlers, (f"{python} cannot be run{who}: {error.strerror}", ""))
    try:
        output, _ = child.communicate(timeout=limit)
        ended = f"the import ended the process (exit {child.returncode})"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        ended = f"the import took longer than {limit:g} s"
    return _read(output, ended)


def _read(output: bytes, ended: str) -> dict[str, tuple[str, str]]:
    """The child's answers; a handler that was begun and not answered gets *ended*."""
    faults: dict[str, tuple[str, str]] = {}
    begun = ""
    for line in output.decode(errors="replace").splitlines():
        handler, message, near = json.loads(line)
        if near is None:
            begun = handler
            continue
        begun = ""
        if message:
            faults[handler] = (" ".join(str(message).split())[:200], str(near))
    if begun:
        faults[begun] = (ended, "")
    return faults
