"""
python -m tests.chaos --backend sqlite --seed 7 --seconds 60

Starts private servers, a supervisord with real workers, and faults; judges what happened.
Exit 0 when every rule held, 1 when one was broken.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.chaos.arena import PROFILES
from tests.chaos.checker import check
from tests.chaos.planted import BUGS
from tests.chaos.run import Settings, run
from tests.chaos.schedule import kinds_for
from tests.chaos.table import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--backend", choices=PROFILES, default="sqlite")
    parser.add_argument("--faults", default="all", help="kinds with commas between, or all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, help="default: 100 a second")
    parser.add_argument("--count", type=int, help="faults; default: one a second")
    parser.add_argument("--ttr", type=float, default=2.0, help="seconds a lease lasts")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--patience", type=float, default=25.0, help=argparse.SUPPRESS)
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="plant this bug (sqlite)")
    parser.add_argument("--keep", action="store_true", help="keep the files also when all is well")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="judge the files of an earlier run")
    chosen = parser.parse_args()
    if chosen.verify:
        verdict = check(chosen.verify)
        print(*verdict.violations, f"VERDICT {'pass' if verdict.passed else 'FAIL'}", sep="\n")
        return 0 if verdict.passed else 1
    known = kinds_for(chosen.backend)
    faults = known if chosen.faults == "all" else tuple(chosen.faults.split(","))
    if unknown := set(faults) - set(known):
        parser.error(f"--faults: {chosen.backend} has {', '.join(known)}, not {', '.join(sorted(unknown))}")
    settings = Settings(
        backend=chosen.backend,
        seed=chosen.seed,
        seconds=chosen.seconds,
        jobs=chosen.jobs or int(chosen.seconds * 100),
        faults=faults,
        count=chosen.count or int(chosen.seconds),
        ttr=chosen.ttr,
        workers=chosen.workers,
        patience=chosen.patience,
        bug=chosen.bug,
    )
    report = run(settings, keep=chosen.keep)
    print(table(report, f"python -m tests.chaos {' '.join(sys.argv[1:])}"))
    return 0 if report.verdict.passed else 1


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt  # so that everything that was started is ended in order


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)
    raise SystemExit(main())
