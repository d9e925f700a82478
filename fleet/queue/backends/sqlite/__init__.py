"""The embedded back end."""

from fleet.queue.backends.sqlite.backend import Clock, SqliteBackend

__all__ = ["Clock", "SqliteBackend"]
