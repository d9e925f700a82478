"""fleet logs: what the processes wrote, of one or of many, once or as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.manifest import Manifest

PAUSE = 0.1  # seconds between two looks at the files
MOST_SINCE = 10_000  # lines of one process with --since and no -n


def logs(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGET…", help="a pipeline, a process, a glob, or all (the default)"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on with what is added, until Ctrl-C")
    ] = False,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", metavar="N", min=0, help="the last lines of each process; 50"),
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="what was written in the last 10m, 2h …")] = "",
    grep: Annotated[
        str, typer.Option(metavar="RE", help="only lines that match this regular expression")
    ] = "",
) -> None:
    """
    The last log lines of each process, and with -f what is added to them.

    Files are read where they lie, so this also works while nothing runs.
    --since goes by the times in the lines; a line without one belongs to the
    line before it.

      fleet logs emails
      fleet logs --since 10m --grep 'KeyError'
      fleet logs -f --grep 'ERROR|WARN'
      fleet logs emails_03 -n 500
    """
    import os
    import re
    import time
    from contextlib import suppress

    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.cli.names import duration, slips_are_usage_errors
    from fleet.dashboard.text import show
    from fleet.supervisor import pids
    from fleet.supervisor.logfile import Follower, last_lines, newer

    start = time.time() - duration("--since", since) if since else 0.0
    count = lines if lines is not None else MOST_SINCE if since else 50
    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise typer.BadParameter(f"--grep {grep!r} is not a regular expression: {error}") from error
    with slips_are_usage_errors():
        files = log_files(load_manifest(), targets or ["all"])
    wide = max((len(name) for name in files), default=0)
    colours = ("cyan", "yellow", "green", "magenta", "blue")
    prefix = {
        name: output.paint(f"{show(name):{wide}}", colours[index % len(colours)]) + "  "
        if len(files) > 1
        else ""
        for index, name in enumerate(files)
    }

    def say(name: str, line: str) -> None:
        if not pattern.search(line):
            return
        if settings().json:
            output.document({"process": name, "line": line})
        else:
            output.say(prefix[name] + show(line))

    pids.raise_open_files(os.getpid(), len(files) + 100)
    # A follower goes on exactly where these lines end.
    followers = {name: Follower(path) for name, path in files.items()}
    for name, path in files.items():
        found = last_lines(path, count, before=followers[name].position)
        for line in newer(found, start, path) if since else found:
            say(name, line)
    if not follow:
        if not any(path.exists() for path in files.values()):
            output.note("no log file yet: these processes have never been started here")
        return
    with suppress(KeyboardInterrupt):  # the way to end it, and no failure
        while True:
            for name, follower in followers.items():
                for line in follower.lines():
                    say(name, line)
                if follower.change:
                    output.note(f"{show(name)}: the log {follower.change}")
            time.sleep(PAUSE)


def log_files(manifest: Manifest, targets: list[str]) -> dict[str, Path]:
    """
    Log files of the *targets* by process name.

    From supervisord if it answers, since a running process may still write
    where an older manifest said; otherwise from the plan.

    Raises:
        ProcessNotFound: a target matches nothing.
    """
    from pathlib import Path

    from fleet.errors import SupervisorError
    from fleet.manager.places import place_of
    from fleet.manager.plan import programs
    from fleet.manager.targets import select

    place = place_of(manifest)
    found: dict[str, str] = {}
    # No log's name depends on the worker's path, which would cost loading jinja2.
    for group in programs(manifest, conf_dir=place.conf_dir, worker="fleet-worker"):
        for program in group.programs:
            for number in program.numbers():
                name = program.text(program.process_name, number)
                found[f"{group.name}:{name}"] = program.text(program.stdout_logfile, number)
    try:
        if place.find() is not None:
            groups = {pipeline.group for pipeline in manifest.pipelines.values()}
            found |= {p.full_name: p.logfile for p in place.client().processes() if p.group in groups}
    except SupervisorError:
        pass  # hung or not ours to ask: the files are there all the same
    chosen = select(targets, {p.name: p.group for p in manifest.pipelines.values()}, found)
    return {name.partition(":")[2]: Path(found[name]) for name in chosen if found[name].startswith("/")}
