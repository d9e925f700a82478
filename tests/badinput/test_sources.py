"""
Bad data source names and servers, D1 to D17; names in SQL and tubes, Q1 to Q8.

Each DSN is tried beside a fleet at work: `fleet apply --yes` with it changes
nothing.  What only a server can say is asked of real ones in tests/queue:
see `tests.badinput.rows`.
"""

from __future__ import annotations

import socket
import time

import pytest

import fleet
from fleet.errors import BackendUnavailable
from fleet.queue.names import check_pipeline, check_prefix
from tests.badinput.world import MANIFEST, World, assert_refused, fleet_says

LONG = "a" * 64

# What stands behind dsn =, and the words of the report.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "D1 no scheme": ("jobs.db", ("expected a DSN such as",)),
    "D1 unknown scheme": ("redis://h", ("expected a DSN such as",)),
    "D1 one slash": ("sqlite:/x", ('"sqlite:///jobs.db" (beside the manifest)',)),
    "D2 port 0": ("mysql://h:0/d", ("the port is not a number between 1 and 65535",)),
    "D2 port 70000": ("postgresql://h:70000/d", ("the port is not a number",)),
    "D2 port abc": ("beanstalkd://h:abc", ("the port is not a number",)),
    "D2 a password with a slash": ("mysql://u:hunter2/x@h/d", ("an @ stands behind the host", "%2F")),
    "D4 a line break": (r"mysql://h/d\r\n", ("no control characters",)),
    "D4 a NUL, encoded": ("sqlite:///a%00b", ("contains a control character",)),
    "D4 a line break, encoded": ("mysql://h/a%0d%0ab", ("contains a control character",)),
    "D5 options of libpq": (
        "postgresql://h/d?options=-c%20fsync=off",
        ("postgresql has no option 'options'",),
    ),
    "D5 local_infile": ("mysql://h/d?local_infile=1", ("mysql has no option 'local_infile'",)),
    "D5 init_command": ("mysql://h/d?init_command=DROP", ("mysql has no option 'init_command'",)),
    "D5 nolock": ("sqlite:///x.db?nolock=1", ("sqlite has no option 'nolock'",)),
    "D5 sslmode": ("postgresql://h/d?sslmode=verify", ("expected one of disable,", "verify-full")),
    "D5 no durability": ("sqlite:///x.db?synchronous=off", ("expected one of full, normal, extra",)),
    "D5 time-out": ("mysql://h/d?connect_timeout=nan", ("expected seconds between 0 and 3600",)),
    "D5 users of beanstalkd": ("beanstalkd://u@h", ("beanstalkd has no users",)),
    "D7 in memory": ("sqlite:///:memory:", ("cannot be shared by processes",)),
    "D7 mode=memory": ("sqlite:///x?mode=memory", ("cannot be shared by processes",)),
    "D7 a folder": ("sqlite:////tmp", ("E013 /tmp is a directory",)),
    "D7 no parent": ("sqlite:////no/such/x.db", ("E013 the folder of the queue, /no/such, does not exist",)),
    "Q1 a statement": ("mysql://h/d?prefix=jobs;%20DROP%20TABLE%20x", ("table prefix 'jobs; DROP TABLE x'",)),
    "Q1 quotes": ("postgresql://h/d?prefix=a%22b", ("table prefix 'a\"b'",)),
    "Q1 backtick": ("mysql://h/d?prefix=a%60b", ("table prefix 'a`b'",)),
    "Q1 a NUL": ("mysql://h/d?prefix=a%00b", ("contains a control character",)),
    "Q2 64 characters": (f"postgresql://h/d?prefix={LONG}", ("up to 40 of the characters",)),
    "Q4 a schema": ("postgresql://h/d?prefix=a.b", ("table prefix 'a.b'",)),
    "Q5 upper case": ("mysql://h/d?prefix=Jobs", ("a-z 0-9 _",)),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_address_changes_nothing(row: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 4, the line and column of the DSN, and no process was moved to it."""
    dsn, words = ROWS[row]
    world.manifest.write_text(MANIFEST.replace("[defaults]", f'[queue]\ndsn = "{dsn}"\n[defaults]'))
    assert_refused(fleet_says(capsys, "--yes", "apply"), 4, "fleet.toml:3:7", *words)


@pytest.mark.parametrize("name", ["a\r\ndelete 1", "a b", "-a", "ä", "a" * 201, "", "a\0", 'a"b', "a'b", "%"])
def test_q7_q8_a_name_that_some_server_would_misread(name: str) -> None:
    """Q7, Q8: no byte of it is sent; the contract suite says so for each server."""
    with pytest.raises(ValueError, match="pipeline name"):
        check_pipeline(name)


@pytest.mark.parametrize(
    "name", ["jobs; DROP TABLE x", "a.b", "Jobs", "1a", "a" * 41, "", "a\n", "ä", "a`", 'a"']
)
def test_q1_only_plain_names_reach_sql(name: str) -> None:
    """Q1 to Q5: also with a connection of one's own."""
    with pytest.raises(ValueError, match="table prefix"):
        check_prefix(name)


def test_d16_a_black_hole_is_given_up_in_time() -> None:
    """D16: a server that takes the connection and says nothing costs the connect time-out, no more."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        address = f"127.0.0.1:{hole.getsockname()[1]}"
        for dsn in (
            f"mysql://u@{address}/d?connect_timeout=1",
            f"postgresql://u@{address}/d?connect_timeout=1",
            f"beanstalkd://{address}?connect_timeout=1",
        ):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=address.partition(":")[0]):
                fleet.connect(dsn)
            assert time.monotonic() - began < 10  # 1 or 2 s on an idle machine


@pytest.mark.parametrize("port", ["mysql", "postgresql", "beanstalkd"])
def test_d16_a_refused_connection_is_exit_6(
    port: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """D16: one line with the address, and how the jobs are is not guessed."""
    with socket.socket() as silent:  # nobody else gets its port, and it takes no connection
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        tail = {"beanstalkd": "", "mysql": "/d?connect_timeout=0.2"}.get(port, "/d")
        text = f'[queue]\ndsn = "{port}://{address}{tail}"\n[defaults]'
        world.manifest.write_text(MANIFEST.replace("[defaults]", text))
        assert_refused(fleet_says(capsys, "jobs", "list", "emails"), 6, address)
