"""
python -m tests.chaos --backend all --seed 7 --seconds 60
python -m tests.chaos load --backend postgresql
python -m tests.chaos soak --backend sqlite

Starts private servers, a supervisord with real workers, and faults; judges what happened.
load: a million jobs through eight workers with kills going on.  soak: half an hour without
faults, whose memory and latency must stay flat.  Exit 0 when every rule held, 1 when one was
broken or a server is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import servers
from tests.chaos import soak
from tests.chaos.arena import BACKENDS, PROFILES, die_with
from tests.chaos.checker import check
from tests.chaos.planted import BUGS
from tests.chaos.possible import why_not
from tests.chaos.run import Report, Settings, run
from tests.chaos.schedule import kinds_for
from tests.chaos.table import summary, table
from tests.chaos.work import KINDS

_ENDING = (signal.SIGTERM, signal.SIGHUP)
# What each mode asks for where the command line says nothing; None: by the seconds.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "run": {"seconds": 30.0, "jobs": None, "count": None, "workers": 4, "faults": "all", "kinds": KINDS},
    "load": {
        "seconds": 300.0,
        "jobs": 1_000_000,
        "count": 60,
        "workers": 8,
        "faults": "kill,kill-step",
        "kinds": ("quick",),
    },
    "soak": {"seconds": 1800.0, "jobs": None, "count": 0, "workers": 4, "faults": "", "kinds": soak.KINDS},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mode", nargs="?", choices=tuple(_DEFAULTS), default="run")
    parser.add_argument("--backend", choices=(*PROFILES, "all"), default="sqlite")
    parser.add_argument("--faults", help="kinds with commas between, or all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="in which jobs are put and faults injected")
    parser.add_argument("--jobs", type=int, help="for each back end; default: 100 a second")
    parser.add_argument("--count", type=int, help="faults for each back end; default: one a second")
    parser.add_argument("--ttr", type=float, default=2.0, help="seconds a lease lasts")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--patience", type=float, default=25.0, help=argparse.SUPPRESS)
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="plant this bug (sqlite)")
    parser.add_argument("--keep", action="store_true", help="keep the files also when all is well")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="judge the files of an earlier run")
    chosen = parser.parse_args()
    if chosen.verify:
        verdict = check(chosen.verify)
        print(*verdict.violations, f"VERDICT {'pass' if verdict.passed else 'FAIL'}", sep="\n")
        return 0 if verdict.passed else 1
    for name, value in _DEFAULTS[chosen.mode].items():
        if getattr(chosen, name, None) is None:
            setattr(chosen, name, value)
    backends = BACKENDS if chosen.backend == "all" else (chosen.backend,)
    known = {kind for backend in backends for kind in kinds_for(backend)}
    asked = known if chosen.faults == "all" else set(filter(None, chosen.faults.split(",")))
    if unknown := asked - known:
        parser.error(f"--faults: {', '.join(sorted(known))}; not {', '.join(sorted(unknown))}")
    for kind in sorted(asked):
        if reason := why_not(kind):
            print(f"not possible here: {kind}: {reason}", flush=True)
    command = f"python -m tests.chaos {' '.join(sys.argv[1:])}"
    reports: dict[str, Report | str] = {}
    for backend in backends:
        reports[backend] = _run(backend, chosen, [k for k in kinds_for(backend) if k in asked], command)
    if len(backends) > 1:
        print(summary(reports))
    return 0 if all(isinstance(each, Report) and each.passed for each in reports.values()) else 1


def _run(backend: str, chosen: Any, faults: Sequence[str], command: str) -> Report | str:
    settings = Settings(
        backend=backend,
        seed=chosen.seed,
        seconds=chosen.seconds,
        jobs=chosen.jobs or int(chosen.seconds * 100),
        faults=faults,
        count=(int(chosen.seconds) if chosen.count is None else chosen.count) if faults else 0,
        ttr=chosen.ttr,
        workers=chosen.workers,
        patience=chosen.patience,
        kinds=chosen.kinds,
        bug=chosen.bug,
    )
    soaking = chosen.mode == "soak"
    try:
        report = run(
            settings, keep=chosen.keep or soaking, during=soak.watch if soaking else contextlib.nullcontext
        )
    except servers.NotInstalled as missing:
        print(missing, flush=True)
        return str(missing)
    print(table(report, command), flush=True)
    if soaking:
        rows = soak.windows(report.folder)
        print(soak.table(rows), flush=True)
        report.broken = soak.not_flat(rows)
        print(*report.broken, f"SOAK {'FAIL' if report.broken else 'flat'}", sep="\n", flush=True)
        if report.passed and not chosen.keep:
            shutil.rmtree(report.folder)
    return report


def watched(work: Callable[[], int]) -> int:
    """
    Do *work* in a child process: whatever ends it, a last line on stdout tells so.

    A signal leaves no words at all, and those of an error may go where nobody looks.
    """
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until both know what to do
    child = os.fork()
    if child == 0:
        for number in _ENDING:
            signal.signal(number, _interrupted)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        die_with(parent)
        try:
            return work()
        except (Exception, KeyboardInterrupt) as error:
            traceback.print_exc()
            _tell_no_verdict(f"{type(error).__name__}: {error}")
            return 1
    for number in _ENDING:
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the child as well
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        _tell_no_verdict(signal.Signals(-code).name)
        return 1
    return code


def _interrupted(number: int, frame: object) -> None:
    for each in _ENDING:  # the same may come to the whole process group
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(
        signal.Signals(number).name
    )  # so that everything that was started is ended in order


def _tell_no_verdict(why: str) -> None:
    print(f"VERDICT none      the run ended before it was judged: {why}", flush=True)


if __name__ == "__main__":
    raise SystemExit(watched(main))
