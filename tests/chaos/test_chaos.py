"""A short chaos run on every back end: real workers, real servers, faults that prove that they bit."""

from __future__ import annotations

import os

import pytest

from tests import servers
from tests.chaos.run import Settings, run
from tests.chaos.table import table

# Quick ones, each somewhere: a supervisord's death, a frozen server or an apply takes seconds, and belongs to
# the long run.
_WORKER = ("kill", "kill-step", "stop-step", "term-step")
_FAULTS = {
    "sqlite": (*_WORKER, "lock", "oom", "power", "fsync", "write", "disk-full"),
    "postgresql": (
        *_WORKER,
        "cut",
        "cut-byte",
        "server-stop",
        "admin-kill",
        "deadlock",
        "connections",
        "write",
    ),
    "mariadb": (*_WORKER, "cut", "cut-byte", "server", "deadlock", "migrate"),
    "pgbouncer": (*_WORKER, "cut", "server", "pooler", "migrate"),
    "beanstalkd": (*_WORKER, "term", "cut", "cut-byte", "server", "power", "clock", "worker-clock"),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "backend",
    [
        "sqlite",
        *(pytest.param(name, marks=pytest.mark.server) for name in _FAULTS if name != "sqlite"),
    ],
)
def test_nothing_is_lost_and_everything_is_explained(backend: str) -> None:
    """Fourteen proven faults and 300 jobs; the long run is in docs/reliability.md."""
    settings = Settings(
        backend=backend,
        seed=20261124,
        seconds=5.0,
        jobs=300,
        faults=_FAULTS[backend],
        count=14,
        workers=3,
    )
    try:
        report = run(settings)
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))
    words = table(report, f"python -m tests.chaos --backend {backend} …")
    assert report.verdict.passed, f"\n{words}"
    if os.environ.get("CI"):
        assert not report.verdict.impossible, f"\n{words}"
    assert sum(report.verdict.faults.values()) >= 10
    assert report.verdict.puts["accepted"] >= 100
