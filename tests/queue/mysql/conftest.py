"""What only the MySQL back end has to prove."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.queue.mysql.tools import driver

_numbers = itertools.count(1)


@pytest.fixture
def pipeline() -> str:
    return f"mysql-{next(_numbers)}"


@pytest.fixture
def db(mariadb_dsn: str) -> Iterator[Any]:
    connection = driver(mariadb_dsn)
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.fixture
def dsn(mariadb_dsn: str) -> str:
    return mariadb_dsn
