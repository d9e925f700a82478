"""
The tables and keys of fleet.toml: what may be written, and what editors show about it.

Plain data, so that reading a manifest without a mistake needs no library:
`models.py` makes pydantic models of it for all the others.  Rules that span
keys are in `rules.py`, defaults in `build.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from fleet.manifest.leaves import (
    ANY_TEXT,
    ANYTHING,
    COMMAND,
    ENVIRONMENT,
    FLAG,
    HANDLER,
    HOOKS,
    MOST_PROCESSES,
    NUMPROCS,
    OPTIONS,
    PYTHON,
    QUEUE_NAME,
    SIGNAL,
    SIZE,
    TEXT,
    TEXTS,
    VERSION,
    Leaf,
    choice,
    duration,
    number,
    refuse,
    whole,
)


class Table:
    """A table of fleet.toml: each attribute made by `key` is one of its keys."""

    keys: ClassVar[dict[str, Key]] = {}  # those of the base class first

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Key)}
        cls.keys = {**cls.keys, **own}

    @staticmethod
    def check(table: dict[str, Any]) -> None:
        """Refuse what no single key can see; the values are good ones already."""


@dataclass(frozen=True, slots=True)
class ByName:
    """Tables under names that the writer chooses: [pipelines.NAME]."""

    table: type[Table]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """An array of tables: [[schedules]]."""

    table: type[Table]


Kind: TypeAlias = Leaf | type[Table] | ByName | ArrayOf


@dataclass(frozen=True, slots=True)
class Key:
    kind: Kind
    text: str
    example: object
    default: object  # what holds without it, for the reader of the JSON schema; None: says nothing
    required: bool


def key(kind: Kind, text: str, example: object, default: object = None, *, required: bool = False) -> Any:
    return Key(kind, text, example, default, required)


class SecretTable(Table):
    """Where a secret comes from: one of file, env, credential."""

    file = key(TEXT, "A file with the secret in it", "/etc/fleet/secrets/db")
    env = key(TEXT, "A variable of the worker's environment", "DB_PASSWORD")
    credential = key(TEXT, "A systemd credential: a file in $CREDENTIALS_DIRECTORY", "db")
    optional = key(FLAG, "Without the secret the worker starts all the same", True, False)

    @staticmethod
    def check(table: dict[str, Any]) -> None:
        if len(table.keys() & {"file", "env", "credential"}) != 1:
            refuse(
                "a secret has exactly one of file, env, credential, "
                'such as { file = "/etc/fleet/secrets/db" }'
            )


class QueueTable(Table):
    """Where the jobs live."""

    dsn = key(
        TEXT,
        "Database or queue server, without a password",
        "postgresql://shop@db/shop",
        "sqlite:///.fleet/queue.db",
    )
    password = key(SecretTable, "The DSN's password", {"file": "/etc/fleet/secrets/db"})
    keep_done = key(duration(), "How long finished jobs stay visible", "24h")


class SupervisorTable(Table):
    """A supervisord that is not fleet's own; leave the table out for a private one."""

    url = key(TEXT, "Its XML-RPC server", "unix:///run/supervisor.sock", "unix:///run/supervisor.sock")
    conf_dir = key(
        TEXT, "A folder that it includes *.conf of", "/etc/supervisor/conf.d", "/etc/supervisor/conf.d"
    )
    username = key(TEXT, "The name in [unix_http_server] or [inet_http_server]", "fleet")
    password = key(SecretTable, "The password there", {"file": "/etc/fleet/secrets/supervisor"})


class RetriesTable(Table):
    """How often, and how far apart, a failed job is tried again before it is buried."""

    max = key(whole(0, 10_000), "Tries after the first one", 5, 5)
    first = key(duration(), "Wait before the first retry", "10s", "10s")
    factor = key(number(1, 100), "Each wait is that many times the one before", 2, 2)
    cap = key(duration(), "The longest wait", "1h", "1h")
    jitter = key(FLAG, "Vary each wait, so that many jobs do not come back at once", True, True)


class StopTable(Table):
    """How a process is asked to leave."""

    signal = key(SIGNAL, "The signal that ends it after the job in hand", "TERM", "TERM")
    grace = key(duration(1), "Time until SIGKILL; at least timeout", "90s", "timeout + 30s")
    group = key(FLAG, "Signal its whole process group", True, False)


class RecycleTable(Table):
    """A worker leaves after a job once one of these is reached; supervisord starts the next."""

    jobs = key(whole(1), "Jobs done", 1000)
    age = key(duration(1), "Time since its start", "6h")
    memory = key(SIZE, "Resident memory", "300MB")


class LogsTable(Table):
    """One log file a process, rotated by supervisord."""

    dir = key(TEXT, "Their folder; {project} and {pipeline} may stand in it", "/var/log/fleet", ".fleet/logs")
    max_size = key(SIZE, "Rotate at this size; 0 never rotates", "20MB", "20MB")
    keep = key(whole(0, 1000), "Rotated files to keep", 5, 5)
    format = key(choice("text", "json"), "How a worker writes its lines", "json", "text")
    log_jobs = key(FLAG, "A line for every job", True, False)


class AlertsTable(Table):
    """What turns a row of the dashboard amber or red."""

    oldest = key(duration(), "A ready job has waited this long", "30s")
    buried = key(whole(1), "So many jobs are buried", 1)


class AutoscaleTable(Table):
    """More processes when jobs wait, down to numprocs when they do not."""

    max = key(whole(1, MOST_PROCESSES), "The most processes", 8)
    target_wait = key(duration(), "How long a job may wait", "10s", "10s")
    cooldown = key(duration(), "Time between two changes", "30s", "30s")


class DefaultsTable(Table):
    """Every key here can be repeated in a pipeline."""

    user = key(TEXT, "Who the processes run as", "shop")
    directory = key(
        TEXT, "Working directory; relative paths start at the manifest's folder", "/srv/shop", "."
    )
    python = key(PYTHON, "The interpreter, with fleet installed beside it", "/srv/shop/venv/bin/python")
    numprocs = key(NUMPROCS, "Processes, or { HOST = processes }", 4, 1)
    room = key(
        whole(0, MOST_PROCESSES),
        "Processes that can be added without a restart; 0 renders one plain [program:*]",
        4,
        "as many as numprocs",
    )
    hosts = key(TEXTS, "The hosts of [hosts] that run it", ["web1"], "all")
    timeout = key(duration(0.001), "A handler that runs longer is ended", "60s", "60s")
    ttr = key(duration(1), "How long a job of a dead worker waits (time to run)", "60s", "60s")
    concurrency = key(whole(1, 1000), "Jobs at a time in one process", 4, 1)
    retries = key(RetriesTable, "What happens to a job that failed", {"max": 5, "first": "10s"})
    max_crashes = key(whole(1, 1000), "A job that ends its worker so often is buried", 3, 3)
    stop = key(StopTable, "How a process is asked to leave", {"grace": "90s"})
    recycle = key(RecycleTable, "When a worker makes way for a new one", {"jobs": 1000})
    logs = key(LogsTable, "Log files", {"dir": "/var/log/fleet"})
    hooks = key(
        HOOKS, "Import paths of fleet.Hooks that are called around each handler", ["shop.metrics:Timing"]
    )
    redact = key(TEXTS, "Payload keys that are masked before they are shown or stored", ["password"])
    environment = key(ENVIRONMENT, "Plain variables, visible in the rendered file", {"LANG": "C.UTF-8"})
    secrets = key(
        ByName(SecretTable),
        "Variables that the worker reads when it starts; never rendered",
        {"SMTP_PASSWORD": {"env": "SMTP_PASSWORD"}},
    )
    alerts = key(AlertsTable, "What turns the row amber or red", {"oldest": "30s"})
    rollout = key(
        choice("rolling", "surge"),
        "New settings: drain first, or start the new ones first",
        "surge",
        "rolling",
    )
    autoscale = key(AutoscaleTable, "More processes when jobs wait", {"max": 8})
    supervisor = key(OPTIONS, "Raw options of [program:*], checked by name", {"startsecs": 3})


class PipelineTable(DefaultsTable):
    """A named stream of jobs, and the processes that do them."""

    handler = key(HANDLER, "Import path of a function that takes one Job", "shop.jobs.email:send")
    command = key(
        COMMAND,
        "Any program instead of a handler; {pipeline} and {process} may stand in it",
        "php worker.php",
    )
    queue_name = key(
        QUEUE_NAME, "Its name in the queue, if it is another one", "emails", "the pipeline's name"
    )


class HostTable(Table):
    """A machine that runs some of the pipelines."""

    supervisor = key(TEXT, "Its supervisord", "ssh://deploy@jobs1.internal/run/supervisor.sock")


class ScheduleTable(Table):
    """A job that is put at certain times."""

    name = key(TEXT, "Its name", "daily-report", required=True)
    pipeline = key(TEXT, "Where the job is put", "reports", required=True)
    cron = key(TEXT, "minute hour day month weekday", "0 6 * * 1-5", required=True)
    timezone = key(TEXT, "Whose clock", "Europe/Paris", "UTC")
    payload = key(ANYTHING, "The job's payload", {"kind": "daily"})
    catch_up = key(choice("skip", "once", "all"), "What to do about times that were missed", "once", "skip")


class FileTable(Table):
    """fleet.toml: the pipelines of a project, and where they run."""

    version = key(VERSION, "Of this format", 1, 1)
    project = key(ANY_TEXT, "Prefix of groups, files and logs", "shop", "")
    queue = key(QueueTable, "Where the jobs live", {"dsn": "sqlite:///jobs.db"})
    supervisor = key(SupervisorTable, "Leave out: fleet runs a private supervisord", {"conf_dir": "/etc/…"})
    defaults = key(DefaultsTable, "What every pipeline begins with", {"numprocs": 1})
    hosts = key(ByName(HostTable), "Leave out for a single host", {"web1": {}})
    pipelines = key(ByName(PipelineTable), "The pipelines by name", {"emails": {}})
    schedules = key(ArrayOf(ScheduleTable), "Jobs that are put at certain times", [])


def read(tree: object, kind: Kind = FileTable) -> Any:
    """
    The tables that are written in *tree*, with their values converted.

    Raises:
        Refused: something is wrong; `models.validate` finds all of it and says where.
    """
    if isinstance(kind, Leaf):
        return kind.check(tree)
    if isinstance(kind, ArrayOf):
        return [read(item, kind.table) for item in _a(list, tree)]
    table = _a(dict, tree)
    if isinstance(kind, ByName):
        return {name: read(value, kind.table) for name, value in table.items()}
    if not table.keys() <= kind.keys.keys():
        refuse("an unknown key")
    found = {}
    for name, key in kind.keys.items():
        if name in table:
            found[name] = read(table[name], key.kind)
        elif key.required:
            refuse("a missing key")
    kind.check(found)
    return found


def _a(what: type, value: Any) -> Any:
    return value if isinstance(value, what) else refuse(f"expected a {what.__name__}")


def known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand in the table at *path*; none if it is no table of ours."""
    here: Kind = FileTable
    for part in path:
        if isinstance(here, ByName | ArrayOf):  # part is a name or a number
            here = here.table
        elif isinstance(here, Leaf) or part not in here.keys:
            return []
        else:
            here = here.keys[str(part)].kind
    return list(here.keys) if isinstance(here, type) else []
