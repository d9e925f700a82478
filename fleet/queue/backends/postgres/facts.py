"""What the server tells about itself: the durability in force, and rights that are missing."""

from __future__ import annotations

import time

from fleet.queue.backend import clock_ahead
from fleet.queue.backends.postgres.session import Session
from fleet.queue.schema import migrate

_OLD_TRANSACTION = 300  # seconds

_SETTINGS = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
        current_setting('server_version'),
        extract(epoch FROM clock_timestamp() - oldest.xact_start)::float8, oldest.pid
    FROM (VALUES (1)) AS one LEFT JOIN (
        SELECT pid, xact_start FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND backend_xmin IS NOT NULL
        ORDER BY xact_start LIMIT 1) AS oldest ON true"""
_INDEXES = (
    "SELECT indexname FROM pg_indexes WHERE tablename = %s AND schemaname = ANY (current_schemas(false))"
)


def durability(session: Session) -> tuple[str, str, list[str]]:
    """The level that a put has, the server's version, and what a person should know."""
    row = session.cursor.execute(_SETTINGS).fetchall()[0]
    fsync, full_pages, commit, standbys, version, oldest, pid = row
    notes = []
    level = "power"
    if commit == "off":
        notes.append("synchronous_commit is off on this server; fleet turns it on for each put.")
        commit = "on"
    if fsync == "off":
        level = "process"
        notes.append(f"fsync is off: a crash of the machine can take every job.\n{_set('fsync')}")
    elif full_pages == "off":
        level = "server"
        notes.append(
            f"full_page_writes is off: a power cut can damage the tables.\n{_set('full_page_writes')}"
        )
    elif standbys and commit != "local":
        level = "replicated"
        if commit == "remote_write":
            notes.append(
                "synchronous_commit is remote_write: the standby has the job in memory only.\n"
                + _set("synchronous_commit")
            )
    if (oldest or 0) > _OLD_TRANSACTION:
        notes.append(
            f"A transaction has been open for {oldest / 60:.0f} minutes: until it ends, "
            "the rows of finished jobs cannot be removed, and tables grow.\n"
            f"SELECT pg_terminate_backend({pid});   -- if it was forgotten: it is rolled back"
        )
    return level, version, notes


def _set(name: str) -> str:
    return f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"


def missing_indexes(session: Session, prefix: str) -> list[str]:
    """Notes on those that somebody dropped, or that a copy of the tables was made without."""
    rows = session.cursor.execute(_INDEXES, (f"{prefix}_jobs",)).fetchall()
    return migrate.missing_indexes("postgresql", prefix, (str(row[0]) for row in rows))


def clock(session: Session) -> float:
    """Seconds that the server's clock is ahead of this host's."""
    asked_at = time.time()
    server = session.cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()[0][0]
    return clock_ahead(server, asked_at, time.time())


def privileges(prefix: str, user: str) -> str:
    """The statements that give *user* what fleet needs, for the owner of the schema."""
    user = '"' + user.replace('"', '""') + '"'
    tables = ", ".join(
        f"{prefix}_{name}" for name in ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")
    )
    return (
        f"To make the tables it needs: GRANT CREATE, USAGE ON SCHEMA public TO {user}; "
        f"to use tables that are there: GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {user}; "
        f"GRANT USAGE ON SEQUENCE {prefix}_jobs_id_seq TO {user};"
    )
