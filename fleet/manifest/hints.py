"""What somebody meant who wrote a key that fleet does not know."""

from __future__ import annotations

from difflib import get_close_matches

from fleet.manifest import options, schema

# Words of supervisord, of other tools, and likely guesses: what they are in fleet.toml.
_ELSEWHERE = {
    "attempts": "retries.max = 5",
    "backoff": 'retries.first = "10s"',
    "cmd": 'command = "…"',
    "count": "numprocs = 2",
    "cwd": 'directory = "…"',
    "env": 'environment = { NAME = "…" }',
    "exec": 'command = "…"',
    "instances": "numprocs = 2",
    "killasgroup": "always true, so there is no key",
    "lease": 'ttr = "60s"',
    "max_retries": "retries.max = 5",
    "memory_limit": 'recycle.memory = "300MB"',
    "procs": "numprocs = 2",
    "processes": "numprocs = 2",
    "program": 'command = "…"',
    "queue": 'queue_name = "…"',
    "replicas": "numprocs = 2",
    "stdout_logfile_backups": "logs.keep = 5",
    "stdout_logfile_maxbytes": 'logs.max_size = "20MB"',
    "stopasgroup": "stop.group = true",
    "stopsignal": 'stop.signal = "TERM"',
    "stopwaitsecs": 'stop.grace = "90s"',
    "threads": "concurrency = 4",
    "time_to_run": 'ttr = "60s"',
    "tries": "retries.max = 5",
    "tube": 'queue_name = "…"',
    "visibility_timeout": 'ttr = "60s"',
    "workers": "numprocs = 2",
    "working_directory": 'directory = "…"',
    "workdir": 'directory = "…"',
}
_TABLES = {
    "pipeline": "[pipelines.NAME]",
    "program": "[pipelines.NAME]",
    "programs": "[pipelines.NAME]",
    "default": "[defaults]",
    "host": "[hosts.NAME]",
    "schedule": "[[schedules]]",
    "database": '[queue] dsn = "…"',
    "dsn": '[queue] dsn = "…"',
}


def of_key(name: str, table: tuple[str | int, ...]) -> tuple[str, str]:
    """
    What to add to "unknown key NAME", and the hint below it; either may be "".

    *table* is the path of the table that the key stands in.
    """
    in_pipeline = table[:1] in (("pipelines",), ("defaults",))
    known = schema.known_keys(table)
    if in_pipeline and len(table) <= 2:
        if meant := _ELSEWHERE.get(name):
            return f": in fleet.toml it is {meant}", ""
        if name in options.names():
            return f": it is an option of supervisord; write supervisor = {{ {name} = … }}", ""
    if not table and name in _TABLES:
        return f": in fleet.toml it is {_TABLES[name]}", ""
    if table and name in schema.known_keys(()):
        alone = name in ("version", "project")
        return ": it stands above the first table" if alone else f": it is a table of its own, [{name}]", ""
    if close := get_close_matches(name.lower(), known, n=1, cutoff=0.75):
        return "", f'did you mean "{close[0]}"?'
    if not table and name in schema.known_keys(("pipelines", "")):
        return ": it belongs into [pipelines.NAME] or [defaults]", ""
    for inner in known:  # "grace" for stop.grace
        if name in schema.known_keys((*table, inner)) and inner not in ("pipelines", "hosts"):
            return f": in fleet.toml it is {inner}.{name}", ""
    if table[:1] == ("defaults",) and name in schema.known_keys(("pipelines", "")):
        return ": it belongs into a pipeline, not into [defaults]", ""
    if close := get_close_matches(name.lower(), known, n=1, cutoff=0.5):
        return "", f'did you mean "{close[0]}"?'
    return "", f"known here: {', '.join(known)}"


def names_work(name: str) -> bool:
    """Whether somebody who wrote this key meant handler or command."""
    meant = get_close_matches(name.lower(), ["handler", "command"], n=1, cutoff=0.5)
    return bool(meant) or "command" in _ELSEWHERE.get(name, "")


def of_option(name: str) -> tuple[str, str]:
    """The same for a raw option in `supervisor = {…}`."""
    if name in options.ELSEWHERE:
        return f": {options.ELSEWHERE[name]}", ""
    if close := get_close_matches(name.lower(), [*options.names(), *options.ELSEWHERE], n=1):
        return "", f'did you mean "{close[0]}"?'
    return "", "the options are those of [program:x] in supervisord's manual"


def table_name(path: tuple[str | int, ...]) -> str:
    """A table as its header is written: [pipelines.emails], or "the top level"."""
    if not path:
        return "the top level"
    if isinstance(path[-1], int):
        return f"[[{'.'.join(str(p) for p in path[:-1])}]]"
    return f"[{'.'.join(str(p) for p in path if not isinstance(p, int))}]"
