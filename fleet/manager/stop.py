"""
Stopping: everything at once, each process within its own grace.

supervisord's own shutdown stops one group after another, so a hundred groups
with a three-second drain take minutes.  Told to stop all of them first, it
takes the longest one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fleet.errors import SupervisorUnavailable
from fleet.manager.places import PATIENCE
from fleet.manager.start import POLL, look
from fleet.manager.stopper import Stopper
from fleet.supervisor import pids, private
from fleet.supervisor.client import Supervisor
from fleet.supervisor.lock import LOCK, locked
from fleet.supervisor.private import Home
from fleet.supervisor.process import Process, ProcessState

_DAEMON_GRACE = 30.0
_LONGEST_DRAIN = 24 * 3600.0  # supervisord kills after stopwaitsecs; this only ends a wait for a broken one

Tell = Callable[[tuple[Process, ...]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Full names of those that are down, and of those still going after the time-out."""

    stopped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """What `down` ended; `ran` is False when there was nothing to end."""

    ran: bool = False
    pid: int | None = None  # of the supervisord
    stopped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    seconds: float = 0.0


def stop(
    client: Supervisor,
    names: Iterable[str],
    *,
    now: bool = False,
    timeout: float | None = None,
    tell: Tell | None = None,
) -> Stopped:
    """
    Stop *names* (full names) together and wait until they are down.

    A worker finishes the job in hand; supervisord kills it after its own
    `stopwaitsecs`.  *now* kills at once.  *timeout* bounds the waiting, in
    seconds, and leaves the rest draining.  *tell* gets those that still go, on
    every poll.
    """
    wanted = frozenset(names)
    stopper = Stopper(client)
    stopper.stop(wanted)
    return _drain(client, wanted, stopper, now=now, timeout=timeout, tell=tell)


def down(
    home: Home,
    *,
    now: bool = False,
    timeout: float | None = None,
    lock_timeout: float = 600.0,
    tell: Tell | None = None,
) -> Down:
    """
    Stop everything in the private supervisord at *home*, then end it.

    With *timeout* and something left after it, supervisord goes on too, so that
    the rest stays in somebody's care.

    Raises:
        SupervisorError: it does not answer, or does not end.
        Refused: another fleet command works here.
    """
    began = time.monotonic()
    if not home.conf_dir.is_dir():
        # Never made, or removed under a daemon that still runs.
        ran = private.stop(home, timeout=_LONGEST_DRAIN if timeout is None else timeout)
        return Down(ran=ran, seconds=time.monotonic() - began)
    with locked(home.conf_dir / LOCK, timeout=lock_timeout):
        try:
            running = private.find(home)
        except SupervisorUnavailable:
            # Without its socket nothing can be asked; its own shutdown drains what runs, group by group.
            private.stop(home, timeout=_LONGEST_DRAIN if timeout is None else timeout)
            return Down(ran=True, seconds=time.monotonic() - began)
        if running is None:
            ran = private.stop(home, timeout=_LONGEST_DRAIN if timeout is None else timeout)
            return Down(ran=ran, seconds=time.monotonic() - began)
        result = Stopped()
        before: tuple[Process, ...] = ()
        workers: tuple[pids.Process, ...] = ()
        if running.state != "SHUTDOWN":
            client = Supervisor(home.url, timeout=PATIENCE)
            before = client.processes()
            workers = pids.mark(process.pid for process in before if process.pid)
            names = frozenset(process.full_name for process in before)
            # Before the call: they hear it long before all of its answer is there.
            stopper = Stopper(client, told=names)
            client.stop_all()
            result = _drain(client, names, stopper, now=now, timeout=timeout, tell=tell)
        if not result.left:
            private.stop(home, timeout=_DAEMON_GRACE)
            pids.wait_gone(workers, timeout=_DAEMON_GRACE)
        stopped = tuple(process.full_name for process in before if process.pid)
        return Down(
            ran=True,
            pid=running.pid,
            stopped=tuple(name for name in stopped if name not in result.left),
            left=result.left,
            seconds=time.monotonic() - began,
        )


def _drain(
    client: Supervisor,
    names: frozenset[str],
    stopper: Stopper,
    *,
    now: bool,
    timeout: float | None,
    tell: Tell | None,
) -> Stopped:
    """Wait until all *names* are down; they have been told already."""
    began = time.monotonic()
    deadline = began + (_LONGEST_DRAIN if timeout is None else timeout)
    killed = False
    calm = 0  # polls in a row that found everything down
    while True:
        asked = time.monotonic()
        ours = tuple(look(client, sorted(names)).values())
        going = tuple(process for process in ours if not process.state.is_stopped)
        if tell is not None:
            tell(going)
        calm = 0 if going else calm + 1
        # An EXITED process, which no stop call takes, may be one that autorestart starts on the next turn.
        exited = any(process.state is ProcessState.EXITED for process in ours)
        if calm > (1 if exited else 0):
            return Stopped(stopped=tuple(sorted(names)), seconds=time.monotonic() - began)
        if time.monotonic() > deadline:
            left = tuple(process.full_name for process in going)
            down = tuple(sorted(names.difference(left)))
            return Stopped(stopped=down, left=left, seconds=time.monotonic() - began)
        stopper.again(going)
        stopper.stop(process.full_name for process in going if process.state.is_active)
        if now and not killed and going:
            killed = True
            client.signal((process.full_name for process in going if process.pid), "KILL")
        # As slow as the answers are: a thousand processes cost supervisord a quarter of a second.
        time.sleep(max(POLL, time.monotonic() - asked))
