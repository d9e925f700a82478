"""A connection of the driver itself, made as an application makes its own."""

from __future__ import annotations

import sqlite3
from typing import Any

from fleet.queue import dsn as dsns


def connect(dsn: str, **options: Any) -> Any:
    """The driver's own defaults apply, so nothing is in autocommit mode unless *options* say so."""
    at = dsns.parse(dsn)
    if at.scheme == "sqlite":
        return sqlite3.connect(at.database, **options)
    if at.scheme == "postgresql":
        import psycopg

        return psycopg.connect(dsn, **options)
    if at.scheme == "mysql":
        import pymysql

        there = {"host": at.host, "port": at.port, "user": at.user, "database": at.database}
        return pymysql.connect(**{**there, **options})
    import greenstalk

    return greenstalk.Client((at.host, at.port), encoding=None, **options)
