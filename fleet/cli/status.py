"""fleet status: the one screen for processes and jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.dashboard.facts import Snapshot
    from fleet.dashboard.look import Look
    from fleet.manifest import Manifest

TROUBLE = 3
INTERRUPTED = 130
TERMINATED = 143  # 128 + SIGTERM


def status(
    pipelines: Annotated[list[str] | None, typer.Argument(metavar="PIPELINE", help="only these")] = None,
    once: Annotated[bool, typer.Option("--once", help="one report instead of the live screen")] = False,
    watch: Annotated[
        str, typer.Option(metavar="SEC", help="a report every SEC seconds, without the live screen")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="print only trouble; exit 3 if there is any")
    ] = False,
    procs: Annotated[bool, typer.Option("--procs", help="the processes too")] = False,
) -> int:
    """
    Whether what runs is what the manifest asks for, and what the queue holds.

    On a terminal a live screen; in a pipe one plain table.

      fleet status
      fleet status emails thumbs --once --procs
      fleet status --check || mail -s trouble ops@example.org
      fleet status --json | jq '.pipelines[] | select(.state != "ok")'
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.dashboard.look import Look

    manifest = _only(load_manifest(), pipelines or [])
    ask = asker(manifest)
    look = Look(ascii=output.ascii_only())
    if check:
        return _check(ask(None))
    if watch:
        return _watch(ask, look, _seconds(watch), procs)
    if once or output.plain():
        _report(ask(None), look, procs)
        return 0
    from fleet.dashboard import live

    reason = live.run(ask, look=look, colour=output.colour())
    if settings().verbose:
        output.note(f"dashboard {reason}")
    return {"quit": 0, "interrupted": INTERRUPTED}.get(reason, TERMINATED)


def asker(manifest: Manifest) -> Callable[[Snapshot | None], Snapshot]:
    """
    A function that takes a snapshot each time it is called.

    The queue is opened by the first call that can; until then each snapshot
    says why not.
    """
    from fleet.cli.context import open_queue
    from fleet.dashboard.snapshot import take
    from fleet.errors import FleetError
    from fleet.manager.places import place_of
    from fleet.queue.queue import Queue

    place = place_of(manifest)
    opened: list[Queue] = []

    def ask(previous: Snapshot | None) -> Snapshot:
        if not opened:
            try:
                opened.append(open_queue(manifest))
            except FleetError as error:
                return take(manifest, error, place, previous)
        return take(manifest, opened[0], place, previous)

    return ask


def _only(manifest: Manifest, names: Sequence[str]) -> Manifest:
    from dataclasses import replace

    from fleet.cli.names import unknown

    for name in names:
        if name not in manifest.pipelines:
            raise unknown("pipeline", name, manifest.pipelines)
    if not names:
        return manifest
    return replace(manifest, pipelines={name: manifest.pipelines[name] for name in names})


def _seconds(text: str) -> float:
    from fleet.cli.names import slips_are_usage_errors
    from fleet.units import parse_duration

    with slips_are_usage_errors():
        seconds = parse_duration(text)
    if not 0.1 <= seconds <= 86400:
        raise typer.BadParameter("--watch takes 0.1 seconds to one day")
    return seconds


def _report(snapshot: Snapshot, look: Look, procs: bool) -> None:
    """One snapshot on stdout, as JSON, as a plain table, or as a report for eyes."""
    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.dashboard import view
    from fleet.dashboard.lines import text_of, to_ascii

    if settings().json:
        output.document(snapshot.to_dict())
    elif output.plain():
        for text in view.plain(snapshot, look, processes=procs):
            output.say(text)
        for line in view.silences(snapshot, look):
            output.note(text_of(to_ascii(line) if look.ascii else line).strip())
    else:
        for line in view.once(snapshot, look, output.width(), processes=procs):
            output.say(output.painted(line))


def _watch(ask: Callable[[Snapshot | None], Snapshot], look: Look, seconds: float, procs: bool) -> int:
    import sys
    import time

    from fleet.cli import output
    from fleet.cli.context import settings

    snapshot = None
    while True:
        snapshot = ask(snapshot)
        _report(snapshot, look, procs)
        if not settings().json:
            output.say()
        if sys.stdout is not None:
            sys.stdout.flush()
        time.sleep(seconds)


def _check(snapshot: Snapshot) -> int:
    """For cron and monitoring: silence and 0, or a line for each trouble and 3."""
    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.dashboard import view

    if settings().json:
        output.document(snapshot.to_dict())
    else:
        for text in view.troubles(snapshot):
            output.say(text)
    return 0 if snapshot.ok else TROUBLE
