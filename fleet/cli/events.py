"""fleet events: what was done here, by whom, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.manager.events import Event

PAUSE = 0.3  # seconds between two looks at the file


def events(
    since: Annotated[str, typer.Option(metavar="TIME", help="of the last 1h, 7d …")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=1, help="at most so many")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on with what is added, until Ctrl-C")
    ] = False,
) -> None:
    """
    Deploys, restarts, scaling, pauses and the like, oldest first.

    The file is .fleet/events.jsonl, one JSON object a line.

      fleet events --since 1d
      fleet events -f
    """
    import time
    from contextlib import suppress

    from fleet.cli import output
    from fleet.cli.context import load_manifest
    from fleet.cli.names import duration
    from fleet.manager import events as file

    start = time.time() - duration("--since", since) if since else 0.0
    folder = load_manifest().state_dir
    with suppress(FileNotFoundError), open(str(folder / file.FILE), "rb"):
        pass  # `read` takes one that it may not read for an empty one: the screen goes on without it
    found = [event for event in file.read(folder, limit=lines) if event.at >= start]
    for event in found:
        _say(event)
    if not follow:
        if not found:
            output.note("no events yet" if not since else "no events in that time")
        return
    last = found[-1].at if found else start
    with suppress(KeyboardInterrupt):  # the way to end it, and no failure
        while True:
            for event in file.read(folder, limit=1000):
                if event.at > last:
                    _say(event)
                    last = event.at
            time.sleep(PAUSE)


def _say(event: Event) -> None:
    import sys
    from dataclasses import asdict
    from datetime import UTC, datetime

    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.dashboard.text import pad, show

    if settings().json:
        at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        output.document({**asdict(event), "at": at})
    else:
        when = datetime.fromtimestamp(event.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        style = {"undone": "red"}.get(event.kind, "cyan" if event.is_deploy else "")
        kind = output.paint(pad(show(event.kind), 8), style)
        code = f" @{event.revision}" if event.revision else ""
        output.say(f"{when}  {kind}  {show(event.text)}{show(code)}  ({show(event.by)})")
    sys.stdout.flush()
