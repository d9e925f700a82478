"""Moving a store's time forward without waiting: every stored instant is moved back instead."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fleet.queue import dsn as dsns
from tests import drivers

_SHIFT = (
    "UPDATE fleet_jobs SET run_at = run_at - {us}, "
    "deadline = CASE state WHEN 2 THEN deadline - {us} ELSE deadline END WHERE pipeline LIKE '{pattern}'",
    "UPDATE fleet_pipelines SET paused_until = paused_until - {us} WHERE name LIKE '{pattern}'",
)
# What is ready or due is remembered there by those who claim, and jobs that come back say so.
_MYSQL_SAYS_SO = (
    "INSERT INTO fleet_pipelines (name, returns) SELECT DISTINCT pipeline, 1 FROM fleet_jobs "
    "WHERE pipeline LIKE '{pattern}' ON DUPLICATE KEY UPDATE returns = returns + 1"
)


def can_advance(dsn: str) -> bool:
    return not dsn.startswith("beanstalkd")


def advance(dsn: str, pattern: str, seconds: float) -> None:
    """Make *seconds* pass for the pipelines whose name is LIKE *pattern*, over a connection of its own."""
    run = _RUNNERS[dsns.parse(dsn).scheme]
    shift = (*_SHIFT, _MYSQL_SAYS_SO) if run is _mysql else _SHIFT
    run(dsn, [statement.format(us=round(seconds * 1e6), pattern=pattern) for statement in shift])


def _sqlite(dsn: str, statements: list[str]) -> None:
    db = drivers.connect(dsn, timeout=5, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def _postgresql(dsn: str, statements: list[str]) -> None:
    with drivers.connect(dsn, autocommit=True) as db:
        for statement in statements:
            db.execute(statement)


@functools.cache  # a new connection costs ten times what the statements do
def _mysql_connection(dsn: str) -> Any:
    return drivers.connect(dsn, autocommit=True)


def _mysql(dsn: str, statements: list[str]) -> None:
    with _mysql_connection(dsn).cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


_RUNNERS: dict[str, Callable[[str, list[str]], None]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
}
