"""
What only a server can refuse, D10 and D11, and who it is: TLS, S11.

Two private servers that take no connection over TCP without TLS.  Their
certificate is for "localhost", so 127.0.0.1 is another name; 127.0.0.2 stands
for another host, whose connections are to be verified.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psycopg
import pymysql
import pytest

import fleet
from fleet.errors import BackendUnavailable, DsnError
from tests import servers
from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says
from tests.chaos.possible import faketime_library
from tests.waiting import eventually

HBA = """\
local all all trust
hostssl all fleet 127.0.0.0/8 trust
hostssl all ada 127.0.0.0/8 scram-sha-256
hostssl all bob,carl 127.0.0.0/8 trust
"""


def missing(why: str) -> NoReturn:
    """Skip the test, but not in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}. Nothing may be skipped when CI=true.", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """A folder with a certificate for localhost, another that nobody has, and the server's key."""
    if not shutil.which("openssl"):
        missing("openssl is not installed: apt-get install openssl")
    folder = Path(tempfile.mkdtemp(prefix="fleet-tls-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        for name in ("server", "other"):
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                    *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
                    *("-addext", "subjectAltName=DNS:localhost"),
                    *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"),
                ],
                check=True,
                capture_output=True,
                timeout=30,
            )
        shutil.copy(folder / "server.crt", folder / "good.crt")
        (folder / "hba.conf").write_text(HBA)
        yield folder
    finally:
        shutil.rmtree(folder)


def key_for(user: str, certificates: Path) -> Path:
    """The private key as *user* alone may read it; where we are not root, the server runs as we do."""
    key = certificates / f"{user}.key"
    shutil.copy(certificates / "server.key", key)
    key.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(key, user)
    return key


@pytest.fixture(scope="module")
def tls_postgres(certificates: Path, postgres_dsn: str) -> Iterator[servers.Server]:
    with servers.postgres(
        "ssl=on",
        f"ssl_cert_file={certificates}/server.crt",
        f"ssl_key_file={key_for('postgres', certificates)}",
        f"hba_file={certificates}/hba.conf",
        "listen_addresses=127.0.0.1,127.0.0.2",
    ) as server:
        with psycopg.connect(
            host=str(server.folder), port=server.port, user="fleet", dbname="postgres"
        ) as db:
            db.execute("CREATE ROLE ada LOGIN PASSWORD 'right'")
            db.execute("CREATE ROLE bob LOGIN CONNECTION LIMIT 0")
        yield server


@pytest.fixture
def bouncer(tls_postgres: servers.Server, certificates: Path) -> Iterator[servers.Server]:
    """A PgBouncer in front of it, with three databases that it cannot get into."""
    users = certificates / "users"
    users.write_text('"fleet" "right"')
    place = f"host=127.0.0.1 port={tls_postgres.port}"
    with contextlib.ExitStack() as stack:
        try:
            pooler = servers.pgbouncer(
                tls_postgres,
                "auth_type = md5",
                f"auth_file = {users}",
                "server_tls_sslmode = require",
                "[databases]",
                f"gone = {place} dbname=gone user=fleet",
                f"noone = {place} dbname=postgres user=carl",
                "away = host=127.0.0.1 port=1 dbname=postgres user=fleet",
            )
            server = stack.enter_context(pooler)
        except servers.NotInstalled as error:
            missing(str(error))
        yield server


@pytest.fixture(scope="module")
def tls_mariadb(certificates: Path, mariadb_dsn: str) -> Iterator[servers.Server]:
    with servers.mariadb(
        f"--ssl-cert={certificates}/server.crt",
        f"--ssl-key={key_for('mysql', certificates)}",
        "--require-secure-transport=ON",
        "--bind-address=127.0.0.1,127.0.0.2",
    ) as server:
        yield server


def refusal(dsn: str) -> str:
    """What is said by a connection that must not come about; one line, in time."""
    began = time.monotonic()
    with pytest.raises(DsnError) as caught:
        fleet.connect(dsn)
    assert caught.value.exit_code == 4
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def works(dsn: str) -> tuple[str, ...]:
    """A job goes through; what a person should know about the connection."""
    with fleet.connect(dsn) as queue:
        queue.put("emails", 1)
        job = queue.reserve("emails")
        assert job is not None
        job.delete()
        return tuple(note for note in queue.info().notes if "not verified" in note)


def test_s11_postgresql_is_who_its_certificate_says(tls_postgres: servers.Server, certificates: Path) -> None:
    """S11, D10: sslmode and sslrootcert; a file that is named is used, whatever libpq's default is."""
    base = f"{tls_postgres.port}/postgres"
    trusted = f"sslrootcert={certificates}/server.crt"
    assert works(f"postgresql://fleet@localhost:{base}?sslmode=verify-full&{trusted}") == ()
    assert works(f"postgresql://fleet@localhost:{base}?{trusted}") == ()
    assert works(f"postgresql://fleet@127.0.0.1:{base}?sslmode=verify-ca&{trusted}") == ()
    assert works(f"postgresql://fleet@127.0.0.1:{base}") == ()  # it does not leave this host
    assert len(works(f"postgresql://fleet@127.0.0.2:{base}?sslmode=require")) == 1
    assert "does not match host name" in refusal(f"postgresql://fleet@127.0.0.1:{base}?{trusted}")
    other = f"sslmode=verify-ca&sslrootcert={certificates}/other.crt"
    assert "certificate verify failed" in refusal(f"postgresql://fleet@127.0.0.1:{base}?{other}")
    nowhere = refusal(f"postgresql://fleet@127.0.0.1:{base}?sslrootcert=/no/such.crt")
    assert '"/no/such.crt" does not exist' in nowhere
    assert "no encryption" in refusal(f"postgresql://fleet@127.0.0.1:{base}?sslmode=disable")


def test_s11_mariadb_is_who_its_certificate_says(
    tls_mariadb: servers.Server, mariadb_dsn: str, certificates: Path
) -> None:
    """S11, D10: ssl_ca; nobody is spoken to without TLS, or tried again for five seconds."""
    base = f"{tls_mariadb.port}/fleet"
    trusted = f"ssl_ca={certificates}/server.crt"
    assert works(f"mysql://fleet@127.0.0.1:{base}?{trusted}") == ()
    assert works(f"mysql://fleet@127.0.0.1:{base}") == ()  # it asks for TLS, so TLS it is
    assert len(works(f"mysql://fleet@127.0.0.2:{base}")) == 1
    assert "IP address mismatch" in refusal(f"mysql://fleet@127.0.0.2:{base}?{trusted}")
    other = refusal(f"mysql://fleet@127.0.0.1:{base}?ssl_ca={certificates}/other.crt")
    assert "ssl_ca does not vouch for this server" in other
    assert "certificate verify failed" in other
    for path, words in (("/no/such.crt", "No such file"), ("/etc/passwd", "it holds no certificate")):
        with pytest.raises(DsnError, match=f"ssl_ca={path}: {words}"):
            fleet.connect(f"mysql://fleet@127.0.0.1:{base}?ssl_ca={path}")
    assert "ssl_ca does not vouch" in refusal(f"{mariadb_dsn}?{trusted}")  # a server that has no TLS


@contextlib.contextmanager
def expired(certificates: Path) -> Iterator[None]:
    """The file of both servers' certificate, and of those that are trusted, holds one of last month."""
    library = faketime_library()
    if library is None:
        missing("libfaketime is not installed: apt-get install faketime")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-key", certificates / "server.key", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-out", certificates / "server.crt"),
        ],
        env={**os.environ, "LD_PRELOAD": library, "FAKETIME": "-30d"},
        check=True,
        capture_output=True,
        timeout=30,
    )
    try:
        yield
    finally:
        shutil.copy(certificates / "good.crt", certificates / "server.crt")


def shown_by(server: servers.Server) -> str:
    """The certificate that a PostgreSQL server presents now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(struct.pack("!ii", 8, 80877103))  # SSLRequest
        assert link.recv(1) == b"S"
        with context.wrap_socket(link) as encrypted:
            return ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"")


def test_d10_an_expired_certificate_is_refused(
    tls_postgres: servers.Server, tls_mariadb: servers.Server, certificates: Path
) -> None:
    """D10, S11: in one line, though its name is right and its key is the one that we trust."""
    trusted = f"{certificates}/server.crt"
    postgres = f"postgresql://fleet@localhost:{tls_postgres.port}/postgres?sslrootcert={trusted}"
    mariadb = f"mysql://fleet@localhost:{tls_mariadb.port}/fleet?ssl_ca={trusted}"

    def reload() -> None:
        os.kill(tls_postgres.pid, signal.SIGHUP)
        unverified = {"check_hostname": False}
        with (
            pymysql.connect(host="127.0.0.1", port=tls_mariadb.port, user="fleet", ssl=unverified) as db,
            db.cursor() as cursor,
        ):
            cursor.execute("FLUSH SSL")
        eventually(lambda: shown_by(tls_postgres) == Path(trusted).read_text())

    with expired(certificates):
        reload()
        assert "certificate verify failed" in refusal(postgres)
        assert "certificate has expired" in refusal(mariadb)
    reload()
    assert works(postgres) == works(mariadb) == ()


def test_d10_postgresql_refuses_in_one_line(tls_postgres: servers.Server) -> None:
    """D10: a wrong password, a user and a database that are not there; the password is not repeated."""
    base = f"127.0.0.1:{tls_postgres.port}"
    wrong = refusal(f"postgresql://ada:hunter2@{base}/postgres")
    assert 'password authentication failed for user "ada"' in wrong
    assert "hunter2" not in wrong
    assert "no password supplied" in refusal(f"postgresql://ada@{base}/postgres")
    assert 'database "shop" does not exist' in refusal(f"postgresql://fleet@{base}/shop")
    assert 'role "carl" does not exist' in refusal(f"postgresql://carl@{base}/postgres")
    assert "no pg_hba.conf entry" in refusal(f"postgresql://eve@{base}/postgres")


def test_d10_a_full_postgresql_is_waited_for(tls_postgres: servers.Server) -> None:
    """Exit 6: there may be room again in a second, and a worker is to be there then."""
    with pytest.raises(BackendUnavailable, match='too many connections for role "bob"'):
        fleet.connect(f"postgresql://bob@127.0.0.1:{tls_postgres.port}/postgres")


def test_d10_behind_pgbouncer_a_refusal_is_told_apart_from_an_outage(bouncer: servers.Server) -> None:
    """D10: whoever says no, the pooler or the server behind it; a server that is away may come back."""
    at = f"postgresql://fleet:right@127.0.0.1:{bouncer.port}"
    assert "password authentication failed" in refusal(at.replace("right", "wrong") + "/postgres")
    assert "no such database" in refusal(f"{at}/shop")
    assert 'database "gone" does not exist' in refusal(f"{at}/gone")
    assert 'role "carl" does not exist' in refusal(f"{at}/noone")
    with pytest.raises(BackendUnavailable, match="no connection"):
        fleet.connect(f"{at}/away?connect_timeout=1")


def test_d10_mysql_refuses_a_database_that_is_not_there(mariadb_dsn: str) -> None:
    """D10: at once, and with its name."""
    with pytest.raises(DsnError, match="Unknown database 'shop'"):
        fleet.connect(f"{mariadb_dsn.rpartition('/')[0]}/shop")


def test_d11_a_standby_is_named_and_works_once_promoted(
    tls_postgres: servers.Server, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """D11: exit 6, and nothing is tried that a standby must refuse; after a fail-over the DSN works."""
    dsn = f"postgresql://fleet@127.0.0.1:{tls_postgres.port}/postgres"
    works(dsn)
    tls_postgres.stop()
    (tls_postgres.folder / "data" / "standby.signal").touch()
    tls_postgres.start()
    world.manifest.write_text(MANIFEST.replace("[defaults]", f'[queue]\ndsn = "{dsn}"\n[defaults]'))
    for line in (["jobs", "put", "emails", "{}"], ["jobs", "list", "emails"], ["queue", "migrate"]):
        said = fleet_says(capsys, "--yes", *line)
        assert_refused(said, 6, dsn, "is a standby in recovery", "name the primary")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("SELECT pg_promote()")
    assert works(dsn) == ()
