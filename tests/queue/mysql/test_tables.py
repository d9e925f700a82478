"""The server's settings and rights, and tables that are not as they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fleet
from fleet.errors import (
    SchemaError,
)
from fleet.queue import Queue
from fleet.queue import dsn as dsns
from tests import servers
from tests.queue.mysql.tools import driver
from tests.queue.verbs import use_all

pytestmark = pytest.mark.server


def test_the_servers_defaults_decide_nothing(pipeline: str):
    """Latin-1, a collation that ignores case, MyISAM, a lax sql_mode, another time zone."""
    flags = (
        "--character-set-server=latin1",
        "--collation-server=latin1_general_ci",
        "--default-storage-engine=MyISAM",
        "--sql-mode=",
        "--default-time-zone=-07:00",
        "--transaction-isolation=REPEATABLE-READ",
    )
    with servers.mariadb(*flags) as server, fleet.connect(server.dsn) as queue:
        queue.put(pipeline, "☃", unique="☃")
        queue.put(pipeline.upper(), 1)
        job = queue.reserve(pipeline)
        assert job is not None
        assert (job.data, job.unique) == ("☃", "☃")
        assert job.waited < 5
        job.bury("naïve ☃")
        assert queue.peek_buried(pipeline).reason == "naïve ☃"  # type: ignore[union-attr]
        connection = driver(server.dsn)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = 'fleet'"
            )
            assert cursor.fetchall() == (("InnoDB",),)
        connection.close()


def test_a_missing_index_is_told_with_the_statement_that_makes_it(open_queue: Callable[..., Queue], db: Any):
    """A copy of the tables may have come without it, and nothing else would tell."""
    queue = open_queue(prefix="keyless")
    queue.put("emails", 1)
    assert not any("index" in note for note in queue.info().notes)
    for key in ("turn", "unique_key"):
        db.execute(f"ALTER TABLE keyless_jobs DROP KEY {key}")
        (note,) = [note for note in queue.info().notes if "index" in note]
        said, mend = note.splitlines()
        assert f"{key} is missing" in said
        db.execute(mend)
        assert not any("index" in note for note in queue.info().notes)


@pytest.mark.parametrize(("flush", "level"), [(1, "power"), (2, "server"), (0, "process")])
def test_the_durability_that_is_in_force_is_told(queue: Queue, db: Any, flush: int, level: str):
    """P19: what innodb_flush_log_at_trx_commit really says."""
    db.execute("SELECT @@innodb_flush_log_at_trx_commit")
    (before,) = db.fetchall()[0]
    db.execute(f"SET GLOBAL innodb_flush_log_at_trx_commit = {flush}")
    try:
        info = queue.info()
    finally:
        db.execute(f"SET GLOBAL innodb_flush_log_at_trx_commit = {before}")
    assert (info.backend, info.durability) == ("mariadb", level)
    assert bool(info.notes) == (flush != 1)


def test_a_table_that_loses_jobs_is_refused(mariadb_dsn: str, db: Any):
    fleet.connect(mariadb_dsn, prefix="lossy").close()
    db.execute("ALTER TABLE lossy_jobs ENGINE = MyISAM")
    with pytest.raises(SchemaError, match=r"MyISAM.*ALTER TABLE lossy_jobs ENGINE = InnoDB"):
        fleet.connect(mariadb_dsn, prefix="lossy")


def test_a_table_that_is_gone_is_told_and_not_made_anew(mariadb_dsn: str, db: Any):
    """An empty one in its place would hide what was lost; the others stay as they are."""
    with fleet.connect(mariadb_dsn, prefix="partial") as queue:
        queue.pause("emails", 600)
    db.execute("RENAME TABLE partial_jobs TO partial_elsewhere")
    with fleet.connect(mariadb_dsn, prefix="partial") as queue:
        with pytest.raises(SchemaError, match=r"_jobs' doesn't exist .* fleet queue migrate$"):
            queue.reserve("emails")
        for verb in (queue.migrate, queue.info):
            with pytest.raises(SchemaError, match=r"partial_jobs is gone.*fleet queue migrate --sql"):
                verb()
    db.execute("SHOW TABLES LIKE 'partial%'")
    assert ("partial_jobs",) not in db.fetchall()
    db.execute("RENAME TABLE partial_elsewhere TO partial_jobs")
    with fleet.connect(mariadb_dsn, prefix="partial") as queue:
        assert queue.migrate() == (1, 1)
        assert queue.stats("emails").paused > 500


def test_somebody_elses_table_is_left_alone(mariadb_dsn: str, db: Any):
    db.execute("CREATE TABLE taken_jobs (id INT PRIMARY KEY, body TEXT)")
    with pytest.raises(SchemaError, match="not fleet's"):
        fleet.connect(mariadb_dsn, prefix="taken")
    db.execute("DESCRIBE taken_jobs")
    assert len(db.fetchall()) == 2


def test_a_missing_right_is_told_as_the_grant_that_mends_it(mariadb_dsn: str, queue: Queue, db: Any):
    db.execute("CREATE USER IF NOT EXISTS poor@'127.0.0.1' IDENTIFIED BY 'p'")
    db.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON fleet.* TO poor@'127.0.0.1'")
    at = dsns.parse(mariadb_dsn)
    poor = f"mysql://poor:p@{at.host}:{at.port}/fleet"
    with pytest.raises(SchemaError, match=r"GRANT .*CREATE.* ON `fleet`\.\* TO 'poor'@'127\.0\.0\.1'"):
        fleet.connect(poor, prefix="poor")
    with fleet.connect(poor) as able:  # *queue* has made the tables: it needs no more
        use_all(able)


def test_tables_of_a_newer_fleet_are_refused(mariadb_dsn: str, db: Any):
    fleet.connect(mariadb_dsn, prefix="newer").close()
    db.execute("UPDATE newer_meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(SchemaError, match="99"):
        fleet.connect(mariadb_dsn, prefix="newer")
