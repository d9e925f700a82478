"""The demo from its first file to its last line: lay out, put, start, watch or prove, stop."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import FrameType

from fleet.cli import output
from fleet.cli.context import settings
from fleet.cli.demo_work import Work, doubts, tally, work
from fleet.cli.status import Eyes, screen
from fleet.errors import PartlyDone, Refused
from fleet.manager import stop
from fleet.manager.apply import apply
from fleet.manager.desired import desired
from fleet.manager.places import place_of
from fleet.manifest import Manifest, load
from fleet.queue import Queue, connect
from fleet.queue.job import PipelineStats
from fleet.supervisor import private

MARK = ".fleet-demo"  # only a folder that holds this file is ever wiped
PATIENCE = 120.0  # seconds beyond the spread that a slow machine may take
WATCHED = 60.0  # seconds over which the jobs are spread when somebody looks
LEFT = {"quit": 0, "interrupted": 130, "terminated": 143, "hung up": 129}  # the dashboard's word: exit code
TTR = 10.0  # seconds until the job of a worker that somebody killed is done by another


def run(directory: Path, seconds: float | None) -> int:
    """
    Run the demo in *directory* and return the exit code.

    Raises:
        Refused: *directory* holds something else.
        PartlyDone: a job was lost, or a result is wrong.
    """
    watched = not output.plain() and output.is_terminal(sys.stdin)
    spread = seconds if seconds is not None else WATCHED if watched else 0.0
    with _signals_as_exits():
        folder = _lay_out(directory)
        manifest = load(folder / "fleet.toml")
        jobs = work(folder)
        with connect(manifest.queue.dsn) as queue:
            _put(queue, jobs, spread)
            _announce(manifest, jobs, directory)
            stays = False
            try:
                _up(manifest)
                if watched:
                    reason = _watch(manifest)
                    stays = reason == "quit"
                else:
                    _wait(manifest, queue, jobs, spread + PATIENCE)
            finally:
                if not stays:
                    _stop(folder)
            if watched:
                _say_goodbye(queue, jobs, directory, stays)
                return LEFT[reason]
            return _prove(queue, jobs, folder)


def demo_dir() -> Path:
    """The demo as it is shipped: in the wheel, or in the checkout that an editable install imports from."""
    shipped = Path(str(files("fleet") / "demo"))
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "examples" / "demo"


def _lay_out(directory: Path) -> Path:
    """A fresh copy of the demo; what an earlier one left there is ended and removed."""
    folder = directory.absolute()
    if (folder / MARK).exists():
        _stop(folder)
        shutil.rmtree(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{directory} holds something else and was left alone. Choose another folder: --dir")
    if folder.parent.name == ".fleet" and not folder.parent.exists():
        folder.parent.mkdir(mode=0o700, parents=True)
        (folder.parent / ".gitignore").write_text("*\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()  # first, so that a copy that is cut short can be wiped too
    leftovers = shutil.ignore_patterns("__pycache__", ".fleet", "out", "queue.db*")
    shutil.copytree(demo_dir(), folder, dirs_exist_ok=True, ignore=leftovers)
    return folder


def _put(queue: Queue, jobs: Work, spread: float) -> None:
    """Put every job now, most of them delayed, so that they become ready over *spread* seconds."""
    slices = max(1, round(spread))
    for pipeline, payloads in jobs.items():
        for delay in range(slices):
            if part := payloads[delay::slices]:
                queue.put_many(pipeline, part, delay=delay, ttr=TTR)


def _announce(manifest: Manifest, jobs: Work, directory: Path) -> None:
    output.note(f"demo     {directory}   SQLite queue, private supervisord")
    output.note(f"         {len(manifest.pipelines)} pipelines, {_total(jobs):,} jobs put")
    output.note("         1 address in 50 is invalid on purpose: its job will be buried")


def _wait(manifest: Manifest, queue: Queue, jobs: Work, patience: float) -> None:
    """Until no job is left, a process cannot be started, or *patience* seconds are over."""
    supervisord = place_of(manifest).client()
    deadline = time.monotonic() + patience
    told = time.monotonic()
    while (left := _left(_stats(queue, jobs))) and time.monotonic() < deadline:
        if time.monotonic() - told >= 2:
            told = time.monotonic()
            output.note(f"         {_total(jobs) - left:,} of {_total(jobs):,} jobs")
            for process in supervisord.processes():
                if process.state == "FATAL":
                    output.warn(f"{process.full_name} cannot be started, see {process.logfile}")
                    return
        time.sleep(0.1)


def _prove(queue: Queue, jobs: Work, folder: Path) -> int:
    stats = _stats(queue, jobs)
    tallies = [tally(folder, pipeline, payloads, stats[pipeline]) for pipeline, payloads in jobs.items()]
    found = [f"{each.pipeline}: {doubt}" for each in tallies for doubt in doubts(each)]
    head = ("pipeline", "put", "done", "buried", "verified")
    rows = [(t.pipeline, t.put, t.done, t.buried, t.right) for t in tallies]
    if settings().json:
        pipelines = [dict(zip(head, row, strict=True)) for row in rows]
        output.document({"schema": "fleet.demo/1", "ok": not found, "doubts": found, "pipelines": pipelines})
    else:
        output.table([title.upper() for title in head], rows, right="PUT DONE BURIED VERIFIED")
    if found:
        raise PartlyDone("the demo does not add up\n" + "\n".join(f"  {doubt}" for doubt in found))
    output.note("every job is accounted for, every result was verified, nothing is left running")
    return 0


def _watch(manifest: Manifest) -> str:
    """The dashboard until somebody leaves it; returns how: q lets the workers go on, all else ends them."""
    output.note("opening the dashboard: q leaves it, the workers keep running; Ctrl-C stops all")
    return screen(manifest, Eyes(manifest))


def _say_goodbye(queue: Queue, jobs: Work, directory: Path, stays: bool) -> None:
    stats = _stats(queue, jobs)
    buried = sum(each.buried for each in stats.values())
    done = _total(jobs) - _left(stats) - buried
    state = "The workers go on" if stays else "Everything was stopped"
    output.note(f"dashboard closed. {state} · {done:,} jobs done · {buried} buried on purpose")
    fleet = f"{_this_fleet()} -m {shlex.quote(str(directory / 'fleet.toml'))}"
    for command, what in (
        ("why emails", "why jobs were buried"),
        ("render", "the supervisord files behind this"),
        ("status", "the dashboard again"),
        ("down", f"stop all; {directory} stays for a look"),
    ):
        if stays or command not in ("status", "down"):
            output.note(f"  # {what}\n  {fleet} {command}")


def _total(jobs: Work) -> int:
    return sum(len(payloads) for payloads in jobs.values())


def _stats(queue: Queue, jobs: Work) -> dict[str, PipelineStats]:
    return {pipeline: queue.stats(pipeline, cap=1_000_000) for pipeline in jobs}


def _left(stats: dict[str, PipelineStats]) -> int:
    return sum(each.ready + each.delayed + each.reserved for each in stats.values())


def _up(manifest: Manifest) -> None:
    place = place_of(manifest)
    done = apply(place, desired(manifest, place))
    for failure in (failure for group in done.failed for failure in group.failures):
        name = failure.process.name
        raise PartlyDone("\n  ".join([f"{name} did not start: {failure.reason}", *failure.lines]))
    running = sum(group.running for group in done.groups)
    output.note(
        f"         {running} processes run after {done.seconds:.1f} s, supervisord pid {done.daemon.pid}"
    )


def _stop(folder: Path) -> None:
    with _undisturbed():
        stop.down(private.home(folder / ".fleet"))


def _this_fleet() -> str:
    """What to type for this very fleet: its name where PATH finds it, else the way to it."""
    own = Path(sys.executable).with_name("fleet")
    found = shutil.which("fleet")
    if found and Path(found).resolve() == own.resolve():
        return "fleet"
    near = os.path.relpath(own)
    return shlex.quote(str(own) if near.startswith("..") else near)


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP leave by way of `finally`, as Ctrl-C does: what was started is stopped."""

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        sys.exit(128 + number)

    with _handled(leave, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The second Ctrl-C of an impatient person must not leave half of the workers running."""

    def stay(number: int, frame: FrameType | None) -> None:  # a function, since a child would inherit SIG_IGN
        pass

    with _handled(stay, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
