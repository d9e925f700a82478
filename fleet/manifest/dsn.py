"""The little that a manifest must know about a DSN: its kind, its file, its password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

SCHEMES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "beanstalkd", "beanstalk")
EXAMPLES = (
    'such as "sqlite:///jobs.db" (beside the manifest), "sqlite:////srv/jobs.db", '
    '"postgresql://user@host/database", "mysql://user@host/database" or "beanstalkd://127.0.0.1:11300"'
)
# Everything from the user's colon to the last @: a slash in a password should be %2F, and often is not.
_PASSWORD = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+]*://[^/?#:@\s]*):(?P<password>[^?#\s]*)@")
_WORD = re.compile(r"[^\s'\"]+")
_COLON = re.compile(r":(?!//)")


def is_sqlite(dsn: str) -> bool:
    return dsn.lower().startswith("sqlite:")


def absolute(dsn: str, root: Path) -> str:
    """
    The same DSN, a relative SQLite path made absolute from *root*.

    Raises:
        ValueError: not a DSN, or a database that two processes cannot share.
    """
    scheme, found, rest = dsn.partition("://")
    if not found or scheme.lower() not in SCHEMES:
        raise ValueError(f"expected a DSN {EXAMPLES}, got {hidden(dsn)!r}")
    if any(ord(c) < 32 or ord(c) == 127 for c in dsn):
        raise ValueError("a DSN holds no control characters")
    if not is_sqlite(dsn):
        return dsn
    path, mark, query = rest.partition("?")
    path = path.removeprefix("/")
    if not path:
        raise ValueError('sqlite needs a file, such as "sqlite:///jobs.db"')
    if ":memory:" in path or "mode=memory" in query:
        raise ValueError("a database in memory cannot be shared by processes; name a file")
    if not path.startswith("/"):
        path = f"{quoted_path(root)}/{path}"
    return f"sqlite:///{path}{mark}{query}"


def quoted_path(path: Path) -> str:
    """A path as it stands in a DSN: only what would end it is encoded."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def file_of(dsn: str) -> Path:
    """The file of an absolute SQLite DSN."""
    return Path(unquote(dsn.removeprefix("sqlite:///").partition("?")[0]))


def has_password(dsn: str) -> bool:
    found = _PASSWORD.search(dsn)
    return found is not None and bool(found["password"]) and not is_sqlite(dsn)


def has_written_password(raw: str) -> bool:
    """Whether the password stands in the text itself, rather than in a ${VARIABLE}."""
    found = _PASSWORD.search(raw)
    return found is not None and bool(found["password"]) and not found["password"].startswith("${")


def hidden(text: str) -> str:
    """*text* with what stands where a DSN has its password replaced by ***."""
    return _WORD.sub(_hide, text)  # word by word: one pattern over all of it would be quadratic


def _hide(word: re.Match[str]) -> str:
    text = word[0]
    end = text.rfind("@")
    start = _COLON.search(text, 0, max(end, 0))
    return text if start is None else f"{text[: start.start()]}:***{text[end:]}"


def with_password(dsn: str, password: str) -> str:
    """The DSN with *password* put behind its user, percent-encoded."""
    scheme, _, rest = dsn.partition("://")
    authority, slash, tail = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user = login.partition(":")[0] if at else ""
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}{slash}{tail}"
