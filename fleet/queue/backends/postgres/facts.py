"""What the server tells about itself: the durability in force, and rights that are missing."""

from __future__ import annotations

import time

from fleet.queue.backend import clock_ahead
from fleet.queue.backends.postgres.session import Session

_OLD_TRANSACTION = 300  # seconds

_SETTINGS = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
        current_setting('server_version'),
        (SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend'
                AND backend_xmin IS NOT NULL)"""


def durability(session: Session) -> tuple[str, str, list[str]]:
    """The level that a put has, the server's version, and what a person should know."""
    row = session.cursor.execute(_SETTINGS).fetchall()[0]
    fsync, full_pages, commit, standbys, version, oldest = row
    notes = []
    level = "power"
    if commit == "off":
        notes.append("synchronous_commit is off on this server; fleet turns it on for each put.")
        commit = "on"
    if fsync == "off":
        level = "process"
        notes.append("fsync is off: a crash of the machine can take every job. Set fsync = on.")
    elif full_pages == "off":
        level = "server"
        notes.append("full_page_writes is off: a power cut can damage the tables. Set full_page_writes = on.")
    elif standbys and commit != "local":
        level = "replicated"
        if commit == "remote_write":
            notes.append("synchronous_commit is remote_write: the standby has the job in memory only.")
    if (oldest or 0) > _OLD_TRANSACTION:
        notes.append(
            f"A transaction has been open for {oldest / 60:.0f} minutes: until it ends, "
            "the rows of finished jobs cannot be removed, and tables grow."
        )
    return level, version, notes


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
