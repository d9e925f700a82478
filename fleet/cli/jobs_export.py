"""fleet jobs export, and reading it back: one JSON object a line, and nothing is lost between."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

import typer

from fleet.cli.jobs import PipelineArgument, State

if TYPE_CHECKING:
    from fleet.queue.job import Job

SCHEMA = "fleet.job/1"


def export(
    pipeline: PipelineArgument,
    state: Annotated[State | None, typer.Option(help="all but reserved by default")] = None,
    error: Annotated[
        str, typer.Option(metavar="TEXT", help="those whose reason holds TEXT; % stands for anything")
    ] = "",
    match: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="those whose payload has it; user.id=7")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="became ready, or were buried, no longer ago")
    ] = "",
) -> None:
    """
    Write jobs as one JSON object a line; fleet jobs put reads them back.

    Nothing is masked: what is read back must be what it was.

      fleet jobs export emails --state buried > buried.jsonl
      fleet jobs export emails --match user.id=7 | jq .payload
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, open_queue
    from fleet.cli.names import queue_name, redacted_keys
    from fleet.cli.selection import filtered, jobs

    manifest = load_manifest()
    queue = open_queue(manifest, looks=True)
    name = queue_name(manifest, queue, pipeline)
    selection = filtered(error, match, since)
    states = [state.value] if state else ["ready", "delayed", "buried"]
    count = 0
    for each in states:
        for job in jobs(queue, name, each, selection):
            output.say(json.dumps(to_dict(job)))
            count += 1
    secret = " It holds the values of redact keys." * bool(count and redacted_keys(manifest, name))
    output.note(f"{count:,} jobs exported.{secret}")


def to_dict(job: Job) -> dict[str, Any]:
    """Everything about a job; its payload as JSON where that gives the same bytes again."""
    return {
        "schema": SCHEMA,
        "id": job.id,
        "pipeline": job.pipeline,
        "state": job.state.value,
        "priority": job.priority,
        "ttr": job.ttr,
        "delay": round(job.delay, 6),
        "waited": round(job.waited, 6),
        "attempt": job.attempt,
        "crashes": job.crashes,
        "reason": job.reason,
        "unique": job.unique,
        "uid": job.uid.hex(),
        **_payload(job.payload),
    }


def _payload(raw: bytes) -> dict[str, Any]:
    from fleet.errors import PayloadError
    from fleet.queue.payload import encode

    try:
        value = json.loads(raw)
        if encode(value, len(raw) + 1) == raw:
            return {"payload": value}
    except (ValueError, RecursionError, PayloadError):
        pass
    try:
        return {"payload_text": raw.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(raw).decode()}


def is_exported(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a line of JSON is a job that `export` wrote."""
    return isinstance(value, dict) and value.get("schema") == SCHEMA


def from_dict(value: dict[str, Any], pipeline: str) -> Job:
    """
    The job of an exported line, for *pipeline*.  One that was reserved is ready.

    Raises:
        typer.BadParameter: a field is missing or of the wrong kind.
    """
    from fleet.queue.job import Job, JobState
    from fleet.queue.payload import encode

    try:
        if "payload_base64" in value:
            raw = base64.b64decode(value["payload_base64"], validate=True)
        elif "payload_text" in value:
            raw = value["payload_text"].encode()
        else:
            raw = encode(value["payload"], 2**31)
        state = JobState(value["state"])
        return Job(
            int(value["id"]),
            pipeline,
            raw,
            int(value["priority"]),
            float(value["ttr"]),
            int(value["attempt"]),
            int(value["crashes"]),
            JobState.READY if state is JobState.RESERVED else state,
            waited=float(value["waited"]),
            delay=float(value["delay"]),
            reason=str(value["reason"]),
            uid=bytes.fromhex(value["uid"]),
            unique=value["unique"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise typer.BadParameter(f"not a job as fleet jobs export writes it: {error}") from error
