"""Opening a connection of our own: what is encrypted, whom it trusts, and which refusals are final."""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from fleet.errors import DsnError
from fleet.queue.backends.mysql.mishaps import words
from fleet.queue.dsn import Dsn

WRITE_SECONDS = 15.0  # for what cannot be sent: the server reads nothing
LOOPBACK = ("", "localhost", "127.0.0.1", "::1")

_REFUSED = (1044, 1045, 1049, 1130, 1698, 3118, 4151)  # user, password, database, host: waiting will not help
_MAY_WANT_TLS = (3159, 1045)  # MariaDB calls it access denied, as it does a wrong password
_NO_TLS = 2026  # PyMySQL's code for: the server has none, and it was asked for


def dial(dsn: Dsn, seconds: float) -> Any:
    """
    A PyMySQL connection that takes several statements at once, with autocommit on.

    Raises DsnError for a certificate file that cannot be used, else what PyMySQL raises.
    """
    socket = dsn.option("unix_socket")
    host = dsn.host or "localhost"
    connect = partial(
        pymysql.connect,
        host=host,
        port=dsn.port or 3306,
        unix_socket=socket,
        user=dsn.user,
        password=(dsn.password or "").encode(),  # as text it would have to be latin-1
        database=dsn.database or None,
        charset="utf8mb4",
        autocommit=True,
        local_infile=False,
        client_flag=CLIENT.MULTI_STATEMENTS,
        connect_timeout=seconds,
        read_timeout=seconds,  # until it has greeted: PyMySQL's connect_timeout is for the port alone
        write_timeout=WRITE_SECONDS,
        program_name="fleet",
    )
    is_local = bool(socket) or host in LOOPBACK
    if authority := dsn.option("ssl_ca"):
        return connect(ssl=_trust(authority, check_name=not is_local))
    if not is_local:
        return connect()  # encrypted when the server can, but it could be anybody's: see `describe`
    try:
        return connect(ssl_disabled=True)  # never leaves the host, and TLS takes 25 ms to begin
    except (RuntimeError, pymysql.OperationalError) as error:
        # MySQL's login may want TLS, or a package for RSA that is not here.
        if isinstance(error, pymysql.OperationalError) and error.args[0] not in _MAY_WANT_TLS:
            raise
        return connect()


def refusal(error: Exception) -> str:
    """Why waiting will not mend that a connection did not open; "" when it may."""
    code = error.args[0] if error.args else 0
    if code in _REFUSED:
        return words(error)
    if isinstance(error, RuntimeError):  # PyMySQL asks for a package that the server's login needs
        return str(error)
    # Not every ssl.SSLError: a server that dies in the middle of a handshake gives one too.
    cause = getattr(error, "original_exception", None)
    if code == _NO_TLS or isinstance(cause, ssl.SSLCertVerificationError):
        return f"ssl_ca does not vouch for this server: {words(error)}"
    return ""


def _trust(authority: str, *, check_name: bool) -> ssl.SSLContext:
    """A context that takes no certificate but those of the file *authority*; raises DsnError."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate"
        raise DsnError(f"DSN: ssl_ca={authority}: {reason}") from error
    context.check_hostname = check_name
    return context
