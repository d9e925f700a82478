"""
Act on the groups of a supervisord, all at once, until each has settled.

The decisions are in `actions` and `health`; here is the loop that asks, acts
and waits.  Nothing waits inside supervisord.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

from fleet.manager.actions import Actions, Shape
from fleet.manager.health import Health, advance, give_up
from fleet.manager.start import POLL, Failure, failure, look, quiet
from fleet.manager.stopper import Stopper
from fleet.supervisor.client import (
    ALREADY_ADDED,
    BAD_NAME,
    CHUNK,
    STILL_RUNNING,
    Supervisor,
    Verdicts,
    fitting,
)
from fleet.supervisor.process import Process, ProcessState


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    pipeline: str  # the group's name for one that is gone from the manifest
    group: str
    action: str  # added replaced removed scaled started kept
    wanted: int = 0  # processes that are to run
    running: int = 0
    untouched: int = 0  # of those, the ones that never stopped
    drained: int = 0
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0


Tell = Callable[[GroupResult], None]
# Whether a RUNNING process has proved that it works; asked again on every poll until it says yes.
IsAlive = Callable[[Process], bool]


def roll_out(
    client: Supervisor,
    plan: Actions,
    wanted: Mapping[str, Shape],
    pipelines: Mapping[str, str],
    present: Iterable[Process],
    *,
    timeout: float,
    tell: Tell | None = None,
    is_alive: IsAlive | None = None,
) -> tuple[GroupResult, ...]:
    """
    Carry out *plan*, and wait until every group is as *wanted* or has failed.

    *present* are the processes that the plan was made from.  *timeout* is
    seconds for processes to come up, counted from their last start.  Drains end
    by supervisord's own `stopwaitsecs`.  *tell* gets each group as it is settled.

    Raises:
        SupervisorError: it stopped answering, or refused, in the middle.
    """
    return _Work(client, plan, wanted, pipelines, present, timeout, tell, is_alive).run()


class _Work:
    def __init__(
        self,
        client: Supervisor,
        plan: Actions,
        wanted: Mapping[str, Shape],
        pipelines: Mapping[str, str],
        present: Iterable[Process],
        timeout: float,
        tell: Tell | None,
        is_alive: IsAlive | None,
    ) -> None:
        self.client, self.plan, self.wanted, self.pipelines = client, plan, wanted, pipelines
        self.timeout, self.tell, self.is_alive = timeout, tell, is_alive
        self.stopper = Stopper(client)
        self.began = time.monotonic()
        self.due = self.began + timeout
        self.draining = {*plan.replace, *plan.remove}
        self.surplus = set(plan.drain)
        self.health = Health(waiting=frozenset())
        self.open = {*wanted, *plan.remove}  # groups without a result yet
        self.results: list[GroupResult] = []
        self.before = _by_name(present)
        self.at_once = CHUNK  # processes that one turn of supervisord's loop may fork

    def run(self) -> tuple[GroupResult, ...]:
        processes = self.before
        self._add(self.plan.add)
        self.client.start(self.plan.start)
        leaving = self._leaving(processes)
        self.stopper.again(leaving)
        self.stopper.stop([*(p.full_name for p in leaving if p.state.is_active), *self.surplus])
        self._expect(group for group in self.wanted if group not in self.draining)
        fresh = self.plan.is_nothing  # what was read before is still true then
        while True:
            asked = time.monotonic()
            processes = self.before if fresh else self._look()
            fresh = False
            self.health = advance(
                self.health, processes.values(), quiet(self.health, processes, self.is_alive)
            )
            self._finish_drains(processes)
            if time.monotonic() > self.due and not self.draining:
                self.health = give_up(self.health)
            self._settle(processes)
            if not self.open:
                return tuple(self.results)
            self._nudge(processes)
            time.sleep(max(POLL, time.monotonic() - asked))

    def _look(self) -> dict[str, Process]:
        """Those that this is about, as they are now."""
        leaving = (name for name, process in self.before.items() if process.group in self.draining)
        wanted = (name for group, shape in self.wanted.items() for name in shape.full(group))
        return look(self.client, [*leaving, *self.surplus, *wanted])

    def _add(self, groups: Sequence[str]) -> None:
        """
        Create groups, so many at a time as supervisord can start without being missed.

        It forks every autostart process of all new groups in one turn of its loop.
        """
        rest = list(groups)
        forking = 0
        while rest:
            batch = self._batch(rest)
            began = time.monotonic()
            _raise_first(self.client.add_groups(batch), ALREADY_ADDED)
            if forking:  # the answer waited until the groups before were forked
                self.at_once = fitting(forking, time.monotonic() - began)
            forking = sum(len(self.wanted[group].wanted) for group in batch)
            del rest[: len(batch)]

    def _batch(self, groups: Sequence[str]) -> Sequence[str]:
        """The first of *groups*, with as many of the next as are started at once; one at least."""
        sizes = accumulate(len(self.wanted[group].wanted) for group in groups)
        return groups[: max(1, sum(1 for _ in takewhile(lambda size: size <= self.at_once, sizes)))]

    def _expect(self, groups: Iterable[str]) -> None:
        names = frozenset[str]().union(*(self.wanted[group].full(group) for group in groups))
        self.health = replace(self.health, waiting=self.health.waiting | names)
        self.due = time.monotonic() + self.timeout

    def _finish_drains(self, processes: Mapping[str, Process]) -> None:
        """Groups whose last process has ended are forgotten, and made anew if they are to be replaced."""
        busy = {process.group for process in processes.values() if not process.state.is_stopped}
        verdicts = self.client.remove_groups(sorted(self.draining - busy))
        gone = {g for g, fault in verdicts.items() if fault is None or fault.code == BAD_NAME}
        _raise_first({g: f for g, f in verdicts.items() if g not in gone}, STILL_RUNNING)
        if not gone:
            return
        self.draining -= gone
        anew = sorted(gone.intersection(self.plan.replace))
        self._add(anew)
        self._expect(anew)

    def _nudge(self, processes: Mapping[str, Process]) -> None:
        """Repeat what a race undid: a recycled worker that came back, a wanted one that somebody stopped."""
        leaving = self._leaving(processes)
        self.stopper.again(leaving)
        self.stopper.stop(process.full_name for process in leaving if process.state.is_active)
        idle = (n for n in self.health.waiting if n in processes)
        self.client.start(name for name in idle if processes[name].state is ProcessState.STOPPED)

    def _leaving(self, processes: Mapping[str, Process]) -> list[Process]:
        return [p for n, p in processes.items() if p.group in self.draining or n in self.surplus]

    def _settle(self, processes: Mapping[str, Process]) -> None:
        for group in sorted(self.open):
            names = self.wanted[group].full(group) if group in self.wanted else frozenset()
            leaving = {n for n in self.surplus if n.startswith(f"{group}:")}
            if group in self.draining or names & self.health.waiting:
                continue
            if any(n in processes and not processes[n].state.is_stopped for n in leaving):
                continue
            self.open.discard(group)
            result = self._result(group, names, len(leaving), processes)
            self.results.append(result)
            if self.tell is not None:
                self.tell(result)

    def _result(
        self, group: str, names: frozenset[str], left: int, processes: Mapping[str, Process]
    ) -> GroupResult:
        up = names - self.health.failed
        same = {n for n in up if _pid(self.before.get(n)) == _pid(processes.get(n)) is not None}
        old = sum(1 for p in self.before.values() if p.group == group and not p.state.is_stopped)
        gone = group in self.plan.remove or group in self.plan.replace
        return GroupResult(
            pipeline=self.pipelines.get(group, group),
            group=group,
            action=self._action(group, bool(left)),
            wanted=len(names),
            running=len(up),
            untouched=0 if gone or group in self.plan.add else len(same),
            drained=old if gone else left,
            failures=tuple(failure(n, processes.get(n)) for n in sorted(names & self.health.failed)),
            seconds=time.monotonic() - self.began,
        )

    def _action(self, group: str, fewer: bool) -> str:
        for action, groups in (
            ("added", self.plan.add),
            ("replaced", self.plan.replace),
            ("removed", self.plan.remove),
        ):
            if group in groups:
                return action
        if fewer:
            return "scaled"
        return "started" if any(n.startswith(f"{group}:") for n in self.plan.start) else "kept"


def _by_name(processes: Iterable[Process]) -> dict[str, Process]:
    return {process.full_name: process for process in processes}


def _pid(process: Process | None) -> int | None:
    return process.pid if process else None


def _raise_first(verdicts: Verdicts, *harmless: int) -> None:
    for fault in verdicts.values():
        if fault is not None and fault.code not in harmless:
            raise fault
