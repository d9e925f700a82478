"""A handler in a terminal: on jobs of its queue, or on one payload that was never queued."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fleet.cli import output
from fleet.cli.context import settings
from fleet.dashboard.text import show
from fleet.queue.job import Job, Settlement
from fleet.units import format_duration
from fleet.worker import family
from fleet.worker.handler import Handler, check_result, is_async
from fleet.worker.hooks import handler_of
from fleet.worker.outcome import after_error
from fleet.worker.spec import WorkerSpec, queue_dsn

_FOR_EVER = 10 * 365 * 86400.0  # a person in a debugger has no timeout
_PAYLOAD_COLUMNS = 60

Told = Callable[[Job, float, BaseException | None], None]


def run_on_queue(spec: WorkerSpec, *, once: bool, drain: bool, debug: bool) -> None:
    """
    Work on the pipeline's jobs, a line each.

    Raises:
        FleetError: the handler or the queue cannot be used.
    """
    from fleet.queue import connect
    from fleet.worker.log import Log
    from fleet.worker.loop import Worker

    handler = handler_of(spec)
    count = 0

    def told(job: Job, seconds: float, error: BaseException | None) -> None:
        nonlocal count
        count += 1
        _tell(spec, job, seconds, error, _what_follows(spec, job, error))
        if error is not None and debug:
            _post_mortem(error)
        if once:
            worker.consumer.stop()

    if debug or once:
        spec = replace(spec, concurrency=1)
    if debug:
        spec = replace(spec, timeout=_FOR_EVER)
    quiet = os.open(os.devnull, os.O_WRONLY)
    log = Log(fd=2 if settings().verbose else quiet)
    os.close(quiet)
    with connect(queue_dsn(spec)) as queue:
        worker = Worker(
            spec, queue, _watched(handler, told), log, idle=0 if once or drain else None, alone=once or debug
        )
        if not (once or drain):
            output.note(f"{spec.pipeline}: waiting for jobs; Ctrl-C leaves after the job in hand")
        worker.run()
    log.close()
    if not count and (once or drain):
        output.note(f"{spec.pipeline}: no job is ready")


def run_on_payload(spec: WorkerSpec, payload: bytes, *, debug: bool) -> int:
    """
    Run the handler once on a job of a queue that is gone afterwards; 0 when it returned, 1 when it raised.

    Raises:
        FleetError: the handler cannot be used.
    """
    from fleet.queue import connect

    handler = handler_of(spec)
    failed: list[BaseException] = []

    def told(job: Job, seconds: float, error: BaseException | None) -> None:
        _tell(spec, job, seconds, error, "nothing was queued")
        if error is not None:
            failed.append(error)

    run = _watched(handler, told)
    with connect("sqlite:///:memory:") as queue:  # so that job.touch() and its like work
        queue.put(spec.queue_name, payload)
        job = queue.reserve(spec.queue_name)
        assert job is not None  # noqa: S101 - it was put one line above
        try:
            if is_async(run):
                import asyncio

                asyncio.run(run(job))
            else:
                run(job)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if debug:
                _post_mortem(error)
    return 1 if failed else 0


def _watched(handler: Handler, told: Told) -> Handler:
    """The same handler, and *told* of each job with the seconds it took and the error it raised."""
    since = family.generation
    if is_async(handler):

        async def run_async(job: Job) -> None:
            begun_at = time.monotonic()
            try:
                await handler(job)
            except BaseException as error:
                family.end_child(since, error)
                told(job, time.monotonic() - begun_at, error)
                raise
            family.end_child(since, None)
            told(job, time.monotonic() - begun_at, None)

        return run_async

    def run(job: Job) -> None:
        begun_at = time.monotonic()
        try:
            check_result(handler(job))
        except BaseException as error:
            family.end_child(since, error)
            told(job, time.monotonic() - begun_at, error)
            raise
        family.end_child(since, None)
        told(job, time.monotonic() - begun_at, None)

    return run


def _what_follows(spec: WorkerSpec, job: Job, error: BaseException | None) -> str:
    if job.settled:
        return "settled by the handler"
    if error is None:
        return ""
    verdict: Settlement = after_error(job, error, spec.policy, 0.0)
    if verdict.verb == "bury":
        return "buried"
    return f"again in {format_duration(round(verdict.delay, 1))}" if verdict.delay else "ready again"


def _tell(spec: WorkerSpec, job: Job, seconds: float, error: BaseException | None, follows: str) -> None:
    """ "#1 send {"to": "…"}   done in 12 ms   (nothing was queued)", or the error and its place."""
    if settings().json:
        output.document(
            {
                "schema": "fleet.work/1",
                "job": job.id,
                "pipeline": job.pipeline,
                "attempt": job.attempt,
                "seconds": round(seconds, 6),
                "error": None if error is None else _cause(spec, job, error),
                "follows": follows,
            }
        )
        return
    tail = f"   ({follows})" if follows else ""
    if error is None:
        took = f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
        name = spec.handler.rpartition(":")[2]
        payload = show(_masked(job, spec.policy.redact), _PAYLOAD_COLUMNS)
        text = f"#{job.id} {show(name)} {payload}   done in {took}"
    else:
        text = f"#{job.id} {output.paint(show(_cause(spec, job, error)), 'red')}"
    output.say(text + output.paint(tail, "dim"))
    sys.stdout.flush()


def _cause(spec: WorkerSpec, job: Job, error: BaseException) -> str:
    """ "KeyError: 'body'  shop/jobs/email.py:9", with redacted values masked."""
    head = after_error(job, error, spec.policy, 0.0).reason.partition("\n")[0]
    message, at, place = head.rpartition(" at ")
    return f"{message}  {place}" if at else head


def _masked(job: Job, redact: tuple[str, ...]) -> str:
    try:
        return json.dumps(_mask(job.data, {key.lower() for key in redact}), ensure_ascii=False)
    except Exception:  # raw bytes
        return f"{len(job.payload)} bytes"


def _mask(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: "…" if str(key).lower() in keys else _mask(inner, keys) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mask(inner, keys) for inner in value]
    return value


def _post_mortem(error: BaseException) -> None:
    """The debugger in the innermost frame of the handler's error; our own frames around it are left out."""
    import pdb

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__ and trace.tb_next is not None:
        trace = trace.tb_next
    pdb.post_mortem(trace)
