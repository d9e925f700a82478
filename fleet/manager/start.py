"""Starting processes, and what is known about one that did not come up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.manager.health import Health, advance, give_up
from fleet.supervisor.client import Supervisor
from fleet.supervisor.logfile import last_lines
from fleet.supervisor.process import Process, ProcessState

# supervisord's loop turns once a second when nothing happens; a question makes it turn.
POLL = 0.05
_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A process that did not come up, with what is known about the reason."""

    process: Process
    lines: tuple[str, ...] = ()  # the end of its log, as it was written: foreign text

    @property
    def reason(self) -> str:
        """supervisord's own words, or what its state says."""
        if self.process.spawnerr:
            return self.process.spawnerr
        if self.process.state is ProcessState.EXITED:
            code = self.process.exitstatus
            return "ended by a signal" if code < 0 else f"exit status {code}"
        if self.process.state is ProcessState.RUNNING:
            return "runs, but gave no sign in time that it works"
        return "not up in time" if self.process.state.is_active else "does not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    up: tuple[str, ...] = ()  # full names
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0


def start(
    client: Supervisor,
    names: Iterable[str],
    *,
    timeout: float,
    is_alive: Callable[[Process], bool] | None = None,
) -> Started:
    """
    Start those of *names* (full names) that do not run, and wait until all do or have failed.

    *timeout* is seconds.  *is_alive* is asked about each RUNNING one until it says yes.
    """
    began = time.monotonic()
    asked_for = tuple(names)
    health = Health(waiting=frozenset(asked_for))
    client.start(asked_for)
    while True:
        asked = time.monotonic()
        processes = look(client, asked_for)
        health = advance(health, processes.values(), quiet(health, processes, is_alive))
        if time.monotonic() - began > timeout:
            health = give_up(health)
        if health.is_settled:
            failures = tuple(failure(name, processes.get(name)) for name in sorted(health.failed))
            return Started(up=tuple(sorted(health.up)), failures=failures, seconds=time.monotonic() - began)
        # One that was still stopping when it was told to start.
        stopped = (n for n in health.waiting if processes[n].state is ProcessState.STOPPED)
        client.start(stopped)
        # As slow as the answers are: a thousand processes cost supervisord a quarter of a second.
        time.sleep(max(POLL, time.monotonic() - asked))


def look(client: Supervisor, names: Iterable[str]) -> dict[str, Process]:
    """Those of *names* (full names) that supervisord knows, as they are now.  Nobody else's are asked for."""
    found = client.lookup(list(dict.fromkeys(names)))
    return {name: process for name, process in found.items() if process is not None}


def quiet(
    health: Health, processes: Mapping[str, Process], is_alive: Callable[[Process], bool] | None
) -> frozenset[str]:
    """Of those that are waited for: RUNNING, and without a sign that they work."""
    if is_alive is None:
        return frozenset()
    running = (processes[n] for n in health.waiting if n in processes)
    return frozenset(p.full_name for p in running if p.state is ProcessState.RUNNING and not is_alive(p))


def failure(name: str, process: Process | None) -> Failure:
    """The process *name* as it is now, None if it is gone, with the end of its log."""
    if process is None:
        group, _, short = name.partition(":")
        return Failure(process=Process(group=group, name=short, state=ProcessState.UNKNOWN))
    local = process.logfile.startswith("/")
    return Failure(process=process, lines=tuple(last_lines(Path(process.logfile), _LINES)) if local else ())
