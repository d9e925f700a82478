"""The worker spec: the JSON that `fleet render` wrote, as one frozen value, and the secrets it names."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import FleetError
from fleet.worker.outcome import Policy

SCHEMA = "fleet.worker/1"
_REQUIRED: Any = object()


class SpecError(FleetError):
    """A worker spec, or a secret that it names, that cannot be used."""

    exit_code = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """Where a secret is read from, when the worker starts; exactly one of the three is set."""

    file: str | None = None
    env: str | None = None
    credential: str | None = None  # systemd: $CREDENTIALS_DIRECTORY/NAME
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """When a worker leaves so that a fresh one starts; None: never for that cause."""

    jobs: int | None = None
    age: float | None = None  # seconds
    memory: int | None = None  # bytes in RAM


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What one worker process is to do.  Durations are seconds."""

    pipeline: str  # its name in the manifest
    queue_name: str  # the pipeline it reserves from
    dsn: str = ""  # without a password
    password: SecretRef | None = None
    project: str = ""
    handler: str = ""  # import path, "shop.jobs.email:send"
    hooks: tuple[str, ...] = ()  # import paths of `Hooks`
    command: str = ""  # for --exec
    directory: str = ""
    path: tuple[str, ...] = ()  # in front of sys.path
    timeout: float = 60.0
    concurrency: int = 1
    policy: Policy = field(default_factory=Policy)
    grace: float = 90.0  # how long the jobs in hand may take after SIGTERM
    recycle: Recycle = field(default_factory=Recycle)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    log_format: str = "text"  # or "json"
    log_jobs: bool = False
    startsecs: float = 1.0  # supervisord takes an earlier exit for a failed start
    revision: str = ""
    run_dir: str = ""


def load(path: str) -> WorkerSpec:
    """
    Read a spec file.

    Raises:
        SpecError: it cannot be read, or does not say what a worker needs.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}. `fleet render` writes this file.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8") from error
    try:
        return parse(json.loads(text))
    except ValueError as error:
        raise SpecError(f"{path}: not JSON: {error}") from error
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def parse(data: Any) -> WorkerSpec:
    """
    Check a decoded spec.

    Raises:
        SpecError: naming the key, what was expected and what it holds.
    """
    top = _Table(data, "")
    schema = top.text("schema", _REQUIRED)
    if schema != SCHEMA:
        raise SpecError(
            f"schema: this fleet reads {SCHEMA!r}, the file says {schema!r}. "
            "Render it again with the fleet that runs the workers."
        )
    queue, retries, recycle, logs = (top.table(name) for name in ("queue", "retries", "recycle", "logs"))
    pipeline = top.text("pipeline", _REQUIRED)
    return WorkerSpec(
        pipeline=pipeline,
        queue_name=top.text("queue_name", "") or pipeline,
        dsn=queue.text("dsn", ""),
        password=_secret(queue, "password") if queue.has("password") else None,
        project=top.text("project", ""),
        handler=top.text("handler", ""),
        hooks=top.texts("hooks"),
        command=top.text("command", ""),
        directory=top.text("directory", ""),
        path=top.texts("path"),
        timeout=top.number("timeout", 60.0, above=0),
        concurrency=int(top.number("concurrency", 1, least=1)),
        policy=Policy(
            max=int(retries.number("max", 5)),
            first=retries.number("first", 10.0),
            factor=retries.number("factor", 2.0),
            cap=retries.number("cap", 3600.0),
            jitter=retries.flag("jitter", True),
            max_crashes=int(top.number("max_crashes", 3, least=1)),
            redact=top.texts("redact"),
        ),
        grace=top.number("grace", 90.0),
        recycle=Recycle(
            jobs=int(recycle.number("jobs", 0)) or None,
            age=recycle.number("age", 0) or None,
            memory=int(recycle.number("memory", 0)) or None,
        ),
        environment=top.table("environment").strings(),
        secrets={name: _secret(top.table("secrets"), name) for name in top.table("secrets").names()},
        log_format=logs.text("format", "text"),
        log_jobs=logs.flag("log_jobs", False),
        startsecs=top.number("startsecs", 1.0),
        revision=top.text("revision", ""),
        run_dir=top.text("run_dir", ""),
    )


def prepare(spec: WorkerSpec) -> None:
    """
    Make this process what the spec says: directory, import path, environment, secrets.

    Raises:
        SpecError: the directory or a secret is missing or unsafe.
    """
    if spec.directory:
        try:
            os.chdir(spec.directory)
        except OSError as error:
            raise SpecError(f"directory {spec.directory}: {error.strerror}") from error
    if spec.secrets or spec.password is not None:
        _leave_no_core()
    sys.path[:0] = spec.path or ([spec.directory] if spec.directory else [])
    values = {name: read_secret(name, ref) for name, ref in spec.secrets.items()}
    os.environ.update(spec.environment)
    os.environ.update({name: value for name, value in values.items() if value is not None})
    os.environ["FLEET_PIPELINE"] = spec.queue_name
    for name, value in (("FLEET_PROJECT", spec.project), ("FLEET_REVISION", spec.revision)):
        if value:
            os.environ.setdefault(name, value)


def _leave_no_core() -> None:
    """A core file would hold the secrets; a handler that wants one may raise the limit again."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def queue_dsn(spec: WorkerSpec) -> str:
    """
    The DSN with its password in it: for `connect`, never for a log.

    Raises:
        SpecError: no DSN, or the password cannot be read.
    """
    dsn = spec.dsn or os.environ.get("FLEET_DSN", "")
    if not dsn:
        raise SpecError("queue.dsn: missing, and FLEET_DSN is not set")
    if spec.password is None:
        return dsn
    password = read_secret("queue.password", spec.password)
    if password is None:
        return dsn
    from urllib.parse import quote  # only servers have passwords, and only they pay for this

    scheme, _, rest = dsn.partition("://")
    authority, slash, tail = rest.partition("/")
    login, _, host = authority.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}{slash}{tail}"


def read_secret(name: str, ref: SecretRef, environ: Mapping[str, str] = os.environ) -> str | None:
    """
    The value, without its last newline; None when an optional one is missing.

    Raises:
        SpecError: missing, empty, or a file that others may read.
    """
    value: str | None
    if ref.env is not None:
        value, where = environ.get(ref.env), f"environment variable {ref.env}"
    elif ref.credential is not None:
        folder = environ.get("CREDENTIALS_DIRECTORY", "")
        where = f"systemd credential {ref.credential}"
        value = _read_private(f"{folder}/{ref.credential}", name) if folder else None
    else:
        where = f"file {ref.file}"
        value = _read_private(ref.file or "", name)
    if value:
        return value
    if ref.optional:
        return None
    raise SpecError(f"secret {name}: {where} is {'empty' if value == '' else 'not there'}")


def _read_private(path: str, name: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o026:
                raise SpecError(f"secret {name}: others may read or write {path}. Run: chmod o=,g-w {path}")
            return file.read().removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise SpecError(f"secret {name}: file {path} is not UTF-8 text") from error
    except OSError as error:
        raise SpecError(f"secret {name}: file {path}: {error.strerror}") from error


def _secret(table: _Table, name: str) -> SecretRef:
    inner = table.table(name)
    ref = SecretRef(
        file=inner.text("file", "") or None,
        env=inner.text("env", "") or None,
        credential=inner.text("credential", "") or None,
        optional=inner.flag("optional", False),
    )
    if sum(source is not None for source in (ref.file, ref.env, ref.credential)) != 1:
        raise SpecError(f"{inner.where}: expected exactly one of file, env and credential")
    return ref


class _Table:
    """A JSON object whose values are checked as they are read; null counts as left out."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise SpecError(f"{where or 'the spec'}: expected an object, got {_show(data)}")
        self._data = data
        self.where = where

    def names(self) -> list[str]:
        return list(self._data)

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def table(self, name: str) -> _Table:
        value = self._data.get(name)
        return _Table({} if value is None else value, self._at(name))

    def text(self, name: str, default: Any) -> str:
        return str(self._get(name, default, str, "text"))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._get(name, default, bool, "true or false"))

    def number(self, name: str, default: float, *, least: float = 0, above: float | None = None) -> float:
        value = self._get(name, default, int | float, "a number")
        if isinstance(value, bool) or not value >= least or (above is not None and not value > above):
            bound = f"more than {above}" if above is not None else f"at least {least}"
            raise SpecError(f"{self._at(name)}: expected a number of {bound}, got {_show(value)}")
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._get(name, [], list, "a list of texts")
        if not all(isinstance(value, str) for value in values):
            raise SpecError(f"{self._at(name)}: expected a list of texts, got {_show(values)}")
        return tuple(values)

    def strings(self) -> dict[str, str]:
        return {name: self.text(name, "") for name in self._data}

    def _get(self, name: str, default: Any, kind: Any, expected: str) -> Any:
        value = self._data.get(name)
        if value is None:
            if default is _REQUIRED:
                raise SpecError(f"{self._at(name)}: missing")
            return default
        if not isinstance(value, kind):
            raise SpecError(f"{self._at(name)}: expected {expected}, got {_show(value)}")
        return value

    def _at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name


def _show(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}…"
