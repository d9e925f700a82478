"""The embedded back end."""

from fleet.queue.backends.sqlite.backend import SqliteBackend
from fleet.queue.backends.sqlite.clock import Clock

__all__ = ["Clock", "SqliteBackend"]
