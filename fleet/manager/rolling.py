"""
Restart processes a few at a time, each batch only when the one before works.

Nothing is decided by supervisord, and nothing of the configuration changes:
this brings new code into the processes that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from fleet.manager.rollout import IsAlive
from fleet.manager.start import Failure, start
from fleet.manager.stop import Tell as TellDrain
from fleet.manager.stop import stop
from fleet.supervisor.client import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One batch: stopped and started again; or one that was started beside the others first."""

    names: tuple[str, ...]  # full names
    done: int  # how many are over with this one
    of: int
    drained: float = 0.0  # seconds
    started: float = 0.0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    restarted: tuple[str, ...] = ()  # full names, with the new code
    left: tuple[str, ...] = ()  # not touched, because of a failure before them
    failures: tuple[Failure, ...] = ()
    beside: tuple[str, ...] = ()  # started for this, and still there because of a failure
    seconds: float = 0.0


Tell = Callable[[Turn], None]


def roll(
    client: Supervisor,
    names: Sequence[str],
    *,
    max_down: int = 1,
    beside: Sequence[str] = (),
    timeout: float = 60.0,
    is_alive: IsAlive | None = None,
    tell: Tell | None = None,
    tell_drain: TellDrain | None = None,
) -> Rolled:
    """
    Restart *names*, at most *max_down* at a time, and stop at the first that does not come back.

    *beside* are processes that do not run: they are started first and drained
    last, so that there are never fewer than before.  If one of those does not
    come up, nobody is stopped.
    """
    began = monotonic()
    done: list[str] = []
    rest = iter(names)
    batch: tuple[str, ...] = ()
    try:
        if beside:
            first = start(client, beside, timeout=timeout, is_alive=is_alive)
            if tell is not None:
                tell(
                    Turn(
                        names=tuple(beside),
                        done=0,
                        of=len(names),
                        started=first.seconds,
                        failures=first.failures,
                    )
                )
            if first.failures:
                stop(client, beside, tell=tell_drain)
                return Rolled(left=tuple(names), failures=first.failures, seconds=monotonic() - began)
        while batch := tuple(islice(rest, max_down)):
            stopped = stop(client, batch, tell=tell_drain)
            started = start(client, batch, timeout=timeout, is_alive=is_alive)
            done += batch
            if tell is not None:
                tell(
                    Turn(
                        names=batch,
                        done=len(done),
                        of=len(names),
                        drained=stopped.seconds,
                        started=started.seconds,
                        failures=started.failures,
                    )
                )
            if started.failures:
                bad = {failure.process.full_name for failure in started.failures}
                return Rolled(
                    restarted=tuple(name for name in done if name not in bad),
                    left=tuple(rest),
                    failures=started.failures,
                    beside=tuple(beside),
                    seconds=monotonic() - began,
                )
        stop(client, beside, tell=tell_drain)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_left_behind(names, done, batch, beside))
        raise
    return Rolled(restarted=tuple(done), seconds=monotonic() - began)


def _left_behind(
    names: Sequence[str], done: Sequence[str], batch: Sequence[str], beside: Sequence[str]
) -> str:
    """For somebody who ends it in the middle."""
    said = [f"{len(done)} of {len(names)} were restarted"]
    if going := [name for name in batch if name not in done]:
        said.append(
            f"{_short(going)} was under way, and stays down once it has stopped: fleet start {_short(going)}"
        )
    if beside:
        said.append(f"{_short(beside)} runs beside them: fleet stop {_short(beside)}")
    return "; ".join(said) + "."


def _short(names: Sequence[str]) -> str:
    return " ".join(name.partition(":")[2] for name in names)
