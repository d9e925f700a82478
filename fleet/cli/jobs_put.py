"""fleet jobs put: one job, a line each from a file, or jobs as they were exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.jobs import PipelineArgument, open_pipeline

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.job import Job
    from fleet.queue.queue import Queue

CHUNK = 1000  # jobs in one put_many: well under a second on any back end
_CHUNK_BYTES = 8 * 1024**2  # of lines, after which it is put too
_BLANKS = 64 * 1024  # bytes around a payload that are left out
_ESCAPES = 6  # bytes of an exported line for one of a payload: \u00e9


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
      fleet jobs put emails - < exported.jsonl
    """
    import os
    import sys

    from fleet.cli import confirm
    from fleet.cli.names import duration, slips_are_usage_errors
    from fleet.queue.names import check_delay, check_priority, check_ttr, check_unique

    confirm.free()
    options: dict[str, Any] = {"priority": priority, "delay": duration("--delay", delay)}
    if ttr:
        options["ttr"] = duration("--ttr", ttr)
    with slips_are_usage_errors():  # what is wrong in any queue, before one is made
        check_priority(priority)
        check_delay(options["delay"])
        check_ttr(options.get("ttr", 1))
        check_unique(unique)
    if payload == "-" and unique is not None:
        raise typer.BadParameter("--unique names one job, and - puts many")
    if payload == "-" and sys.stdin is None:
        raise typer.BadParameter("standard input is closed")
    body = None
    if payload != "-" and not payload.startswith("@"):
        body = _checked(payload.encode("utf-8", "surrogateescape"), "the payload")
    manifest, queue, name = open_pipeline(pipeline, creates=True)
    limit = queue.capabilities.max_payload
    options.setdefault("ttr", _ttr(manifest, name))
    if payload == "-":
        _report_ids(name, _put_lines(queue, name, _lines(sys.stdin.buffer, limit), options))
        return
    if body is None:
        try:
            with open(payload[1:], "rb") as file:
                text = file.read(limit + _BLANKS + 1)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise typer.BadParameter(f"cannot read {payload[1:]}: {error.strerror}") from error
        if len(text) > limit + _BLANKS:
            raise _too_large(payload[1:], f"{size:,}" if size else f"more than {limit + _BLANKS:,}", limit)
        body = _checked(text, "the payload")
    _report_ids(name, iter([[queue.put(name, body, unique=unique, **options)]]))


def _ttr(manifest: Manifest, queue_name: str) -> float:
    from fleet.queue.job import DEFAULT_TTR

    ttrs = [each.ttr for each in manifest.pipelines.values() if each.queue_name == queue_name]
    return ttrs[0] if ttrs else DEFAULT_TTR


def _checked(text: bytes, what: str) -> bytes:
    """The bytes as they were typed, without blanks around them, once they are known to be JSON."""
    from fleet.queue.payload import decode

    body = text.strip()
    try:
        decode(body)
    except (ValueError, RecursionError) as error:
        hint = " In a shell, put quotes around it: '{\"n\": 1}'" if what == "the payload" else ""
        raise typer.BadParameter(f"{what} is not JSON ({error}).{hint}") from error
    return body


def _lines(source: IO[bytes], limit: int) -> Iterator[bytes]:
    """The lines of *source*, none longer than an exported job of *limit* bytes can be."""
    most = limit * _ESCAPES + _BLANKS
    number = 0
    while line := source.readline(most + 1):
        number += 1
        if len(line) > most:
            raise _too_large(f"line {number}", f"more than {most:,}", limit)
        yield line


def _too_large(what: str, size: str, limit: int) -> typer.BadParameter:
    return typer.BadParameter(
        f"{what} has {size} bytes, and this back end takes {limit:,}. "
        "Store the data elsewhere and put a reference to it."
    )


def _put_lines(
    queue: Queue, name: str, lines: Iterator[bytes], options: dict[str, Any]
) -> Iterator[list[int]]:
    """
    Put one job per line, a chunk at a time; yields the ids of each chunk.

    Lines that `fleet jobs export` wrote become the jobs that they were.  A
    line that is no JSON stops it: what was put before is said.
    """
    import json

    from fleet.cli.jobs_export import from_dict, is_exported
    from fleet.errors import FleetError, PartlyDone

    chunk: list[bytes] = []
    exported: list[Job] = []
    size = total = 0

    def flush() -> list[int]:
        nonlocal size, total
        made = queue.put_many(name, chunk, **options) if chunk else []
        made += _restore(queue, exported) if exported else []
        total += len(made)
        size = 0
        chunk.clear()
        exported.clear()
        return made

    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                body = _checked(line, f"line {number}")
                value = json.loads(body) if b'"fleet.job/1"' in body else None
                if is_exported(value):
                    exported.append(from_dict(value, name))
                else:
                    chunk.append(body)
            size += len(line)
            if len(chunk) + len(exported) >= CHUNK or size >= _CHUNK_BYTES:
                yield flush()
        yield flush()
    except (typer.BadParameter, FleetError) as error:
        if total:
            text = error.message if isinstance(error, typer.BadParameter) else str(error)
            raise PartlyDone(f"{text}\n{total} jobs were put before it; their ids are above.") from error
        raise


def _restore(queue: Queue, jobs: list[Job]) -> list[int]:
    """Exported jobs as they were, with their ids; as new ones where the server makes the ids."""
    from fleet.errors import NotSupported

    try:
        queue.restore(jobs, "jobs put", str(len(jobs)))
    except NotSupported:
        return [
            queue.put(job.pipeline, job.payload, priority=job.priority, delay=job.delay, ttr=job.ttr)
            for job in jobs
        ]
    return [job.id for job in jobs]


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
