"""Any text as a DSN: only the documented errors, no password in them, no file but the one that is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st

import fleet
from fleet.errors import BackendUnavailable, DsnError, QueueError
from fleet.queue.backends import check_dsn
from fleet.queue.dsn import SCHEMES

MANY = settings(
    max_examples=int(os.environ.get("FLEET_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = st.lists(
    st.one_of(
        st.sampled_from([*":/?&=@%[]#\\ \t\n\0\x7f*.~'\"", "%00", "%0a", "%2F", "%zz", "://", "..", "::1"]),
        st.sampled_from(["prefix=", "connect_timeout=", "sslmode=", "synchronous="]),
        st.sampled_from([":memory:", "mode=memory"]),
        st.characters(),  # surrogates too: what a byte that is not UTF-8 becomes in an argument
        st.text(max_size=5),
        st.just("x" * 300),
    ),
    max_size=8,
).map("".join)
SCHEME = st.sampled_from([*SCHEMES, "MySQL", "redis", "", "sqlite+x"])
# What people use; long and odd enough to be found in a message by nothing but a leak.
PASSWORD = st.text("hunterHUNTER2/?#@:% &=+é☃", min_size=3).map(lambda text: f"Zq{text}qZ")


@MANY
@given(text=st.one_of(PIECES, st.builds("{}://{}".format, SCHEME, PIECES)))
def test_any_text_is_a_dsn_or_is_refused_in_words(text: str) -> None:
    """Nothing else is raised, and what is said can be printed after one pass of the terminal's filter."""
    try:
        parsed = check_dsn(text)
    except DsnError as error:
        event("refused")
        assert str(error).startswith("DSN: ")
        assert len(str(error)) < 600
    else:
        event(parsed.scheme)
        assert all(ord(c) >= 32 for c in str(parsed))


@MANY
@given(
    scheme=SCHEME.filter(lambda scheme: not scheme.startswith("sqlite")),  # a path has no password
    password=PASSWORD,
    is_quoted=st.booleans(),
    user=st.sampled_from(["ada", "", "a%20b"]),
    tail=st.sampled_from(
        ["@h:1/shop", "@h:0/shop", "@127.0.0.1:x/", "@127.0.0.1:1/d?nope=1", "@", "", "@/", "/d"]
    ),
)
@example(scheme="mysql", password="Zq/2qZ", is_quoted=False, user="ada", tail="@127.0.0.1:1/shop")
@example(scheme="mysql", password="Zq2qZ", is_quoted=False, user="ada", tail="")
@example(scheme="", password="Zq:2qZ", is_quoted=False, user="ada", tail="@127.0.0.1")
def test_no_message_shows_any_part_of_a_password(
    scheme: str, password: str, is_quoted: bool, user: str, tail: str
) -> None:
    """Also not of one that stands there unquoted, where a / would end the host, or without its @host."""
    written = quote(password, safe="") if is_quoted else password
    assume("@" in tail or "@" not in written)  # where no host follows, nobody can tell that it is no host
    dsn = f"{scheme}://{user}:{written}{tail}" if scheme else f"{user}:{written}{tail}"
    try:
        said = str(check_dsn(dsn)) + repr(check_dsn(dsn))
    except DsnError as error:
        said = str(error)
    assert "Zq" not in said
    assert "qZ" not in said


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which a path ends up however often it says `..`, and every file below it."""
    folder = tmp_path_factory.mktemp("root") / "a" / "b" / "c"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@MANY
@given(path=PIECES, options=st.sampled_from(["", "?synchronous=normal", "?synchronous=off", "?x=1"]))
def test_a_file_is_made_where_it_is_named_and_nowhere_else(deep: Path, path: str, options: str) -> None:
    """Its -wal and -shm beside it; a refused name makes nothing."""
    root = deep.parents[2]
    dsn = f"sqlite:///{deep}/{path}{options}"
    try:
        named = check_dsn(dsn).database
    except DsnError:
        named = ""
    assume(not named or root in Path(os.path.normpath(named)).parents)
    made = False
    with suppress(QueueError):
        fleet.connect(dsn).close()
        made = True
    event("made" if made else "refused")
    files = {found for found in root.rglob("*") if not found.is_dir()}
    for file in files:
        file.unlink()
    if made:
        assert files == {Path(os.path.normpath(named))}
    else:
        assert files <= {Path(os.path.normpath(named))}


@MANY
@given(
    scheme=st.sampled_from(["postgresql", "mysql", "beanstalkd"]),
    user=PIECES,
    database=PIECES,
    option=st.sampled_from(["", "sslmode=verify-full", "ssl_ca=/no/such", "unix_socket=/no/such"]),
)
def test_an_address_where_nobody_is_says_so(scheme: str, user: str, database: str, option: str) -> None:
    """Whatever stands around it: refused by us, or by the kernel."""
    timeout = "connect_timeout=1" if scheme == "postgresql" else "connect_timeout=0.01"
    login = f"{user}:Zq2qZ@" if scheme != "beanstalkd" else ""
    dsn = f"{scheme}://{login}127.0.0.1:1/{database if login else ''}?{timeout}&{option}".replace("/?", "?")
    with pytest.raises((DsnError, BackendUnavailable)) as caught:
        fleet.connect(dsn)
    event(f"{scheme}: {type(caught.value).__name__}")
    assert "Zq2qZ" not in str(caught.value)
