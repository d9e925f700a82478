"""load(): a path to a Manifest, or every problem in it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from fleet.errors import Problem
from fleet.manifest import codes, hints, rules, schedules, schema
from fleet.manifest.build import build
from fleet.manifest.interpolate import Unset, expand
from fleet.manifest.leaves import Refused, got
from fleet.manifest.positions import Path
from fleet.manifest.source import Source, ordered, read
from fleet.manifest.values import Manifest

_TABLE_TYPES = ("model_type", "dict_type", "model_attributes_type")


def load(
    path: str | FilePath,
    env: str | None = None,
    environ: Mapping[str, str] = os.environ,
    host: str | None = None,
) -> Manifest:
    """
    Read the manifest at *path*, with the overlay of *env* over it.

    It reads files and nothing else: whether users, directories and programs
    exist on this machine is asked by `fleet.manifest.machine`.  *host* is
    which of [hosts] this is, by default $FLEET_HOST or the machine's name.

    Raises:
        ManifestError: with every problem found.
    """
    source = read(FilePath(path), env)
    tree, unset = _expanded(source, {**source.dotenv, **environ})
    tables, errors = _checked(tree)
    problems = [*unset.values()]
    problems += (_translated(error, source) for error in errors if error["loc"] not in unset)
    failed: set[Path] = {*unset, *(error["loc"] for error in errors)}
    written = [*tables.get("pipelines", {})]

    problems += rules.names(tables, source)
    problems += rules.raw_options(tables, source)
    problems += rules.variables(tables, source)
    problems += rules.queue(tables, source)
    problems += rules.supervisor(tables, source)
    problems += rules.per_host(tables, source)
    problems += rules.whole_file(tables, source, len(tables.get("hosts", {})) > 1)
    if not written and not any(len(f) < 3 and f[:1] in ((), ("pipelines",)) for f in failed):
        problems.append(_no_pipelines(source))

    here, fault = _host(tables, source, host or environ.get("FLEET_HOST"))
    problems += fault
    everything = build(tables, source, None)
    problems += rules.pipelines(everything, tables, source, failed)
    if everything.schedules:
        wrong = {error["loc"][1] for error in errors if error["loc"][:1] == ("schedules",)}
        numbers = [i for i in range(len(tree["schedules"])) if i not in wrong]
        problems += schedules.rules(everything, source, numbers, set(written))

    if any(not problem.is_warning for problem in problems):
        raise source.error(problems)
    manifest = build(tables, source, here) if here else everything
    return replace(manifest, warnings=ordered(problems, source))


def _expanded(source: Source, environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Path, Problem]]:
    """All tables with ${VARIABLES} put in; a key whose variable is unset is left out, with its problem."""
    problems: dict[Path, Problem] = {}

    def walk(value: Any, path: Path) -> Any:
        if path[:1] == ("schedules",) and path[2:] == ("payload",):
            return value  # data for a job: its dollar signs are its own
        if isinstance(value, dict):
            pairs = ((k, walk(v, (*path, k))) for k, v in value.items())
            return {k: v for k, v in pairs if v is not _GONE}
        if isinstance(value, list):
            items = (walk(v, (*path, i)) for i, v in enumerate(value))
            return [v for v in items if v is not _GONE]
        if not isinstance(value, str):
            return value
        try:
            return expand(value, environ)
        except Unset as error:
            hint = f"export it, or give a default: ${{{str(error).split()[0][1:]}:-…}}"
            problems[path] = source.problem(codes.UNSET_VARIABLE, path, str(error), hint)
        except ValueError as error:
            problems[path] = source.problem(codes.UNSET_VARIABLE, path, str(error))
        return _GONE

    return walk(source.tables(), ()), problems


_GONE = object()


def _checked(tree: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tables and what is wrong in them; pydantic (0.1 s to import) is asked only if something is."""
    try:
        return schema.read(tree), []
    except Refused:
        from fleet.manifest import models

        return models.validate(tree)


def _translated(error: Mapping[str, Any], source: Source) -> Problem:
    """pydantic's error in our words, at its place."""
    path: Path = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        name, table = str(path[-1]), path[:-1]
        more, hint = hints.of_key(name, table)
        where = f" in {hints.table_name(table)}" if not more else ""
        return source.problem(
            codes.UNKNOWN_KEY, path, f'unknown key "{name[:60]}"{where}{more}', hint, at="key"
        )
    if kind == "missing":
        message = f'{hints.table_name(path[:-1])} lacks the key "{path[-1]}"'
        return source.problem(codes.WRONG_VALUE, path[:-1], message, at="key")
    if kind in _TABLE_TYPES:
        what = hints.table_name(path)
        return source.problem(codes.WRONG_VALUE, path, f"expected a table {what}, got {got(error['input'])}")
    if kind == "list_type":
        what = f"an array of tables [[{path[-1]}]]"
        return source.problem(codes.WRONG_VALUE, path, f"expected {what}, got {got(error['input'])}")
    code = kind if kind in codes.MEANING else codes.WRONG_VALUE
    name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
    message = str(error["msg"])
    if "$" in str(source.raw(path)):
        message = message.replace(". Take off the quotes:", "; a ${VARIABLE} gives text, never a number:")
    return source.problem(code, path, f"{name}: {message}")


def _no_pipelines(source: Source) -> Problem:
    base = source.base
    what = "the file is empty" if not base.text.strip() else "no pipelines"
    return Problem(
        code=codes.NO_PIPELINES,
        message=f"{what}: nothing to run",
        hint='add [pipelines.NAME] with handler = "package.module:function"',
        file=base.name,
    )


def _host(tables: dict[str, Any], source: Source, chosen: str | None) -> tuple[str | None, Iterator[Problem]]:
    """Which of [hosts] this is; None when there are none."""
    hosts = tables.get("hosts", {})
    if not hosts:
        return None, iter(())
    name = chosen or os.uname().nodename
    if chosen is None and name not in hosts:
        name = name.partition(".")[0]
    if name in hosts:
        return name, iter(())
    message = f'this machine ("{name}") is none of the hosts'
    hint = f"set FLEET_HOST to one of {', '.join([*hosts][:8])}"
    return None, iter([source.problem(codes.NO_HOST, ("hosts",), message, hint, at="key")])
