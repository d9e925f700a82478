"""Durability, rights, tables that are not as they should be, and odd texts."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    DsnError,
    SchemaError,
)
from fleet.queue import Queue
from tests.queue.postgres.tools import backend
from tests.queue.verbs import use_all

pytestmark = pytest.mark.server


def test_a_put_is_durable_where_the_server_would_not_wait_for_its_disk(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """synchronous_commit is off on this server: a put turns it on for its own transaction, and only there."""
    with psycopg.connect(postgres_dsn) as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
        fleet.connect(connection=db, prefix=prefix).put("emails", 1)
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
        db.commit()
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
    live = backend(queue)._runner._session
    assert live is not None
    assert live.relaxed
    info = queue.info()
    assert info.durability == "process"  # fsync is off in tests
    assert any("fsync is off" in note for note in info.notes)
    assert any("synchronous_commit is off" in note for note in info.notes)


def test_a_missing_index_is_told_with_the_statement_that_makes_it(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """A copy of the tables may have come without it, and nothing else would tell."""
    queue.put("emails", 1)
    assert not any("index" in note for note in queue.info().notes)
    with psycopg.connect(postgres_dsn, autocommit=True) as db:
        db.execute(f"DROP INDEX {prefix}_jobs_reserved")
        (note,) = [note for note in queue.info().notes if "index" in note]
        said, mend = note.splitlines()
        assert f"{prefix}_jobs_reserved is missing" in said
        db.execute(mend)
    assert not any("index" in note for note in queue.info().notes)


def test_a_missing_right_is_told_with_the_grant_that_gives_it(
    queue: Queue, admin: psycopg.Connection[Any], postgres_dsn: str, prefix: str
):
    admin.execute("DROP ROLE IF EXISTS guest")
    admin.execute("CREATE ROLE guest LOGIN")
    guest = postgres_dsn.replace("fleet@", "guest@")
    try:
        with pytest.raises(SchemaError, match='GRANT CREATE, USAGE ON SCHEMA public TO "guest"'):
            fleet.connect(guest + "?prefix=unmade")
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}_jobs"
        with pytest.raises(SchemaError, match=grant) as caught:
            fleet.connect(f"{guest}?prefix={prefix}")
        for statement in str(caught.value).partition("tables that are there: ")[2].split("; "):
            admin.execute(statement.rstrip(";").encode())
        with fleet.connect(f"{guest}?prefix={prefix}") as mine:
            use_all(mine)
    finally:
        admin.execute("DROP OWNED BY guest")
        admin.execute("DROP ROLE guest")


def test_somebody_elses_table_is_left_alone(admin: psycopg.Connection[Any], postgres_dsn: str):
    admin.execute("DROP TABLE IF EXISTS taken_jobs")
    admin.execute("CREATE TABLE taken_jobs (id int PRIMARY KEY, body text)")
    with pytest.raises(SchemaError, match=r'"taken_jobs" already exists, and is not fleet\'s: .*\?prefix='):
        fleet.connect(f"{postgres_dsn}?prefix=taken")
    made = admin.execute("SELECT relname FROM pg_class WHERE relname LIKE 'taken%' AND relkind = 'r'")
    assert made.fetchall() == [("taken_jobs",)]


def test_tables_of_a_newer_fleet_are_refused(queue: Queue, admin: Any, dsn: str, prefix: str):
    admin.execute(f"UPDATE {prefix}_meta SET value = '999'")
    with pytest.raises(SchemaError, match=r"999.*Update fleet"):
        fleet.connect(dsn)


def test_a_table_that_is_gone_is_told_and_not_made_anew(
    queue: Queue, postgres_dsn: str, admin: Any, dsn: str, prefix: str
):
    """An empty one in its place would hide what was lost; the others stay as they are."""
    queue.pause("emails", 600)
    admin.execute(f"ALTER TABLE {prefix}_jobs RENAME TO {prefix}_elsewhere")
    with fleet.connect(dsn) as again:
        with pytest.raises(SchemaError, match=r"_jobs\" does not exist\. .* fleet queue migrate$"):
            again.reserve("emails")
        for verb in (again.migrate, again.info):
            with pytest.raises(SchemaError, match=rf"{prefix}_jobs is gone.*fleet queue migrate --sql"):
                verb()
    assert admin.execute("SELECT to_regclass(%s)", [f"{prefix}_jobs"]).fetchone() == (None,)
    admin.execute(f"ALTER TABLE {prefix}_elsewhere RENAME TO {prefix}_jobs")
    with fleet.connect(dsn) as again:
        assert again.migrate() == (1, 1)
        assert again.stats("emails").paused > 500


def test_tables_made_by_hand_are_taken_as_they_are(admin: psycopg.Connection[Any], dsn: str, prefix: str):
    """The file is one script for psql, version included."""
    from fleet.queue.schema import migrate

    admin.execute(migrate.script("postgresql", 1, prefix).encode())
    with fleet.connect(dsn) as queue:
        assert queue.info().schema_found == 1
        queue.put("emails", 1)


def test_a_reason_is_stored_whatever_is_in_it(queue: Queue):
    """A text that the server cannot store must not keep a job from being buried."""
    queue.put("emails", 1)
    job = queue.reserve("emails")
    assert job is not None
    job.bury("zero \0 half \ud800 naïve ☃ 100% \\ '")
    buried = queue.peek_buried("emails")
    assert buried is not None
    assert buried.reason == "zero \ufffd half ? naïve ☃ 100% \\ '"


@pytest.mark.parametrize("options", ["wakeup=never", "connect_timeout=soon", "connect_timeout=0", "nope=1"])
def test_an_option_that_cannot_be_used_is_refused(options: str):
    with pytest.raises(DsnError, match=options.partition("=")[0]):
        fleet.connect(f"postgresql://ada:secret@127.0.0.1:1/shop?{options}")


def test_a_wrong_address_is_said_at_once_and_without_the_password():
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1/shop") as caught:
        fleet.connect("postgresql://ada:secret@127.0.0.1:1/shop")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 2
