"""Fixtures that every test may use: one private server of each kind for the whole run, and queues."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import fleet
from fleet.queue import Queue
from tests import servers

SERVERS = ("postgres_dsn", "mariadb_dsn", "beanstalkd_dsn")
_untested: dict[str, str] = {}  # what -> why, told at the end of the run

# Both judge how busy the machine is, which is no property of the program.
settings.register_profile("fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleet")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A private PostgreSQL, as postgresql://…; its user is a superuser."""
    with _server("PostgreSQL", servers.postgres) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def mariadb_dsn() -> Iterator[str]:
    """A private MariaDB, as mysql://…; its user may create databases."""
    with _server("MariaDB", servers.mariadb) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def beanstalkd_dsn() -> Iterator[str]:
    """A private beanstalkd that syncs its log before every answer, as beanstalkd://…"""
    with _server("beanstalkd", lambda: servers.beanstalkd(durable=True)) as dsn:
        yield dsn


@contextlib.contextmanager
def _server(
    what: str, start: Callable[[], contextlib.AbstractContextManager[servers.Server]]
) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(start())
        except servers.NotInstalled as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing}. Nothing may be skipped when CI=true.", pytrace=False)
            _untested[what] = str(missing)
            pytest.skip(str(missing))
        yield server.dsn


@pytest.fixture
def open_queue(dsn: str) -> Iterator[Callable[..., Queue]]:
    """Opens queues, in the store that the module's own *dsn* names if no other is given; closes them all."""
    opened: list[Queue] = []

    def another(elsewhere: str = "", **options: Any) -> Queue:
        opened.append(fleet.connect(elsewhere or dsn, **options))
        return opened[-1]

    yield another
    for each in opened:
        each.close()


@pytest.fixture
def queue(open_queue: Callable[..., Queue]) -> Queue:
    return open_queue()


@pytest.fixture
def rival(open_queue: Callable[..., Queue]) -> Queue:
    """A second connection to the same store: the other worker of each story."""
    return open_queue()


def pytest_configure(config: pytest.Config) -> None:
    # Without a handler SIGTERM would end the run before its fixtures end their servers.
    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    # A shell has what it runs in the background ignore Ctrl-C, and so would everything that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark each test that asks for a server, so that ``-m "not server"`` leaves it out.

    FLEET_TEST_SERVERS=none skips them all: what `bootstrap.sh test --sqlite-only` sets.
    """
    none_wanted = os.environ.get("FLEET_TEST_SERVERS") == "none"
    for item in items:
        if set(SERVERS) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
        if none_wanted and item.get_closest_marker("server"):
            _untested["every server but SQLite"] = "FLEET_TEST_SERVERS=none"
            item.add_marker(pytest.mark.skip(reason="FLEET_TEST_SERVERS=none"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _untested:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for what, why in _untested.items():
            terminalreporter.line(f"{what}: {why}", red=True)
