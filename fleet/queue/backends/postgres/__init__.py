"""The PostgreSQL back end, over psycopg 3."""

from fleet.queue.backends.postgres.backend import PostgresBackend
from fleet.queue.backends.postgres.session import Door

__all__ = ["Door", "PostgresBackend"]
