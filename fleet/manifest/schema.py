"""
The tables and keys of fleet.toml: what may be written, and what editors show about it.

With `leaves.py` the only door to pydantic.  Rules that span keys are in
`rules.py`, defaults in `build.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet.manifest.leaves import (
    ANY_TEXT,
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
    choice,
    duration,
    number,
    refuse,
    whole,
)

Text = Annotated[str, TEXT]
Flag = Annotated[bool, FLAG]
Size = Annotated[int, SIZE]
Seconds = Annotated[float, duration()]
SomeSeconds = Annotated[float, duration(1)]
Count = Annotated[int, whole(1)]
Texts = Annotated[list[str], TEXTS]


def key(text: str, example: object, default: object = None) -> Any:
    """A key that may be left out; *default* is what holds then, for the reader of the schema."""
    extra: Any = {} if default is None else {"default": default}
    return Field(default=None, description=text, examples=[example], json_schema_extra=extra)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SecretTable(Table):
    """Where a secret comes from: one of file, env, credential."""

    file: Text | None = key("A file with the secret in it", "/etc/fleet/secrets/db")
    env: Text | None = key("A variable of the worker's environment", "DB_PASSWORD")
    credential: Text | None = key("A systemd credential: a file in $CREDENTIALS_DIRECTORY", "db")
    optional: Flag | None = key("Without the secret the worker starts all the same", True, False)

    @model_validator(mode="after")
    def _one_source(self) -> SecretTable:
        if sum(x is not None for x in (self.file, self.env, self.credential)) != 1:
            refuse(
                "a secret has exactly one of file, env, credential, "
                'such as { file = "/etc/fleet/secrets/db" }'
            )
        return self


class QueueTable(Table):
    """Where the jobs live."""

    dsn: Text | None = key(
        "Database or queue server, without a password",
        "postgresql://shop@db/shop",
        "sqlite:///.fleet/queue.db",
    )
    password: SecretTable | None = key("The DSN's password", {"file": "/etc/fleet/secrets/db"})
    keep_done: Seconds | None = key("How long finished jobs stay visible", "24h")


class SupervisorTable(Table):
    """A supervisord that is not fleet's own; leave the table out for a private one."""

    url: Text | None = key("Its XML-RPC server", "unix:///run/supervisor.sock", "unix:///run/supervisor.sock")
    conf_dir: Text | None = key(
        "A folder that it includes *.conf of", "/etc/supervisor/conf.d", "/etc/supervisor/conf.d"
    )
    username: Text | None = key("The name in [unix_http_server] or [inet_http_server]", "fleet")
    password: SecretTable | None = key("The password there", {"file": "/etc/fleet/secrets/supervisor"})


class RetriesTable(Table):
    """How often, and how far apart, a failed job is tried again before it is buried."""

    max: Annotated[int, whole(0, 10_000)] | None = key("Tries after the first one", 5, 5)
    first: Seconds | None = key("Wait before the first retry", "10s", "10s")
    factor: Annotated[float, number(1, 100)] | None = key("Each wait is that many times the one before", 2, 2)
    cap: Seconds | None = key("The longest wait", "1h", "1h")
    jitter: Flag | None = key("Vary each wait, so that many jobs do not come back at once", True, True)


class StopTable(Table):
    """How a process is asked to leave."""

    signal: Annotated[str, SIGNAL] | None = key(
        "The signal that ends it after the job in hand", "TERM", "TERM"
    )
    grace: SomeSeconds | None = key("Time until SIGKILL; at least timeout", "90s", "timeout + 30s")
    group: Flag | None = key("Signal its whole process group", True, False)


class RecycleTable(Table):
    """A worker leaves after a job once one of these is reached; supervisord starts the next."""

    jobs: Count | None = key("Jobs done", 1000)
    age: SomeSeconds | None = key("Time since its start", "6h")
    memory: Size | None = key("Resident memory", "300MB")


class LogsTable(Table):
    """One log file a process, rotated by supervisord."""

    dir: Text | None = key(
        "Their folder; {project} and {pipeline} may stand in it", "/var/log/fleet", ".fleet/logs"
    )
    max_size: Size | None = key("Rotate at this size; 0 never rotates", "20MB", "20MB")
    keep: Annotated[int, whole(0, 1000)] | None = key("Rotated files to keep", 5, 5)
    format: Annotated[Literal["text", "json"], choice("text", "json")] | None = key(
        "How a worker writes its lines", "json", "text"
    )
    log_jobs: Flag | None = key("A line for every job", True, False)


class AlertsTable(Table):
    """What turns a row of the dashboard amber or red."""

    oldest: Seconds | None = key("A ready job has waited this long", "30s")
    buried: Count | None = key("So many jobs are buried", 1)


class AutoscaleTable(Table):
    """More processes when jobs wait, down to numprocs when they do not."""

    max: Annotated[int, whole(1, MOST_PROCESSES)] | None = key("The most processes", 8)
    target_wait: Seconds | None = key("How long a job may wait", "10s", "10s")
    cooldown: Seconds | None = key("Time between two changes", "30s", "30s")


class DefaultsTable(Table):
    """Every key here can be repeated in a pipeline."""

    user: Text | None = key("Who the processes run as", "shop")
    directory: Text | None = key(
        "Working directory; relative paths start at the manifest's folder", "/srv/shop", "."
    )
    python: Annotated[str, PYTHON] | None = key(
        "The interpreter, with fleet installed beside it", "/srv/shop/venv/bin/python"
    )
    numprocs: Annotated[int | dict[str, int], NUMPROCS] | None = key(
        "Processes, or { HOST = processes }", 4, 1
    )
    room: Annotated[int, whole(0, MOST_PROCESSES)] | None = key(
        "Processes that can be added without a restart; 0 renders one plain [program:*]",
        4,
        "as many as numprocs",
    )
    hosts: Texts | None = key("The hosts of [hosts] that run it", ["web1"], "all")
    timeout: Annotated[float, duration(0.001)] | None = key(
        "A handler that runs longer is ended", "60s", "60s"
    )
    ttr: SomeSeconds | None = key("How long a job of a dead worker waits (time to run)", "60s", "60s")
    concurrency: Annotated[int, whole(1, 1000)] | None = key("Jobs at a time in one process", 4, 1)
    retries: RetriesTable | None = key("What happens to a job that failed", {"max": 5, "first": "10s"})
    max_crashes: Annotated[int, whole(1, 1000)] | None = key(
        "A job that ends its worker so often is buried", 3, 3
    )
    stop: StopTable | None = key("How a process is asked to leave", {"grace": "90s"})
    recycle: RecycleTable | None = key("When a worker makes way for a new one", {"jobs": 1000})
    logs: LogsTable | None = key("Log files", {"dir": "/var/log/fleet"})
    hooks: Annotated[list[str], HOOKS] | None = key(
        "Import paths of fleet.Hooks that are called around each handler", ["shop.metrics:Timing"]
    )
    redact: Texts | None = key("Payload keys that are masked before they are shown or stored", ["password"])
    environment: Annotated[dict[str, str], ENVIRONMENT] | None = key(
        "Plain variables, visible in the rendered file", {"LANG": "C.UTF-8"}
    )
    secrets: dict[str, SecretTable] | None = key(
        "Variables that the worker reads when it starts; never rendered",
        {"SMTP_PASSWORD": {"env": "SMTP_PASSWORD"}},
    )
    alerts: AlertsTable | None = key("What turns the row amber or red", {"oldest": "30s"})
    rollout: Annotated[Literal["rolling", "surge"], choice("rolling", "surge")] | None = key(
        "New settings: drain first, or start the new ones first", "surge", "rolling"
    )
    autoscale: AutoscaleTable | None = key("More processes when jobs wait", {"max": 8})
    supervisor: Annotated[dict[str, Any], OPTIONS] | None = key(
        "Raw options of [program:*], checked by name", {"startsecs": 3}
    )


class PipelineTable(DefaultsTable):
    """A named stream of jobs, and the processes that do them."""

    handler: Annotated[str, HANDLER] | None = key(
        "Import path of a function that takes one Job", "shop.jobs.email:send"
    )
    command: Annotated[str, COMMAND] | None = key(
        "Any program instead of a handler; {pipeline} and {process} may stand in it", "php worker.php"
    )
    queue_name: Annotated[str, QUEUE_NAME] | None = key(
        "Its name in the queue, if it is another one", "emails", "the pipeline's name"
    )


class HostTable(Table):
    """A machine that runs some of the pipelines."""

    supervisor: Text | None = key("Its supervisord", "ssh://deploy@jobs1.internal/run/supervisor.sock")


class ScheduleTable(Table):
    """A job that is put at certain times."""

    name: Text = Field(description="Its name", examples=["daily-report"])
    pipeline: Text = Field(description="Where the job is put", examples=["reports"])
    cron: Text = Field(description="minute hour day month weekday", examples=["0 6 * * 1-5"])
    timezone: Text | None = key("Whose clock", "Europe/Paris", "UTC")
    payload: Any = key("The job's payload", {"kind": "daily"})
    catch_up: Annotated[Literal["skip", "once", "all"], choice("skip", "once", "all")] | None = key(
        "What to do about times that were missed", "once", "skip"
    )


class FileTable(Table):
    """fleet.toml: the pipelines of a project, and where they run."""

    version: Annotated[int, VERSION] | None = key("Of this format", 1, 1)
    project: Annotated[str, ANY_TEXT] | None = key("Prefix of groups, files and logs", "shop", "")
    queue: QueueTable | None = key("Where the jobs live", {"dsn": "sqlite:///jobs.db"})
    supervisor: SupervisorTable | None = key(
        "Leave out: fleet runs a private supervisord", {"conf_dir": "/etc/…"}
    )
    defaults: DefaultsTable | None = key("What every pipeline begins with", {"numprocs": 1})
    hosts: dict[str, HostTable] | None = key("Leave out for a single host", {"web1": {}})
    pipelines: dict[str, PipelineTable] | None = key("The pipelines by name", {"emails": {}})
    schedules: list[ScheduleTable] | None = key("Jobs that are put at certain times", [])


def validate(tree: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    The tables that are written in *tree*, their values converted, and pydantic's errors.

    A key with an error is left out of the result, so that the rules can go on.
    """
    found: list[dict[str, Any]] = []
    while True:
        try:
            return FileTable.model_validate(tree).model_dump(exclude_unset=True), found
        except ValidationError as error:
            errors = error.errors(include_url=False)
            found += errors  # type: ignore[arg-type]  # a TypedDict is a dict
            wrong = [e["loc"][:-1] if e["type"] == "missing" else e["loc"] for e in errors]
            smaller = _without(tree, wrong)
            if smaller == tree:  # an error without a place: nothing is left to check
                return {}, found
            tree = smaller


def _without(tree: Any, paths: list[tuple[Any, ...]]) -> Any:
    """A copy of *tree* without the items at *paths*; an array loses the whole of a bad item."""
    gone = {path[0] for path in paths if len(path) == 1}
    below: dict[Any, list[tuple[Any, ...]]] = {}
    for path in paths:
        if len(path) > 1 and path[0] not in gone:
            below.setdefault(path[0], []).append(path[1:])
    if isinstance(tree, dict):
        return {k: _without(v, below[k]) if k in below else v for k, v in tree.items() if k not in gone}
    if isinstance(tree, list):
        return [item for i, item in enumerate(tree) if i not in gone and i not in below]
    return {}


def known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand in the table at *path*; none if it is no table of ours."""
    here: Any = FileTable
    for part in path:
        if isinstance(here, type) and issubclass(here, Table):
            field = here.model_fields.get(str(part))
            here = (
                next((a for a in get_args(field.annotation) if a is not type(None)), None) if field else None
            )
        else:  # dict[str, Table] or list[Table]: part is a name or a number
            here = (*get_args(here), None)[-2] if get_args(here) else None
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, Table) else []


def json_schema() -> dict[str, Any]:
    """The JSON schema of fleet.toml in the words of draft 4, which is where Taplo stops."""
    made = _draft_4(FileTable.model_json_schema(ref_template="#/definitions/{model}"))
    definitions = made.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "fleet.toml",
        **{name: value for name, value in made.items() if name != "title"},
        "definitions": definitions,
    }


def _draft_4(node: Any) -> Any:
    """Without null, which TOML lacks, and with an enum for every const."""
    if isinstance(node, list):
        return [_draft_4(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: _draft_4(value) for name, value in node.items()}
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("title"), str):
        del node["title"]  # the key's name, capitalised: says nothing
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        del node["anyOf"]
        if len(rest) > 1:
            node["anyOf"] = rest
        elif "$ref" in rest[0]:  # draft 4 reads nothing that stands beside a $ref
            node["allOf"] = rest
        else:
            node = {**node, **rest[0]}
    if node.get("default", 0) is None:
        del node["default"]
    return node
