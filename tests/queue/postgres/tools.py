"""What several of these tests use."""

from __future__ import annotations

from fleet.queue import Queue
from fleet.queue.backends.postgres import PostgresBackend


def backend(queue: Queue) -> PostgresBackend:
    assert isinstance(queue.backend, PostgresBackend)
    return queue.backend


def process(queue: Queue) -> int:
    """The server's process behind the queue's connection."""
    live = backend(queue)._runner._session
    assert live is not None
    return live.db.info.backend_pid
