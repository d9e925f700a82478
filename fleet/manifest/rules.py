"""The rules that no single value can check: names, raw options, and keys that depend on each other."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fleet.errors import Problem
from fleet.manifest import codes, dsn, hints, leaves, options, shells
from fleet.manifest.positions import Path
from fleet.manifest.source import Source
from fleet.manifest.values import Manifest, Pipeline
from fleet.units import format_duration

MOST_PIPELINES = 5000
_DEFAULTS: Path = ("defaults",)


def names(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """Names that supervisord, a file system or a person would trip over; they are taken out of *tables*."""
    project = tables.get("project", "")
    if project and (fault := _name_fault(project)):
        del tables["project"]
        yield source.problem(codes.BAD_NAME, ("project",), f'project "{project[:60]}": {fault}')
    for kind in ("pipelines", "hosts"):
        for name in [*tables.get(kind, {})]:
            if fault := _name_fault(name):
                del tables[kind][name]
                what = f'{kind[:-1]} "{name[:60]}": {fault}'
                yield source.problem(codes.BAD_NAME, (kind, name), what, at="key")


def _name_fault(name: str) -> str:
    if name == "all":
        return '"all" means every pipeline on the command line'
    if not leaves.NAME.fullmatch(name):
        return "a name has 1 to 48 of A-Z a-z 0-9 _ . - and begins with a letter or digit"
    return ""


def raw_options(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """Check `supervisor = {…}` everywhere; good options become text, the others are taken out."""
    for path, table in _pipeline_tables(tables):
        raw = table.get("supervisor", {})
        for name, value in [*raw.items()]:
            at = (*path, "supervisor", name)
            try:
                raw[name] = options.check(name, value)
                continue
            except KeyError:
                more, hint = hints.of_option(name)
                yield source.problem(codes.UNKNOWN_OPTION, at, f'no option "{name}"{more}', hint, at="key")
            except ValueError as error:
                yield source.problem(codes.WRONG_VALUE, at, f"{name}: {error}, got {leaves.got(value)}")
            del raw[name]


def variables(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """Names and values in environment, and the names of secrets, which become variables too."""
    for path, table in _pipeline_tables(tables):
        for kind in ("environment", "secrets"):
            for name, value in [*table.get(kind, {}).items()]:
                at = (*path, kind, name)
                if fault := leaves.variable_fault(name):
                    yield source.problem(codes.BAD_ENVIRONMENT, at, fault, at="key")
                elif kind == "environment" and (fault := leaves.variable_value_fault(value)):
                    code = codes.BAD_ENVIRONMENT if isinstance(value, str) else codes.WRONG_VALUE
                    yield source.problem(code, at, f"{name}: {fault}")
                else:
                    continue
                del table[kind][name]


def per_host(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """numprocs = { HOST = … } names hosts that there are."""
    for path, table in _pipeline_tables(tables):
        numbers = table.get("numprocs")
        for host in [*numbers] if isinstance(numbers, dict) else ():
            if host not in tables.get("hosts", {}):
                message = f'"{host[:48]}" is not in [hosts]'
                yield source.problem(codes.NO_HOST, (*path, "numprocs", host), message, at="key")


def _pipeline_tables(tables: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    if "defaults" in tables:
        yield _DEFAULTS, tables["defaults"]
    for name, table in tables.get("pipelines", {}).items():
        yield ("pipelines", name), table


def queue(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """The DSN: its form, its password; a relative SQLite path becomes absolute."""
    table = tables.get("queue", {})
    text, path = table.get("dsn"), ("queue", "dsn")
    if text is None:
        return
    try:
        table["dsn"] = dsn.absolute(text, source.base.path.parent)
    except ValueError as error:
        del table["dsn"]
        yield source.problem(codes.WRONG_VALUE, path, str(error))
        return
    if "password" in table and dsn.is_sqlite(text):
        yield source.problem(
            codes.WRONG_VALUE, ("queue", "password"), "a SQLite file has no password", at="key"
        )
    elif "password" in table and dsn.has_password(text):
        message = "the DSN holds a password too: keep one of them"
        yield source.problem(codes.WRONG_VALUE, ("queue", "password"), message, at="key")
    if not dsn.has_password(text):
        return
    written = source.raw(path)
    spot = source.spot(path)
    mode = next((layer.mode for layer in source.layers if layer.name == spot.file), 0)
    if isinstance(written, str) and dsn.has_written_password(written) and mode & 0o004:
        yield source.problem(
            codes.PASSWORD_IN_DSN,
            path,
            "the DSN holds a password and the file is world-readable",
            'move it: password = { file = "…" }, or chmod o-r the file',
        )


def supervisor(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """A password on its way to another host: supervisord has no TLS, and who has it runs anything there."""
    table = tables.get("supervisor", {})
    if "password" not in table:
        return
    urls: dict[Path, str] = {("supervisor", "url"): table.get("url", "")}
    urls |= {
        ("hosts", name, "supervisor"): of.get("supervisor", "")
        for name, of in tables.get("hosts", {}).items()
    }
    for path, url in urls.items():
        if _is_in_clear(url):
            yield source.problem(
                codes.PASSWORD_IN_CLEAR,
                path,
                "the password crosses the network unencrypted",
                "run fleet on that host over unix://, or through an SSH tunnel to 127.0.0.1",
            )


def _is_in_clear(url: str) -> bool:
    """Whether *url* is HTTP to another host; a name other than localhost is taken for one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or "localhost"
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def pipelines(
    manifest: Manifest, tables: dict[str, Any], source: Source, failed: set[Path]
) -> Iterator[Problem]:
    """
    Rules within and between pipelines.

    *failed* holds the paths that were found wrong before: what follows from them is not told again.
    """
    for pipeline in manifest.pipelines.values():
        yield from _one(manifest, pipeline, source, failed)
        yield from _autoscale(pipeline, tables, source, failed)
    yield from _collisions(manifest, source)


def _one(manifest: Manifest, pipeline: Pipeline, source: Source, failed: set[Path]) -> Iterator[Problem]:
    path: Path = ("pipelines", pipeline.name)
    if pipeline.handler is not None and pipeline.command is not None:
        message = "handler and command exclude each other: keep one of them"
        yield source.problem(codes.HANDLER_OR_COMMAND, (*path, "command"), message, at="key")
    elif pipeline.handler is None and pipeline.command is None and not _failed_in(failed, path):
        yield source.problem(
            codes.HANDLER_OR_COMMAND,
            path,
            f"[pipelines.{pipeline.name}] has neither handler nor command",
            'add handler = "package.module:function", or command = "…"',
            at="key",
        )
    if pipeline.command and (sign := shells.syntax_in(pipeline.command)):
        yield source.problem(
            codes.SHELL_SYNTAX,
            (*path, "command"),
            f'no shell reads the command: "{sign[:20]}" is an argument of its program',
            "write sh -c '… exec PROGRAM' around it, or quote the argument",
        )
    grace, timeout = pipeline.stop.grace, pipeline.timeout
    if grace < timeout and pipeline.handler is not None:
        yield source.problem(
            codes.SHORT_GRACE,
            (*path, "stop", "grace"),
            f"stop.grace ({format_duration(grace)}) is shorter than timeout "
            f"({format_duration(timeout)}): a restart kills jobs",
            f'make it at least "{format_duration(timeout)}"',
            at="key",
        )
    both = sorted(pipeline.environment.keys() & pipeline.secrets.keys())
    if both:
        message = f"{both[0]} is in environment too: a variable has one value"
        yield source.problem(codes.BAD_ENVIRONMENT, (*path, "secrets", both[0]), message, at="key")
    yield from _raw_against_layout(pipeline, source, path)
    for host in pipeline.hosts:
        if host not in manifest.hosts and not any(p[:1] == ("hosts",) for p in failed):
            message = f'"{host}" is not in [hosts]'
            yield source.problem(codes.NO_HOST, (*path, "hosts"), message)


def _autoscale(
    pipeline: Pipeline, tables: dict[str, Any], source: Source, failed: set[Path]
) -> Iterator[Problem]:
    path: Path = ("pipelines", pipeline.name, "autoscale")
    if pipeline.autoscale is None:
        written = "autoscale" in {**tables.get("defaults", {}), **tables["pipelines"][pipeline.name]}
        if written and not any(p[-2:] == ("autoscale", "max") for p in failed):
            message = "autoscale lacks the key max, the most processes"
            yield source.problem(codes.WRONG_VALUE, path, message, at="key")
    elif pipeline.autoscale.max < pipeline.numprocs:
        message = f"autoscale.max ({pipeline.autoscale.max}) is below numprocs ({pipeline.numprocs})"
        yield source.problem(codes.WRONG_VALUE, (*path, "max"), message)


def _raw_against_layout(pipeline: Pipeline, source: Source, path: Path) -> Iterator[Problem]:
    """What the raw options ask for must fit the number of processes."""
    raw = pipeline.supervisor
    several = pipeline.numprocs + pipeline.room > 1
    name = raw.get("process_name", "")
    if name and pipeline.room:
        message = "process_name needs room = 0: with room, fleet counts the processes of a group itself"
        yield source.problem(codes.WRONG_VALUE, (*path, "supervisor", "process_name"), message, at="key")
    elif name and several and not options.is_numbered(name):
        message = "process_name must hold %(process_num)02d when there are several processes"
        yield source.problem(codes.WRONG_VALUE, (*path, "supervisor", "process_name"), message)
    for option in ("stdout_logfile", "stderr_logfile"):
        file = raw.get(option, "")
        if several and file.startswith("/") and not options.is_numbered(file):
            yield source.problem(
                codes.SHARED_LOG,
                (*path, "supervisor", option),
                f"{option} is shared by {pipeline.numprocs + pipeline.room} processes: "
                "supervisord cannot rotate a shared file",
                "put %(process_num)02d into its name",
            )


def _collisions(manifest: Manifest, source: Source) -> Iterator[Problem]:
    """Groups are told apart by people and file systems that may not see case; a log file has one owner."""
    taken: dict[str, str] = {}
    for pipeline in manifest.pipelines.values():
        claims = [f"group {pipeline.group}".casefold()]
        if pipeline.room:
            claims.append(f"group {pipeline.group}-burst".casefold())
        claims += [f"log file {file}" for file in _log_files(pipeline)]
        for claim in claims:
            other = taken.setdefault(claim, pipeline.name)
            if other != pipeline.name:
                yield source.problem(
                    codes.COLLISION,
                    ("pipelines", pipeline.name),
                    f'pipelines "{pipeline.name}" and "{other}" would both have {claim}',
                    "rename one of them" if claim.startswith("group") else "give one of them another file",
                    at="key",
                )
                break


def _log_files(pipeline: Pipeline) -> set[str]:
    raw = pipeline.supervisor
    chosen = [raw.get("stdout_logfile", ""), raw.get("stderr_logfile", "")]
    return {
        file.replace("%(program_name)s", pipeline.group).replace("%(group_name)s", pipeline.group)
        for file in chosen
        if file.startswith("/") and file != "/dev/null" and not file.startswith("/dev/std")
    }


def _failed_in(failed: set[Path], path: Path) -> bool:
    """Whether handler or command was found wrong before, perhaps under a misspelt name."""
    wrong = [p for p in failed if p[:2] == path]
    return any(len(p) == 2 or (len(p) == 3 and hints.names_work(str(p[2]))) for p in wrong)


def whole_file(tables: dict[str, Any], source: Source, several_hosts: bool) -> Iterator[Problem]:
    """Rules about the manifest as a whole."""
    count = len(tables.get("pipelines", {}))
    if count > MOST_PIPELINES:
        yield source.problem(
            codes.NO_PIPELINES,
            ("pipelines",),
            f"{count} pipelines; at most {MOST_PIPELINES} fit into one manifest",
            "split it into projects",
            at="key",
        )
    if several_hosts and dsn.is_sqlite(str(tables.get("queue", {}).get("dsn", "sqlite:"))):
        message = "a SQLite file cannot be shared by several hosts"
        path: Path = ("queue", "dsn") if source.has(("queue", "dsn")) else ("hosts",)
        hint = "use postgresql://, mysql:// or beanstalkd://"
        yield source.problem(codes.SHARED_SQLITE, path, message, hint)
    yield from _later(tables, source)


def _later(tables: dict[str, Any], source: Source) -> Iterator[Problem]:
    """Keys that are part of the format already: they are checked, and said to do nothing yet."""
    found: dict[str, Path] = {}
    if tables.get("schedules"):
        found["schedules are checked but not run"] = ("schedules",)
    if "keep_done" in tables.get("queue", {}):
        found["keep_done is checked but not acted on"] = ("queue", "keep_done")
    for path, table in _pipeline_tables(tables):
        if "autoscale" in table:
            found.setdefault("autoscale sets the room and nothing else", (*path, "autoscale"))
    for what, path in found.items():
        yield source.problem(codes.LATER, path, f"{what} in this version", at="key")
