"""A handler that holds the interpreter's lock: its lease is kept from outside, for as long as it lives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import eventually
from tests.worker.conftest import Site

End = Callable[..., int]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs POSIX timers that start threads"),
]


def rescuers(pid: int) -> list[int]:
    """The processes that were started to keep the leases of *pid*."""
    words = f"fleet.queue.rescue\0{pid}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and words in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(site: Site, end: End) -> None:
    """Longer than its ttr, while another worker waits for jobs: it runs once, and the helper leaves."""
    site.queue.put("emails", 7.5, ttr=6)
    holder = site.worker("hold_the_interpreter")
    site.wait_for(1, "begun")
    other = site.worker("note")
    eventually(lambda: rescuers(holder.pid))

    assert site.wait_for(1, within=20) == ["1 1 0 False"]
    site.wait_until_empty()
    eventually(lambda: not rescuers(holder.pid))
    assert "interpreter-stood-still seconds=" in site.log
    assert [end(holder), end(other)] == [0, 0]
    assert "lost=0" in site.log and "lost=1" not in site.log
    assert len(site.lines()) == 1


def test_the_lease_of_a_dead_worker_is_not_kept(site: Site, end: End) -> None:
    """Killed while it is rescued: the helper leaves with it, and the job comes back after its ttr."""
    site.queue.put("emails", 30, ttr=2)
    holder = site.worker("hold_the_interpreter")
    site.wait_for(1, "begun")
    eventually(lambda: rescuers(holder.pid))
    holder.kill()
    holder.wait()

    eventually(lambda: not rescuers(holder.pid), within=3)
    other = site.worker("note")
    site.wait_for(1, within=8)
    assert end(other) == 0


def test_nobody_is_started_for_a_handler_that_lets_others_run(site: Site, end: End) -> None:
    """A job that sleeps for longer than its ttr: the keeper itself is awake."""
    site.queue.put("emails", 4.0, ttr=3)  # it is given a second before somebody else takes its place
    worker = site.worker("nap")
    seen: set[int] = set()

    def is_over() -> bool:
        seen.update(rescuers(worker.pid))
        return bool(site.lines())

    eventually(is_over)
    assert not seen
    assert end(worker) == 0
