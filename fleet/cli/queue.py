"""fleet queue info and migrate; fleet pause and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.job import BackendInfo
    from fleet.queue.queue import Queue

UNTIL_RESUMED = 365 * 86400.0  # seconds; every back end wants an end
PipelinesArgument = Annotated[
    list[str],
    typer.Argument(metavar="PIPELINE…", help="a pipeline, one that still holds jobs, a glob, or all"),
]


def info() -> None:
    """
    The queue's server, the version of its tables, and how durable a put is.

      fleet queue info
      fleet queue info --json
    """
    from dataclasses import asdict

    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.dashboard.text import show

    found = _facts(load_manifest())
    if settings().json:
        output.document({"schema": "fleet.queue/1", **asdict(found)})
        return
    tables = "none" if found.schema_found is None else f"version {found.schema_found}"
    if found.schema_wanted is not None and found.schema_found != found.schema_wanted:
        tables += f" (this fleet wants {found.schema_wanted}: fleet queue migrate)"
    rows = {
        "server": f"{found.backend} {found.version}",
        "location": found.location,
        "tables": tables if found.schema_wanted is not None else "not needed",
        "durable": f"survives a crash of: {found.durability}",
    }
    for name, value in rows.items():
        output.say(f"{output.paint(f'{name:10}', 'dim')}{show(value)}")
    for text in found.notes:
        said, *mend = text.splitlines()
        output.say(f"{output.paint('note      ', 'dim')}{show(said)}")
        for command in mend:
            output.say(f"{'':12}{show(command)}")


def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="print the statements instead of running them")] = False,
) -> None:
    """
    Create the queue's tables, or bring them to the version of this fleet.

    Workers may go on meanwhile; running it twice changes nothing.

      fleet queue migrate
      fleet queue migrate --sql | psql shop
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import load_manifest, open_queue, settings

    manifest = load_manifest()
    if sql:
        output.say(_statements(manifest.queue.dsn))
        return
    confirm.free()
    found = _version(manifest)
    queue = open_queue(manifest)
    now = queue.migrate()[1] if queue.capabilities.tables else None
    if settings().json:
        output.document({"schema": "fleet.migrate/1", "found": found, "now": now})
    elif now is None:
        output.say(f"{queue.info().backend} needs no tables: nothing to do")
    elif found == now:
        output.say(f"tables are at version {now}: nothing to do")
    else:
        output.say(f"tables {found} → {now}" if found else f"tables made, version {now}")


def _facts(manifest: Manifest) -> BackendInfo:
    from fleet.manifest.secrets import dsn_with_password
    from fleet.queue import connect

    with connect(dsn_with_password(manifest), create=False) as queue:
        return queue.info()


def _version(manifest: Manifest) -> int | None:
    """Of the tables as they are: opening the queue makes those that are missing."""
    from fleet.errors import NoTables

    try:
        return _facts(manifest).schema_found
    except NoTables:
        return None


def pause(
    pipelines: PipelinesArgument,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="such as 10m; until resumed by default")
    ] = "",
) -> None:
    """
    Hand out no jobs of a pipeline for a while.  Jobs in hand go on, puts too.

      fleet pause emails
      fleet pause emails 'thumbs-*' --for 10m
    """
    import shlex

    from fleet.cli import confirm, output
    from fleet.cli.names import duration, slips_are_usage_errors
    from fleet.units import format_duration

    seconds = duration("--for", for_) if for_ else UNTIL_RESUMED
    if seconds == 0:
        raise typer.BadParameter("--for 0 would end the pause: that is fleet resume")
    manifest, queue, names = _open(pipelines)
    confirm.free()
    with slips_are_usage_errors():
        hold(manifest, queue, names, seconds)
    how_long = f"for {format_duration(seconds)}" if for_ else "until resumed"
    output.say(f"paused {how_long}: {', '.join(names)}")
    output.note(f"undo: fleet resume {shlex.join(pipelines)}")


def resume(pipelines: PipelinesArgument) -> None:
    """
    End a pause.

      fleet resume emails
      fleet resume all
    """
    from fleet.cli import confirm, output

    manifest, queue, names = _open(pipelines)
    confirm.free()
    let_go(manifest, queue, names)
    output.say(f"resumed: {', '.join(names)}")


def hold(manifest: Manifest, queue: Queue, names: Sequence[str], seconds: float) -> None:
    """Pause pipelines of the queue, and note who did it."""
    from fleet.units import format_duration

    for name in names:
        queue.pause(name, seconds)
    how_long = "until resumed" if seconds == UNTIL_RESUMED else f"for {format_duration(seconds)}"
    _tell(manifest, "pause", names, how_long)


def let_go(manifest: Manifest, queue: Queue, names: Sequence[str]) -> None:
    """End their pauses, and note who did it."""
    for name in names:
        queue.resume(name)
    _tell(manifest, "resume", names)


def _tell(manifest: Manifest, kind: str, names: Sequence[str], how_long: str = "") -> None:
    from fleet.manager import events

    concerned = [each.name for each in manifest.pipelines.values() if each.queue_name in names]
    text = f"{', '.join(names)} {how_long}".rstrip()
    events.tell(manifest.state_dir, kind, text, concerned or names)


def _open(pipelines: list[str]) -> tuple[Manifest, Queue, list[str]]:
    from fleet.cli.context import load_manifest, open_queue
    from fleet.cli.names import queue_names

    manifest = load_manifest()
    queue = open_queue(manifest)
    return manifest, queue, queue_names(manifest, queue, pipelines)


def _statements(dsn: str) -> str:
    from fleet.errors import NotSupported
    from fleet.queue.dsn import parse
    from fleet.queue.schema.migrate import WANTED, script

    parsed = parse(dsn)
    if parsed.scheme == "beanstalkd":
        raise NotSupported("beanstalkd has no tables")
    prefix = parsed.option("prefix") or "fleet"
    return "\n".join(script(parsed.scheme, version, prefix) for version in range(1, WANTED + 1)).rstrip()
