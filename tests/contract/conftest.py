"""
One store of every back end; `queue` and `rival` are two connections to it.

Each test gets its own pipeline name, so that nothing of another test is seen.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from fleet.queue import Queue

_numbers = itertools.count(1)
_SERVERS = {"postgresql": "postgres_dsn", "mariadb": "mariadb_dsn", "beanstalkd": "beanstalkd_dsn"}


@pytest.fixture(
    scope="session",
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.server) for name in _SERVERS)],
)
def dsn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of this round."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("contract")
        return f"sqlite:///{folder}/jobs.db"
    return str(request.getfixturevalue(_SERVERS[request.param]))


@pytest.fixture
def pipeline() -> str:
    return f"emails-{next(_numbers)}"


@pytest.fixture
def short(queue: Queue) -> float:
    """A short ttr or delay in seconds, as short as the back end can count."""
    return 0.3 if queue.capabilities.subsecond else 2
