"""fleet jobs: put, list, show, kick, delete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.job import Job
    from fleet.queue.queue import Queue

CHUNK = 1000  # jobs in one put_many: well under a second on any back end


class State(StrEnum):
    """As JobState, which must not be imported before a command runs."""

    READY = "ready"
    DELAYED = "delayed"
    RESERVED = "reserved"
    BURIED = "buried"


PipelineArgument = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="of the manifest, or one that still holds jobs")
]


def put(
    pipeline: PipelineArgument,
    payload: Annotated[
        str, typer.Argument(metavar="JSON|@FILE|-", help="one JSON value; - reads a job from each line")
    ] = "{}",
    delay: Annotated[str, typer.Option(metavar="TIME", help="not before, such as 5m")] = "0",
    priority: Annotated[int, typer.Option(metavar="N", help="0 is most urgent")] = 1024,
    ttr: Annotated[
        str, typer.Option(metavar="TIME", help="length of a lease; the manifest's by default")
    ] = "",
    unique: Annotated[
        str | None, typer.Option(metavar="KEY", help="put nothing while a job with this key exists")
    ] = None,
) -> None:
    """
    Add jobs and print their ids, one a line.

      fleet jobs put emails '{"to": "ada@example.org"}'
      fleet jobs put emails @welcome.json --delay 10m --priority 10
      jq -c .[] orders.json | fleet jobs put orders -
    """
    import sys
    from pathlib import Path

    from fleet.cli import confirm
    from fleet.cli.names import slips_are_usage_errors
    from fleet.units import parse_duration

    confirm.free()
    manifest, queue, name = _open(pipeline)
    with slips_are_usage_errors():
        options: dict[str, Any] = {"priority": priority, "delay": parse_duration(delay)}
        options["ttr"] = parse_duration(ttr) if ttr else _ttr(manifest, name)
    if payload == "-":
        if unique is not None:
            raise typer.BadParameter("--unique names one job, and - puts many")
        if sys.stdin is None:
            raise typer.BadParameter("standard input is closed")
        _report_ids(name, _put_lines(queue, name, sys.stdin.buffer, options))
        return
    if payload.startswith("@"):
        try:
            text = Path(payload[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"cannot read {payload[1:]}: {error.strerror}") from error
    else:
        text = payload.encode("utf-8", "surrogateescape")
    body = _checked(text, "the payload")
    with slips_are_usage_errors():
        _report_ids(name, iter([[queue.put(name, body, unique=unique, **options)]]))


def list_(
    pipeline: PipelineArgument,
    state: Annotated[State | None, typer.Option(help="all four by default")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="jobs of each state")] = 20,
) -> None:
    """
    Look at jobs without taking them: ready in claim order, others oldest first.

      fleet jobs list emails
      fleet jobs list emails --state buried --limit 100
      fleet jobs list emails --json | jq '.jobs[].reason'
    """
    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.cli.names import redacted_keys

    manifest, queue, name = _open(pipeline)
    secret = redacted_keys(manifest, name)
    states = [state] if state else [State.RESERVED, State.READY, State.DELAYED, State.BURIED]
    found = [job for each in states for job in queue.peek(name, each.value, limit)]
    if settings().json:
        jobs = [_as_dict(job, secret) for job in found]
        output.document({"schema": "fleet.jobs/1", "pipeline": name, "jobs": jobs})
        return
    _print_table(found, secret)


def show_(
    id: Annotated[int, typer.Argument(metavar="ID", help="as put and list print it")],
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
    job = open_queue(manifest).find(id)
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


def kick(
    pipeline: PipelineArgument,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="of jobs, as put and list print them")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="every buried job")] = False,
    error: Annotated[
        str, typer.Option(metavar="TEXT", help="those whose reason holds TEXT; % stands for anything")
    ] = "",
) -> None:
    """
    Make buried jobs ready again, oldest first, each with a fresh attempt budget.

      fleet jobs kick emails 881203 881204
      fleet jobs kick emails --error "KeyError: 'TZ'"
      fleet jobs kick emails --all --yes
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import settings

    _, queue, name = _open(pipeline)
    chosen = _filter(ids, all_, error)
    count = _count(queue, name, State.BURIED, ids, error)
    weight = confirm.Weight.MODERATE if count > confirm.MANY else confirm.Weight.FREE
    many = f"{confirm.MANY:,}+" if count > confirm.MANY else str(count)
    confirm.ask(weight, f"{many} buried jobs of {name} become ready. Kick them?", name=pipeline)
    moved = queue.kick(name, **chosen)
    if settings().json:
        output.document({"schema": "fleet.kick/1", "pipeline": name, "kicked": moved})
    else:
        output.say(f"{name}  {moved:,} buried → ready, with new attempts")


def delete(
    pipeline: PipelineArgument,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="of jobs, as put and list print them")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="every job of that state")] = False,
    error: Annotated[
        str, typer.Option(metavar="TEXT", help="those whose reason holds TEXT; % stands for anything")
    ] = "",
    state: Annotated[State, typer.Option(help="which jobs --all and --error mean")] = State.BURIED,
    confirmed: Annotated[
        str | None, typer.Option("--confirm", metavar="PIPELINE", help="answers the question beforehand")
    ] = None,
) -> None:
    """
    Delete jobs for good, also while a worker holds them.

    By id it asks y/N; --all and --error want the pipeline's name typed.

      fleet jobs delete emails 881203
      fleet jobs delete emails --error "not an address" --confirm emails
      fleet jobs delete emails --all --state delayed
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import settings

    _, queue, name = _open(pipeline)
    chosen = _filter(ids, all_, error)
    if ids:
        effect = f"{len(ids)} jobs of {name} are deleted for good. Delete them?"
        confirm.ask(confirm.Weight.MODERATE, effect, name=pipeline, confirmed=confirmed)
        gone = sum(queue.discard(name, each.value, **chosen) for each in State)
    else:
        count = _count(queue, name, state, ids, error)
        if count:
            many = f"{confirm.MANY:,}+" if count > confirm.MANY else str(count)
            oldest = queue.peek(name, state.value, 1)
            since = f"; the oldest is #{oldest[0].id}" if oldest else ""
            effect = f"{many} {state.value} jobs of {name} are deleted for good{since}."
            confirm.ask(confirm.Weight.SEVERE, effect, name=pipeline, confirmed=confirmed)
        gone = queue.discard(name, state.value, **chosen) if count else 0
    if settings().json:
        output.document({"schema": "fleet.delete/1", "pipeline": name, "deleted": gone})
    else:
        output.say(f"{name}  {gone:,} deleted")


# --- shared


def _open(pipeline: str) -> tuple[Manifest, Queue, str]:
    """The manifest, its queue, and the queue's own name for the pipeline."""
    from fleet.cli.context import load_manifest, open_queue
    from fleet.cli.names import queue_name

    manifest = load_manifest()
    queue = open_queue(manifest)
    return manifest, queue, queue_name(manifest, queue, pipeline)


def _ttr(manifest: Manifest, queue_name: str) -> float:
    from fleet.queue.job import DEFAULT_TTR

    ttrs = [each.ttr for each in manifest.pipelines.values() if each.queue_name == queue_name]
    return ttrs[0] if ttrs else DEFAULT_TTR


def _checked(text: bytes, what: str) -> bytes:
    """The bytes as they were typed, without blanks around them, once they are known to be JSON."""
    import json

    body = text.strip()
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        hint = " In a shell, put quotes around it: '{\"n\": 1}'" if what == "the payload" else ""
        raise typer.BadParameter(f"{what} is not JSON ({error}).{hint}") from error
    return body


def _put_lines(
    queue: Queue, name: str, lines: Iterator[bytes] | Any, options: dict[str, Any]
) -> Iterator[list[int]]:
    """
    Put one job per line, a chunk at a time; yields the ids of each chunk.

    A line that is no JSON stops it: what was put before is said.
    """
    from fleet.errors import FleetError, PartlyDone

    chunk: list[bytes] = []
    total = 0

    def flush() -> list[int]:
        nonlocal total
        made = queue.put_many(name, chunk, **options) if chunk else []
        total += len(made)
        chunk.clear()
        return made

    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                chunk.append(_checked(line, f"line {number}"))
            if len(chunk) >= CHUNK:
                yield flush()
        yield flush()
    except (typer.BadParameter, FleetError) as error:
        if total:
            text = error.message if isinstance(error, typer.BadParameter) else str(error)
            raise PartlyDone(f"{text}\n{total} jobs were put before it; their ids are above.") from error
        raise


def _report_ids(name: str, chunks: Iterator[list[int]]) -> None:
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document(
            {"schema": "fleet.put/1", "pipeline": name, "ids": [id for chunk in chunks for id in chunk]}
        )
        return
    for chunk in chunks:
        if chunk:
            output.say("\n".join(map(str, chunk)))


def _filter(ids: Sequence[int] | None, all_: bool, error: str) -> dict[str, Any]:
    """The library's words for which jobs; exactly one way of choosing must be given."""
    if sum((bool(ids), all_, bool(error))) != 1:
        raise typer.BadParameter("say which jobs: their ids, or --error TEXT, or --all")
    if ids:
        return {"ids": ids}
    return {"reason": _pattern(error)} if error else {}


def _pattern(text: str) -> str:
    return text if "%" in text else f"%{text}%"


def _count(queue: Queue, name: str, state: State, ids: Sequence[int] | None, error: str) -> int:
    """How many jobs are meant, counted no further than the question needs."""
    from fleet.cli.confirm import MANY

    if ids:
        return len(ids)
    if error:
        return len(queue.peek(name, state.value, MANY + 1, reason=_pattern(error)))
    return int(getattr(queue.stats(name, cap=MANY + 1), state.value))


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
