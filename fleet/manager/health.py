"""Whether processes came up: a pure judgement over what supervisord reports, poll by poll."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from fleet.supervisor.process import Process, ProcessState

# supervisord tries `startretries` times, and waits a second longer before each: a minute with ten.
# A process that died twice in a row is told at once; supervisord goes on trying.
DEATHS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    The processes that are waited for, in three heaps.

    `deaths` counts the starts that ended before `startsecs`, by their whole
    second: supervisord itself does not report how often it has tried.
    """

    waiting: frozenset[str]  # full names
    up: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    deaths: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        return not self.waiting


def advance(health: Health, processes: Iterable[Process], quiet: Container[str] = ()) -> Health:
    """
    What is known after one more poll.  A process that is up stays up; one that is gone has failed.

    *quiet* are those (full names) that run, and still have to prove that they work.
    """
    up, failed, deaths = set(health.up), set(health.failed), dict(health.deaths)
    seen = {process.full_name: process for process in processes}
    for name in health.waiting:
        process = seen.get(name)
        if process is None:
            failed.add(name)
        elif process.state is ProcessState.RUNNING:
            if name not in quiet:
                up.add(name)
        elif process.state is ProcessState.EXITED and process.exitstatus == 0:
            up.add(name)  # it ran past startsecs, and had done its work before we looked
        elif process.state in (ProcessState.BACKOFF, ProcessState.EXITED):
            deaths[name] = deaths.get(name, frozenset()) | {process.started_at or 0}
            if len(deaths[name]) >= DEATHS:
                failed.add(name)
        elif process.state is ProcessState.FATAL:
            failed.add(name)
    return Health(
        waiting=health.waiting - up - failed, up=frozenset(up), failed=frozenset(failed), deaths=deaths
    )


def give_up(health: Health) -> Health:
    """The time is over: whoever is still waited for has failed."""
    return replace(health, waiting=frozenset(), failed=health.failed | health.waiting)
