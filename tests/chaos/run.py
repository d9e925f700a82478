"""One chaos run: set up, inject, drain, count, judge."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import fleet
from tests.chaos import census
from tests.chaos.apply_faults import Fleet
from tests.chaos.arena import Arena, arena
from tests.chaos.bite import wait_until
from tests.chaos.checker import Verdict, check
from tests.chaos.faults import Injector
from tests.chaos.ledger import Ledger, now
from tests.chaos.pace import AHEAD, Gate
from tests.chaos.possible import why_not
from tests.chaos.schedule import schedule
from tests.chaos.steps import STEPS
from tests.chaos.work import KINDS

PRODUCERS = 2
_DEADLY_FROM = 5.0  # seconds: a shorter run does not wait for three leases to run out


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What the command line says.

    faults    kinds, see `schedule.kinds_for`
    count     how many of them
    ttr       seconds a lease lasts
    patience  seconds without progress after which the end is not waited for any longer
    kinds     of jobs, see `work.Task`
    steps     of a worker, at which it may be killed or stopped
    bug       one of `planted.BUGS`
    """

    backend: str
    seed: int
    seconds: float
    jobs: int
    faults: Sequence[str]
    count: int
    ttr: float = 2.0
    workers: int = 4
    patience: float = 25.0
    kinds: Sequence[str] = KINDS
    steps: Sequence[str] = STEPS
    bug: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    settings: Settings
    folder: Path
    verdict: Verdict
    took: float  # seconds
    judged_in: float  # seconds
    about: str  # server, version and level
    broken: Sequence[str] = ()  # what else was not as it should be

    @property
    def passed(self) -> bool:
        return self.verdict.passed and not self.broken


def run(
    settings: Settings,
    *,
    keep: bool = False,
    during: Callable[[Arena], AbstractContextManager[object]] = nullcontext,
) -> Report:
    """
    Do it all; *during* is entered while the work goes on.

    The folder is removed when everything held; it is kept for a verdict that
    failed, or on demand, and tells everything again through `checker.check`.
    """
    folder = Path(tempfile.mkdtemp(prefix="fleet-chaos-", dir="/tmp"))
    print(f"files   {folder}", flush=True)  # now: a run that is killed cannot say it at its end
    start = time.monotonic()
    plan: dict[str, object] = {
        "seed": settings.seed,
        "jobs": settings.jobs // PRODUCERS,
        "seconds": settings.seconds + AHEAD,  # the last fault is to find work too
        "deadly": settings.seconds >= _DEADLY_FROM and tuple(settings.kinds) == KINDS,
        "kinds": list(settings.kinds),
    }
    with arena(
        settings.backend,
        folder,
        ttr=settings.ttr,
        workers=settings.workers,
        plan=plan,
        faults=[kind for kind in settings.faults if not why_not(kind)],
        bug=settings.bug,
    ) as place:
        with fleet.connect(place.dsn) as queue:  # makes the tables before anybody counts them
            info = queue.info()
        if place.disk is not None:
            place.disk.sync()
        if "apply" in settings.faults:
            place.fleet = Fleet(place)
        Gate(folder).open(0.0)  # the plan begins with the first job, however long it takes to come up
        place.start_supervisord()
        place.start_producers(PRODUCERS)
        wait_until(lambda: any(journal.stat().st_size for journal in folder.glob("run-*.jsonl")))
        faults = schedule(
            settings.seed,
            settings.faults,
            settings.seconds,
            settings.count,
            settings.ttr,
            settings.steps,
        )
        with during(place):
            Injector(place, Ledger(folder, "fault")).run(faults, settings.seconds)
            _drain(place, settings.patience, at_most=settings.patience if settings.bug else 3600.0)
        place.end()
        counted_at = now()
        jobs = census.take(place.dsn)
        (folder / "census.json").write_text(
            json.dumps({"backend": place.backend, "t": counted_at, "jobs": jobs})
        )
    took = time.monotonic() - start
    report = Report(
        settings=settings,
        folder=folder,
        verdict=check(folder),
        took=took,
        judged_in=time.monotonic() - start - took,
        about=f"{info.backend} {info.version}  level {info.durability}",
    )
    if report.verdict.passed and not keep:
        shutil.rmtree(folder)
    return report


def _drain(place: Arena, patience: float, at_most: float) -> None:
    """
    Wait for the producers, and until nothing is left but buried jobs.

    Gives up when nothing has changed for *patience* seconds, and after *at_most*.
    """
    start = since = time.monotonic()
    last = (-1, -1)
    while time.monotonic() < min(since + patience, start + at_most):
        left, busy = census.left(place.dsn), sum(each.poll() is None for each in place.producers)
        if left == busy == 0:
            return
        if (left, busy) != last:
            last, since = (left, busy), time.monotonic()
        time.sleep(0.1 if left < 1000 else 1.0)
