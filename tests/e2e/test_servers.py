"""The private servers of the test suite are real, and leave nothing behind."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import greenstalk
import psutil
import psycopg
import pymysql
import pytest

from tests import servers
from tests.waiting import eventually

pytestmark = pytest.mark.server


def mysql(dsn: str) -> pymysql.connections.Connection:
    url = urlsplit(dsn)
    return pymysql.connect(host=url.hostname, port=url.port, user=url.username, database=url.path[1:])


def test_postgres_answers_at_its_url(postgres_dsn):
    """The DSN of the fixture is all a driver needs."""
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT 40 + 2").fetchone() == (42,)


def test_mariadb_answers_at_its_url(mariadb_dsn):
    """The DSN of the fixture is all a driver needs, and its database is there."""
    with mysql(mariadb_dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 40 + 2, database(), @@version")
        answer, database, version = cursor.fetchone()
    assert (answer, database) == (42, "fleet")
    assert "MariaDB" in version


def test_beanstalkd_answers_at_its_url(beanstalkd_dsn):
    """The DSN of the fixture is all a client needs."""
    url = urlsplit(beanstalkd_dsn)
    with greenstalk.Client((url.hostname, url.port), encoding=None) as client:
        client.use("servers-test")
        job = client.put(b"hello")
        assert client.peek(job).body == b"hello"
        client.delete(client.peek(job))


@pytest.mark.slow
def test_what_a_durable_server_promised_survives_its_sudden_death():
    """kill() and start() keep port and data: tests of power cuts stand on this."""
    with servers.postgres(durable=True) as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE promised AS SELECT 7 AS seven")
        server.kill()
        server.start()
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT seven FROM promised").fetchone() == (7,)

    with servers.mariadb(durable=True) as server:
        with mysql(server.dsn) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE promised (seven INT) ENGINE=InnoDB")
            cursor.execute("INSERT INTO promised VALUES (7)")
            connection.commit()
        server.kill()
        server.start()
        with mysql(server.dsn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT seven FROM promised")
            assert cursor.fetchone() == (7,)

    with servers.beanstalkd(durable=True) as server:
        with greenstalk.Client(("127.0.0.1", server.port)) as client:
            client.put("promised")
        server.kill()
        server.start()
        with greenstalk.Client(("127.0.0.1", server.port)) as client:
            assert client.reserve(timeout=0).body == "promised"


@pytest.mark.slow
def test_leaving_the_block_ends_the_server_and_removes_its_folder():
    """Nothing of a private server outlives its block, also after an error in it."""
    pids, folders = [], []
    for start in (servers.postgres, servers.mariadb, servers.beanstalkd):
        with pytest.raises(ZeroDivisionError), start() as server:
            pids.append(server.pid)
            folders.append(server.folder)
            raise ZeroDivisionError
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_test_run_that_is_cut_short_leaves_no_server_running(sent, tmp_path):
    """Fixtures end their servers on SIGTERM; on SIGKILL the kernel does."""
    slow = tmp_path / "test_slow.py"
    slow.write_text(
        "import time\n"
        "def test_slow(postgres_dsn, mariadb_dsn, beanstalkd_dsn):\n"
        "    print('all up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider", str(slow)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any("all up" in line for line in run.stdout)
    family = psutil.Process(run.pid).children(recursive=True)
    folders = set()
    for process in family:
        with contextlib.suppress(psutil.Error):  # a helper of a server that has done its work
            folders.add(Path(*Path(process.cwd()).parts[:3]))  # /tmp/fleet-…; some servers move to data/
    assert len(folders) == 3

    run.send_signal(sent)
    run.communicate(timeout=60)

    eventually(lambda: not any(p.is_running() for p in family))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
