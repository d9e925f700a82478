"""Data source names: sqlite:///jobs.db, postgresql://user@host/db, mysql://…, beanstalkd://host:11300."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.errors import DsnError

SCHEMES = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "beanstalkd": "beanstalkd",
    "beanstalk": "beanstalkd",
}
_EXAMPLES = (
    "Use sqlite:///jobs.db (relative), sqlite:////srv/jobs.db (absolute), postgresql://user@host/database, "
    "mysql://user@host/database or beanstalkd://127.0.0.1:11300"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """A DSN taken apart.  `str()` and `repr()` never show the password."""

    scheme: str  # sqlite postgresql mysql beanstalkd
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    database: str = ""  # the file of sqlite, the database of SQL servers
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str, default: str | None = None) -> str | None:
        return dict(self.options).get(name, default)

    def __str__(self) -> str:
        if self.scheme == "sqlite":
            return f"sqlite:///{self.database}"
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        host = self.host or ""
        if ":" in host:
            host = f"[{host}]"
        tail = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{user}{host}{port}{tail}"


def parse(text: str) -> Dsn:
    """
    Take a DSN apart.

    Raises:
        DsnError: no scheme, an unknown one, a bad port, a control character, an @ that ends no password.
            No part of it that may be the password is in the message.
    """
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise DsnError("DSN: contains a control character")
    scheme, found, rest = text.partition("://")
    kind = SCHEMES.get(scheme.lower())
    if not found or kind is None:
        raise DsnError(f"DSN: expected a scheme such as postgresql://, got {_head(text)!r}. {_EXAMPLES}")
    rest, _, query = rest.partition("?")
    options = tuple(_option(part) for part in query.split("&") if part)
    if kind == "sqlite":
        # Three slashes are relative and four are absolute, as everywhere else; two start the path itself.
        path = _plain(rest[1:] if rest.startswith("/") else rest)
        if not path:
            raise DsnError(f"DSN: sqlite needs a file. {_EXAMPLES}")
        return Dsn(scheme=kind, database=path, options=options)
    authority, _, database = rest.partition("/")
    if "@" in database or "@" in query:
        # Taken as it is, half of the password would be the name of a host, and be shown.
        raise DsnError(
            "DSN: an @ stands behind the host. In a password or a name write / ? # @ as %2F %3F %23 %40"
        )
    login, at, address = authority.rpartition("@")
    user, colon, password = login.partition(":")
    host, port = _address(address)
    if kind == "beanstalkd" and (at or database):
        raise DsnError("DSN: beanstalkd has no users and no databases: beanstalkd://host:port")
    return Dsn(
        scheme=kind,
        user=_plain(user) or None,
        password=_unquote(password) if colon else None,
        host=_plain(host) or None,
        port=port,
        database=_plain(database),
        options=options,
    )


def _address(address: str) -> tuple[str, int | None]:
    if address.startswith("["):
        host, _, tail = address[1:].partition("]")
        port = tail.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    if not port:
        return host, None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        # It may be the beginning of a password: u:secret/…, or u:secret where @host was forgotten.
        raise DsnError("DSN: the port is not a number between 1 and 65535")
    return host, int(port)


def _option(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return _plain(name), _plain(value)


def _plain(text: str) -> str:
    """Percent-decoded; what would end a line or a C string is as wrong encoded as it is written out."""
    text = _unquote(text)
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise DsnError("DSN: contains a control character")
    return text


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # a third of the import time of a SQLite worker; needed for few DSNs

    return unquote(text)


def _head(text: str) -> str:
    """What may be shown of a text that is no DSN: a password can stand behind any colon, and before any @."""
    head, colon, _ = text.rpartition("@")[2].partition(":")
    return f"{'***@' if '@' in text else ''}{head[:60]}{'…' if colon or head[60:] else ''}"
