"""beanstalkd only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fleet
from fleet.queue import Queue
from tests import servers
from tests.queue.beanstalkd.tools import Liar


@pytest.fixture
def own() -> Iterator[servers.Server]:
    """A server of the test's own, in memory, to be stopped and started again."""
    with servers.beanstalkd() as server:
        yield server


@pytest.fixture
def dsn(beanstalkd_dsn: str) -> str:
    return beanstalkd_dsn


@pytest.fixture
def pipeline(request: pytest.FixtureRequest) -> str:
    return f"bs-{request.node.name.partition('[')[0][:100]}"


@pytest.fixture
def proxied(own: servers.Server) -> Iterator[tuple[Queue, Liar]]:
    """A queue that speaks through a proxy."""
    with Liar(own.port) as proxy, fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}") as queue:
        queue.put("warm-up", 1)  # the first put of a connection asks for more than the others
        yield queue, proxy
