"""What only looks makes nothing: no file, no folder, no table, whoever looks."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pymysql
import pytest

from fleet.queue import dsn as dsns
from tests.cli.command import fleet
from tests.cli.test_doctor import tree

MANIFEST = '[pipelines.emails]\ncommand = "sleep 1000"\n'
LOOKS = (
    "status --once",
    "status --json",
    "status --check",
    "doctor",
    "queue info",
    "why",
    "jobs list emails",
    "jobs show 1",
    "jobs export emails",
    "plan",
    "events",
    "logs",
)
NO_TABLES = "has no tables for fleet yet. Create them with: fleet queue migrate"


@pytest.fixture(params=["beside the manifest", "sqlite", "postgres_dsn", "mariadb_dsn"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A fresh folder, and a queue that nobody has used yet."""
    kind = request.param
    dsn = f"{request.getfixturevalue(kind)}?prefix=unseen" if kind.endswith("_dsn") else "sqlite:///jobs.db"
    text = MANIFEST if kind == "beside the manifest" else f'{MANIFEST}[queue]\ndsn = "{dsn}"\n'
    (tmp_path / "fleet.toml").write_text(text)
    drop_tables(dsn)
    return tmp_path


def tables(dsn: str) -> list[str]:
    """Those of a server that begin with `unseen`."""
    if dsn.startswith("sqlite"):
        return []
    if dsn.startswith("postgresql"):
        with psycopg.connect(dsn.partition("?")[0]) as db:
            return [name for (name,) in db.execute("SELECT relname FROM pg_class WHERE relname ~ '^unseen'")]
    at = dsns.parse(dsn)
    with pymysql.connect(host=at.host, port=at.port, user=at.user, database=at.database) as db:
        cursor = db.cursor()
        cursor.execute("SHOW TABLES LIKE 'unseen%'")
        return [name for (name,) in cursor.fetchall()]


def drop_tables(dsn: str) -> None:
    names = [f"unseen_{name}" for name in ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")]
    statement = f"DROP TABLE IF EXISTS {', '.join(names)}"
    if dsn.startswith("postgresql"):
        with psycopg.connect(dsn.partition("?")[0]) as db:
            db.execute(statement.encode())
    elif dsn.startswith("mysql"):
        at = dsns.parse(dsn)
        with pymysql.connect(host=at.host, port=at.port, user=at.user, database=at.database) as db:
            db.cursor().execute(statement)


def test_a_look_makes_nothing_and_says_what_would(folder: Path) -> None:
    """Root's look at a fresh folder would else leave a `.fleet` there that its owner cannot use."""
    dsn = (folder / "fleet.toml").read_text().partition('dsn = "')[2].rstrip(
        '"\n'
    ) or "sqlite:///.fleet/queue.db"
    before = tree(folder)
    said = {line: fleet(*line.split(), folder=folder) for line in LOOKS}

    assert tree(folder) == before
    assert tables(dsn) == []
    assert {ran.stderr.count("Traceback") for ran in said.values()} == {0}
    assert said["status --once"].returncode == 0
    assert "the queue: no tables yet; create them with: fleet queue migrate" in said["status --once"].stderr
    assert said["status --once"].stdout.splitlines()[1].split()[3:7] == ["0"] * 4
    assert said["jobs list emails"].returncode == 6
    assert NO_TABLES in said["jobs list emails"].stderr
    if dsn.startswith("sqlite"):
        assert "is made by the first fleet up or jobs put" in " ".join(said["doctor"].stdout.split())
    else:
        assert "▲ schema       no tables yet" in said["doctor"].stdout
        assert "fleet queue migrate" in said["doctor"].stdout
        assert "tables    none (this fleet wants 1: fleet queue migrate)" in said["queue info"].stdout

    assert fleet("queue", "migrate", folder=folder).stdout == "tables made, version 1\n"
    assert "nothing to do" in fleet("queue", "migrate", folder=folder).stdout
    assert "the queue" not in fleet("status", "--once", folder=folder).stderr
    drop_tables(dsn)
