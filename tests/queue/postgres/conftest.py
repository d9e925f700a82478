"""What only PostgreSQL has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import fleet
from fleet.queue import Queue
from tests.proxy import Proxy

_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """Tables of this test alone."""
    return f"t{next(_prefixes)}"


@pytest.fixture
def dsn(postgres_dsn: str, prefix: str) -> str:
    return f"{postgres_dsn}?prefix={prefix}&application_name={prefix}"


@pytest.fixture
def admin(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection, in autocommit mode."""
    with psycopg.connect(postgres_dsn, autocommit=True) as db:
        yield db


@pytest.fixture
def proxy(postgres_dsn: str) -> Iterator[Proxy]:
    with Proxy(int(postgres_dsn.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy, prefix: str, queue: Queue) -> Iterator[Queue]:
    """A queue whose connections `proxy` can break; warm, so that no statement is prepared any more."""
    with fleet.connect(f"postgresql://fleet@127.0.0.1:{proxy.port}/postgres?prefix={prefix}") as shaky:
        for number in range(2):
            shaky.put("lukewarm", number)  # the first rings the bell, which is another statement
        shaky.put_many("warm", range(60))
        jobs = shaky.reserve_many("warm", 3)
        shaky.settle(deleted=jobs[:1], buried=jobs[1:2])
        shaky.reserve_many("warm", 1, settle=jobs[2:])
        for verb in ("delete", "release", "bury", "touch"):
            shaky.put("warm", 1, priority=1)
            shaky.put("warm", 2, priority=0, unique=verb)
            for job in shaky.reserve_many("warm", 2):
                getattr(job, verb)()
        shaky.kick("warm")
        shaky.stats("warm")
        yield shaky
