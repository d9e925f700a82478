"""The JSON schema of `fleet status --json`.  Fields are added to it, never renamed."""

from __future__ import annotations

from typing import Any

from fleet.dashboard.facts import SCHEMA, Health

Schema = dict[str, Any]


def status_schema() -> Schema:
    """Every field with its type; what a description says in brackets is the unit."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **_object(
            schema={"const": SCHEMA},
            time=_time("when it was taken"),
            project=_text("name of the manifest's project"),
            ok=_flag("nothing is in trouble, and everybody answered"),
            window=_number("[s] that rates, waits and run times look back"),
            queue=_object(location=_text("without any secret"), **_source()),
            hosts=_list(_object(name=_text("host name"), **_source())),
            pipelines=_list(_pipeline()),
            processes=_list(_process()),
            errors=_list(_error()),
            events=_list(_event()),
        ),
    }


def _source() -> dict[str, Schema]:
    return {
        "reachable": _flag("it answered"),
        "age": _number("[s] since its last good answer"),
        "since": _time("of its first silence"),
        "error": _text("why it did not answer"),
        "detail": _text("such as that it has no tables yet"),
    }


def _pipeline() -> Schema:
    counts = ("ready", "delayed", "reserved", "stale", "buried")
    return _object(
        name=_text("as in the manifest"),
        queue_name=_text("as in the queue"),
        hosts=_list({"type": "string"}),
        state={"enum": [health.value for health in Health], "description": "the worst word that fits"},
        reason=_text("why it is not ok, or that its number was set by hand"),
        paused=_flag("hands out no jobs"),
        paused_for=_number("[s] left"),
        procs=_object(
            running=_count("processes"),
            wanted=_count("by hand, else the manifest's and the room in use"),
            by_hand=_count("that fleet scale asked for, as long as it holds"),
            floor=_count("the manifest's"),
            max=_count("floor and room"),
        ),
        jobs=_or_null(
            _object(**{name: _count("jobs") for name in counts}, capped=_flag('a count means "at least"'))
        ),
        jobs_age=_number("[s] above 0: the queue is away, and these are its last words"),
        oldest_ready=_number("[s] the number to alert on"),
        rate=_object(
            **{
                "in": _number("[jobs/s] of the last 5 minutes: out, and the change of what is held"),
                "out": _number("[jobs/s] done or buried, of the last 5 minutes"),
                "errors": _number("share of the attempts that failed"),
                "now": _number("[jobs/s] just now"),
            }
        ),
        wait=_object(p50=_number("[s] from could-have-run to reserved"), p95=_number("[s]")),
        run=_object(p50=_number("[s] in the handler"), p95=_number("[s]"), mean=_number("[s]")),
        drains_in=_number("[s] until nothing is ready if all goes on as now"),
        never_drains=_flag("as much or more comes in than goes out"),
        done=_count("by the processes that run now"),
        failed=_count("attempts of these that ended in an error"),
        alerts=_list(
            _object(
                code={"enum": ["oldest", "buried"]}, limit=_number("of the manifest"), value=_number("now")
            )
        ),
    )


def _process() -> Schema:
    return _object(
        name=_text("without the project"),
        full_name=_text("as supervisord says it, group:process"),
        pipeline=_text("as in the manifest"),
        host=_text("where it runs"),
        state=_text("supervisord's word, or ABSENT or OUTSIDE"),
        pid=_count("process id"),
        uptime=_number("[s]"),
        cpu=_number("share of one core"),
        rss=_count("[bytes] in RAM"),
        done=_count("jobs"),
        failed=_count("attempts that ended in an error"),
        job=_or_null(_object(id=_count("of the job in hand"), since=_number("[s] it has run"))),
        doing=_text("idle busy waiting paused draining"),
        note=_text("spawn error, exit status, the worker's own note"),
        log=_text("the last line it wrote"),
        pulse_age=_number("[s]"),
        age=_number("[s] above 0: supervisord is away, and this row is its last word"),
    )


def _error() -> Schema:
    return _object(
        pipeline=_text("as in the manifest"),
        group=_text('the cause; "#" stands for what differs from job to job'),
        where=_text("file.py:14 function"),
        count=_count("attempts"),
        kinds={"type": "object", "additionalProperties": {"type": "integer"}},
        first=_time("of the first"),
        last=_time("of the last"),
        job=_count("id of the newest"),
        sample=_text("its message as it was"),
    )


def _event() -> Schema:
    return _object(
        at=_time("when"),
        kind=_text("up down start stop restart failing slow well away"),
        text=_text("one line"),
        pipelines=_list({"type": "string"}),
        by=_text("who"),
        revision=_text("short commit"),
    )


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(description: str) -> Schema:
    return {"type": ["string", "null"], "description": description}


def _time(description: str) -> Schema:
    return {"type": ["string", "null"], "format": "date-time", "description": description}


def _number(description: str) -> Schema:
    return {"type": ["number", "null"], "description": description}


def _count(description: str) -> Schema:
    return {"type": ["integer", "null"], "description": description}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}
