"""fleet status: the one screen for processes and jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.dashboard.facts import Snapshot
    from fleet.dashboard.look import Look
    from fleet.manifest import Manifest
    from fleet.queue.queue import Queue

TROUBLE = 3
PATIENCE = 2  # seconds for a queue that is away: a screen has more to show
FIVE_MINUTES = 300.0  # seconds; the dashboard's own, which is not to be imported yet
INTERRUPTED = 130
TERMINATED = 143  # 128 + SIGTERM


def status(
    pipelines: Annotated[list[str] | None, typer.Argument(metavar="PIPELINE…", help="only these")] = None,
    once: Annotated[bool, typer.Option("--once", help="one report instead of the live screen")] = False,
    watch: Annotated[
        str, typer.Option(metavar="SEC", help="a report every SEC seconds, without the live screen")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="print only trouble; exit 3 if there is any")
    ] = False,
    procs: Annotated[bool, typer.Option("--procs", help="the processes too")] = False,
    html: Annotated[
        str, typer.Option("--html", metavar="FILE", help="one self-contained page; - is standard output")
    ] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="keys that change something do not")] = False,
) -> int:
    """
    Whether what runs is what the manifest asks for, and what the queue holds.

    On a terminal a live screen; in a pipe one plain table, as wide as its values.

      fleet status
      fleet status emails thumbs --once --procs
      fleet status --check || mail -s trouble ops@example.org
      fleet status --html incident.html
      fleet status --json | jq '.pipelines[] | select(.state != "ok")'
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.dashboard.look import Look

    manifest = _only(load_manifest(), pipelines or [])
    eyes = Eyes(manifest)
    look = Look(ascii=output.ascii_only())
    if check:
        return _check(eyes.look(None))
    if html:
        _write_page(eyes.look(None), look, html)
        return 0
    if watch:
        return _watch(eyes.look, look, _seconds(watch), procs)
    if once or output.plain():
        _report(eyes.look(None), look, procs)
        return 0
    reason = screen(manifest, eyes, read_only=read_only)
    if settings().verbose:
        output.note(f"dashboard {reason}")
    return {"quit": 0, "interrupted": INTERRUPTED}.get(reason, TERMINATED)


class Eyes:
    """
    Takes snapshots of one manifest.

    The queue is opened by the first look that can; until then each snapshot
    says why not.
    """

    def __init__(self, manifest: Manifest) -> None:
        from fleet.manager.places import place_of

        self._manifest = manifest
        self._place = place_of(manifest)
        self.queue: Queue | None = None

    def look(self, previous: Snapshot | None, window: float = FIVE_MINUTES) -> Snapshot:
        """What is true now; rates look back over *window* seconds."""
        from fleet.cli.context import open_queue
        from fleet.dashboard.snapshot import take
        from fleet.errors import FleetError

        if self.queue is None:
            try:
                self.queue = open_queue(self._manifest, patience=PATIENCE, looks=True)
            except FleetError as error:
                return take(self._manifest, error, self._place, previous, window=window)
        return take(self._manifest, self.queue, self._place, previous, window=window)


def screen(manifest: Manifest, eyes: Eyes, *, read_only: bool = False) -> str:
    """The live screen; why it ended, as `live.run` says it."""
    from fleet.cli import confirm, output
    from fleet.cli.app import COMMANDS
    from fleet.cli.hands import Hands
    from fleet.dashboard import live
    from fleet.dashboard.look import Look

    look = Look(
        ascii=output.ascii_only(),
        read_only=read_only or confirm.is_read_only(),
        can_scale=any(command.name == "scale" for command in COMMANDS),
    )
    return live.run(eyes.look, look=look, hands=Hands(manifest, eyes), colour=output.colour())


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
    from fleet.cli.names import duration

    seconds = duration("--watch", text)
    if not 0.1 <= seconds <= 86400:
        raise typer.BadParameter("--watch takes 0.1 seconds to one day")
    return seconds


def _report(snapshot: Snapshot, look: Look, procs: bool) -> None:
    """One snapshot on stdout, as JSON, as a plain table, or as a report for eyes."""
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document(snapshot.to_dict())
        return
    from fleet.dashboard import view
    from fleet.dashboard.lines import text_of, to_ascii

    if output.plain():
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


def _write_page(snapshot: Snapshot, look: Look, path: str) -> None:
    from pathlib import Path

    from fleet.cli import output
    from fleet.dashboard.html import page

    text = page(snapshot, look)
    if path == "-":
        output.say(text.rstrip())
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from error
    output.note(f"written: {path}")
