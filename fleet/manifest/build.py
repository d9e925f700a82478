"""Checked tables to values: [defaults] under each pipeline, every default filled in, paths made absolute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fleet.manifest import dsn
from fleet.manifest.interpolate import fill
from fleet.manifest.secrets import Secret
from fleet.manifest.source import Source
from fleet.manifest.values import (
    GRACE_MARGIN,
    Alerts,
    Autoscale,
    Logs,
    Manifest,
    Pipeline,
    QueueSettings,
    Recycle,
    Retries,
    Schedule,
    Stop,
    SupervisorPlace,
)

SYSTEM_LOGS = "/var/log/fleet"
DEFAULT_URL = "unix:///run/supervisor.sock"
DEFAULT_CONF_DIR = "/etc/supervisor/conf.d"
MOST_ROOM = 1000


def build(tables: dict[str, Any], source: Source, host: str | None) -> Manifest:
    """
    The manifest that *tables* mean, without its warnings.

    With *host*, only what that host runs, on that host's supervisord.
    """
    path = source.base.path
    root = path.parent
    project = tables.get("project", "")
    place = _place(tables, root, host)
    defaults = tables.get("defaults", {})
    pipelines = {}
    for name, table in tables.get("pipelines", {}).items():
        pipeline = _pipeline(name, _laid_over(defaults, table), root, project, place, host)
        if host is None or not pipeline.hosts or host in pipeline.hosts:
            pipelines[name] = pipeline
    queue = tables.get("queue", {})
    return Manifest(
        path=path,
        root=root,
        project=project,
        queue=QueueSettings(
            dsn=queue.get("dsn", f"sqlite:///{dsn.quoted_path(root)}/.fleet/queue.db"),
            password=_secret(queue.get("password"), root),
            keep_done=queue.get("keep_done"),
        ),
        supervisor=place,
        pipelines=pipelines,
        schedules=tuple(Schedule(**table) for table in tables.get("schedules", ())),
        hosts=tuple(tables.get("hosts", ())),
        host=host,
        source=source,
    )


def _place(tables: dict[str, Any], root: Path, host: str | None) -> SupervisorPlace | None:
    table = tables.get("supervisor")
    url = tables.get("hosts", {}).get(host, {}).get("supervisor") if host else None
    if table is None and url is None:
        return None
    table = table or {}
    return SupervisorPlace(
        url=url or table.get("url", DEFAULT_URL),
        conf_dir=root / table.get("conf_dir", DEFAULT_CONF_DIR),
        username=table.get("username"),
        password=_secret(table.get("password"), root),
    )


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key, one level deep: a secret or a raw option is replaced as a whole."""
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = {**below[name], **above[name]}
    return merged


def _pipeline(
    name: str,
    table: dict[str, Any],
    root: Path,
    project: str,
    place: SupervisorPlace | None,
    host: str | None,
) -> Pipeline:
    words = {"project": project, "pipeline": name, "host": host or os.uname().nodename}
    timeout = table.get("timeout", 60.0)
    numprocs = table.get("numprocs", 1)
    if isinstance(numprocs, dict):
        numprocs = numprocs.get(host, 1) if host else sum(numprocs.values())
    autoscale = Autoscale(**table["autoscale"]) if "max" in table.get("autoscale", {}) else None
    room = table.get("room", max(autoscale.max - numprocs, 0) if autoscale else min(numprocs, MOST_ROOM))
    logs = dict(table.get("logs", {}))
    folder = logs.pop("dir", SYSTEM_LOGS if place else ".fleet/logs")
    stop = {"grace": timeout + GRACE_MARGIN, **table.get("stop", {})}
    python = table.get("python")
    command = table.get("command")
    return Pipeline(
        name=name,
        group=f"{project}-{name}" if project else name,
        handler=table.get("handler"),
        command=None if command is None else fill(command, words),
        queue_name=table.get("queue_name", name),
        numprocs=numprocs,
        room=room,
        user=table.get("user"),
        directory=_absolute(table.get("directory", "."), root),
        # Not resolved: an interpreter of a virtual environment is a symlink to one outside.
        python=None if python is None else str(_absolute(python, root)),
        timeout=timeout,
        ttr=table.get("ttr", 60.0),
        concurrency=table.get("concurrency", 1),
        retries=Retries(**table.get("retries", {})),
        max_crashes=table.get("max_crashes", 3),
        stop=Stop(**stop),
        recycle=Recycle(**table.get("recycle", {})),
        logs=Logs(dir=_absolute(fill(folder, words), root), **logs),
        hooks=tuple(table.get("hooks", ())),
        redact=tuple(table.get("redact", ())),
        environment={k: fill(v, words) for k, v in table.get("environment", {}).items()},
        secrets={k: s for k, v in table.get("secrets", {}).items() if (s := _secret(v, root))},
        alerts=Alerts(**table.get("alerts", {})),
        rollout=table.get("rollout", "rolling"),
        autoscale=autoscale,
        hosts=tuple(table.get("hosts", ())),
        supervisor=table.get("supervisor", {}),
    )


def _absolute(text: str, root: Path) -> Path:
    """Below *root* unless absolute, and without "." and "..": two names of one folder look different."""
    return Path(os.path.normpath(root / text))


def _secret(table: dict[str, Any] | None, root: Path) -> Secret | None:
    if not table:
        return None
    if "file" in table:
        table = {**table, "file": str(_absolute(table["file"], root))}
    return Secret(**table)
