"""fleet import: bring jobs over from other libraries."""

from __future__ import annotations

from typing import Annotated

import typer

_LISTED = 20  # skipped rows that are shown one by one


def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="simple-job-queue")],
    dsn: Annotated[str, typer.Argument(metavar="DSN", help="where its table is: mysql://user@host/db")],
    table: Annotated[str, typer.Option("--table", metavar="NAME", help="its name")] = "job_queue_jobs",
    to: Annotated[
        str | None, typer.Option("--to", metavar="DSN", help="the queue, by default the manifest's")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="read and report; copy nothing")] = False,
) -> None:
    """
    Copy the jobs of simple-job-queue (PHP): ids, states, attempts and delays.

    The PHP table is only read. A second run copies what came since, and what
    PHP workers held the first time.

      fleet import simple-job-queue mysql://shop@localhost/shop --dry-run
      fleet import simple-job-queue sqlite:////srv/app/jobs.db --table my_jobs
    """
    from dataclasses import asdict

    from fleet.cli import confirm, output
    from fleet.cli.context import load_manifest, open_queue, settings
    from fleet.dashboard.text import show
    from fleet.queue import connect
    from fleet.queue.simple_import import copy

    if source != "simple-job-queue":
        raise typer.BadParameter(f"{source!r}: the only source there is so far is simple-job-queue")
    if not dry_run:
        confirm.free()
    queue = connect(to) if to else open_queue(load_manifest())
    report = copy(dsn, queue, table=table, dry_run=dry_run)
    if settings().json:
        output.document({"schema": "fleet.import/1", "dry_run": dry_run, **asdict(report)})
        return
    verb = "would copy" if dry_run else "copied"
    output.say(
        f"{verb} {report.copied:,} jobs: {report.ready:,} ready, {report.delayed:,} delayed, "
        f"{report.buried:,} buried"
    )
    if report.before:
        output.say(f"{report.before:,} had been copied before")
    for row in report.skipped[:_LISTED]:
        output.say(f"skipped   #{row.id} {show(row.pipeline, 40)}: {show(row.why)}")
    if len(report.skipped) > _LISTED:
        output.say(f"skipped   {len(report.skipped) - _LISTED:,} more")
    if report.skipped and not dry_run:
        output.say("run it again when the PHP workers have stopped: it copies the rest")
