"""fleet jobs list and show; and what all commands about jobs share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.job import Job
    from fleet.queue.queue import Queue


class State(StrEnum):
    """As JobState, which must not be imported before a command runs."""

    READY = "ready"
    DELAYED = "delayed"
    RESERVED = "reserved"
    BURIED = "buried"


MOST_ID = 2**63 - 1  # of any server

PipelineArgument = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="of the manifest, or one that still holds jobs")
]

IdsArgument = Annotated[
    list[int] | None,
    typer.Argument(min=0, max=MOST_ID, metavar="ID", help="of jobs, as put and list print them"),
]
ErrorOption = Annotated[
    str, typer.Option(metavar="TEXT", help="those whose reason holds TEXT; % stands for anything")
]
MatchOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="those whose payload has it, such as user.id=7")
]
SinceOption = Annotated[
    str, typer.Option(metavar="TIME", help="those that were buried, or became ready, no longer ago")
]
AllOption = Annotated[bool, typer.Option("--all", help="every job of these states")]
RateOption = Annotated[str, typer.Option(metavar="N/s", help="so many at a time, such as 5/s or 300/m")]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="the oldest N of them only")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="only count them")]
ConfirmOption = Annotated[
    str | None, typer.Option("--confirm", metavar="PIPELINE", help="answers the question beforehand")
]


def list_(
    pipeline: PipelineArgument,
    state: Annotated[State | None, typer.Option(help="all four by default")] = None,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="jobs of each state")] = 20,
) -> None:
    """
    Look at jobs without taking them: ready in claim order, others oldest first.

      fleet jobs list emails
      fleet jobs list emails --state buried --error KeyError --since 2h
      fleet jobs list emails --match user.id=7
      fleet jobs list emails --json | jq '.jobs[].reason'
    """
    from itertools import islice

    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.cli.names import redacted_keys
    from fleet.cli.selection import filtered, jobs

    manifest, queue, name = open_pipeline(pipeline)
    selection = filtered(error, match, since)
    secret = redacted_keys(manifest, name)
    found: list[Job] = []
    states = [state] if state else [State.RESERVED, State.READY, State.DELAYED, State.BURIED]
    if not queue.capabilities.lists and not state:
        states.remove(State.RESERVED)
        output.note("this server shows the first job of each state, and reserved ones by their id only")
    for each in states:
        if selection.needs_a_look:
            found += islice(jobs(queue, name, each.value, selection), limit)
        else:
            found += queue.peek(name, each.value, limit, **selection.words())
    if settings().json:
        documents = [_as_dict(job, secret) for job in found]
        output.document({"schema": "fleet.jobs/1", "pipeline": name, "jobs": documents})
        return
    _print_table(found, secret)


def show_(
    id: Annotated[int, typer.Argument(min=0, max=MOST_ID, metavar="ID", help="as put and list print it")],
) -> None:
    """
    One job: its state, why it was buried or released, and its payload.

      fleet jobs show 881203
      fleet jobs show 881203 --json | jq .payload
    """
    import json

    from fleet.cli import output
    from fleet.cli.context import load_manifest, open_queue, settings
    from fleet.cli.names import redacted_keys
    from fleet.dashboard.text import show
    from fleet.errors import JobNotFound

    manifest = load_manifest()
    job = open_queue(manifest, looks=True).find(id)
    if job is None:
        raise JobNotFound(f"no job {id}: it is done, or it was never there.")
    facts = _as_dict(job, redacted_keys(manifest, job.pipeline))
    if settings().json:
        output.document({"schema": "fleet.job/1", **facts})
        return
    facts["payload"] = json.dumps(facts["payload"], indent=2, ensure_ascii=False)
    for name, value in facts.items():
        if value is not None:
            first, *more = str(value).splitlines() or [""]
            output.say(f"{output.paint(f'{name:10}', 'dim')}{show(first)}")
            for line in more:  # a traceback, or the payload
                output.say(f"{'':10}{show(line)}")


# --- shared


def open_pipeline(pipeline: str, *, creates: bool = False) -> tuple[Manifest, Queue, str]:
    """
    The manifest, its queue, and the queue's own name for the pipeline.

    Raises:
        NoTables: nobody has made the queue yet, and this command that *creates* nothing does not either.
    """
    from fleet.cli.context import load_manifest, open_queue
    from fleet.cli.names import queue_name, unknown
    from fleet.errors import NoTables

    manifest = load_manifest()
    known = {*manifest.pipelines, *(each.queue_name for each in manifest.pipelines.values())}
    try:
        queue = open_queue(manifest, looks=not creates or pipeline not in known)
    except NoTables:
        if pipeline in known:
            raise
        raise unknown("pipeline", pipeline, manifest.pipelines) from None
    return manifest, queue, queue_name(manifest, queue, pipeline)


def _as_dict(job: Job, secret: frozenset[str]) -> dict[str, Any]:
    from fleet.dashboard.payload import value_of

    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "state": job.state.value,
        "priority": job.priority,
        "ttr": job.ttr,
        "delay": round(job.delay, 3) or None,
        "attempt": job.attempt,
        "crashes": job.crashes or None,
        "reason": job.reason or None,
        "unique": job.unique,
        "payload": value_of(job.payload, secret),
    }


def _print_table(jobs: Sequence[Job], secret: frozenset[str]) -> None:
    from fleet.cli import output
    from fleet.dashboard.payload import text_of
    from fleet.dashboard.text import show, width_of
    from fleet.units import short_duration

    # In a pipe nothing is cut; on a terminal reason and payload share what the numbers leave.
    room = None if output.plain() else max(output.width() - 42, 20)
    reasons = [show(job.reason.partition("\n")[0], room and room // 2) or "–" for job in jobs]
    left = room and room - max(map(width_of, reasons), default=0)
    rows = [
        (
            job.id,
            f"{job.state.value} {short_duration(job.delay)}" if job.delay else job.state.value,
            job.priority,
            job.attempt,
            reason,
            text_of(job.payload, secret, left),
        )
        for job, reason in zip(jobs, reasons, strict=True)
    ]
    if rows:
        output.table(("ID", "STATE", "PRIO", "TRY", "REASON", "PAYLOAD"), rows, right="ID PRIO TRY")
    else:
        output.note("no jobs")
