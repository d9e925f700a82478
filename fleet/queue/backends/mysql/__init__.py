"""The back end over MySQL 8.0 and MariaDB 10.6, and anything newer of both."""

from fleet.queue.backends.mysql.backend import MysqlBackend

__all__ = ["MysqlBackend"]
