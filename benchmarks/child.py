"""
The inside of a measured process: ``python -m benchmarks.child JOB``, JOB a JSON object.

It says ``ready``, waits for ``go``, does its work and answers one JSON object.
Runs in a peer's own environment too, so it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.board import BEGAN, COUNT, FIELDS, LAST, Board
from benchmarks.contender import Contender, Unsupported, number_of, payload, payloads

_PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives the run
    job = json.loads(sys.argv[1])
    try:
        answer = _TASKS[job["task"]](_contender(job), job)
    except Unsupported as error:
        answer = {"unsupported": str(error)}
    _say(answer)


def _contender(job: dict[str, Any]) -> Contender:
    module, _, name = job["contender"].partition(":")
    made = getattr(importlib.import_module(module), name)(job["dsn"])
    assert isinstance(made, Contender)
    return made


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _wait_for_go() -> None:
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit("the run has ended")


def _create(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    contender.create()
    if job["count"]:
        contender.fill(job["count"])
    if job["crowd"]:
        contender.crowd(job["crowd"])
    return {}


def _timed(work: Callable[[list[bytes]], None], job: dict[str, Any]) -> dict[str, Any]:
    work(payloads(1))  # connects, prepares statements
    todo = payloads(job["count"])
    _wait_for_go()
    began, cpu = time.perf_counter(), time.process_time()
    work(todo)
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def _put(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    return _timed(contender.put, job)


def _put_many(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    return _timed(contender.put_many, job)


def _work(run: Callable[[Callable[[int], None]], None], job: dict[str, Any]) -> dict[str, Any]:
    cells = Board(Path(job["board"])).cells
    mine = job["slot"] * FIELDS
    monotonic = time.monotonic

    def done(count: int) -> None:
        cells[mine + COUNT] += count
        cells[mine + LAST] = monotonic()

    _wait_for_go()
    cells[mine + BEGAN] = monotonic()
    run(done)  # until this process is ended
    return {}


def _one(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    return _work(contender.one, job)


def _drain(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    return _work(contender.drain, job)


def _serve(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    cells = Board(Path(job["board"])).cells

    def seen(payload: bytes) -> None:
        cells[number_of(payload) * 3 + 2] = time.monotonic()

    _wait_for_go()
    contender.serve(seen)
    return {}


def _produce(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    """Put jobs at random gaps; the board gets the time before and after each."""
    cells = Board(Path(job["board"])).cells
    gaps = random.Random(7)
    _wait_for_go()
    for number in range(job["count"]):
        time.sleep(gaps.uniform(0.05, 0.15))
        todo = [payload(number)]
        cells[number * 3] = time.monotonic()
        contender.put(todo)
        cells[number * 3 + 1] = time.monotonic()
    return {}


def _stats(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    contender.stats()
    _wait_for_go()
    took = []
    for _ in range(job["count"]):
        began = time.perf_counter()
        contender.stats()
        took.append(time.perf_counter() - began)
    return {"seconds": statistics.median(took)}


_TASKS = {
    "create": _create,
    "put": _put,
    "put_many": _put_many,
    "one": _one,
    "drain": _drain,
    "serve": _serve,
    "produce": _produce,
    "stats": _stats,
}

if __name__ == "__main__":
    main()
