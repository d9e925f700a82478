"""
One XML-RPC call to supervisord: a total deadline, a size cap, and errors that say what to do.

The standard library's ServerProxy waits for ever, reads any amount, follows no
deadline across reads and lets a DOCTYPE through.  A socket file can be left
behind, replaced or hung, so every call here is bounded in time and memory, and
whatever is not plain XML-RPC becomes `BadReply`.
"""

from __future__ import annotations

import base64
import errno
import grp
import http.client
import os
import pwd
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.parsers import expat
from xmlrpc.client import Fault, Unmarshaller, dumps

from fleet.errors import BadReply, Refused, SupervisorFault, SupervisorUnavailable

# getAllProcessInfo is about 1.1 kB and 60 elements a process: this is room for 10,000 with long names.
# What an answer may become in memory follows from these: less than 64 MiB.
MAX_BYTES = 16 * 1024 * 1024
MAX_ELEMENTS = 700_000
MAX_DEPTH = 32
_CHUNK = 64 * 1024
_LARGEST_TAG = 256 * 1024  # bytes; expat keeps a tag with all its attributes until it ends
_TAGS = frozenset(
    (
        *("methodResponse", "params", "param", "fault", "value", "array", "data", "struct", "member", "name"),
        *("string", "int", "i4", "boolean", "double", "nil"),
    )
)


class Transport:
    """
    Where a supervisord answers, and how to ask it.

    *url* is `unix:///path/to/supervisor.sock` or `http://host:port`.  *timeout*
    is seconds for a whole call, from connect to the last byte.  Each call opens
    its own connection: supervisord accepts one in well under a millisecond, and
    there is no stale connection to recover from.

    Raises:
        ValueError: the address is neither form.
    """

    def __init__(
        self, url: str, *, username: str | None = None, password: str | None = None, timeout: float = 5.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            # The path is taken as it stands: a socket path may hold '?' or '%'.
            self._path: str | None = url.removeprefix("unix://")
        elif parts.scheme == "http" and parts.hostname and parts.username is None:
            self._path = None
            self._address = (parts.hostname, parts.port or 9001)
        else:
            raise ValueError(
                f"expected unix:///path/to/supervisor.sock or http://host:port without password, got {url!r}"
            )
        self.url = url
        self.timeout = timeout
        self._password_sent = username is not None
        self._headers = {"Content-Type": "text/xml", "User-Agent": "fleet", "Connection": "close"}
        if username is not None:
            pair = f"{username}:{password or ''}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")

    def call(self, method: str, *params: Any, share: int = 1) -> Any:
        """
        The value that *method* returns, as xmlrpc.client's plain Python types.

        *share* is the number of calls that run at once, which together may take what one may.

        Raises:
            SupervisorUnavailable: nobody listens, no permission, wrong password, or no whole answer in time.
            BadReply: an answer that is not XML-RPC as supervisord speaks it.
            SupervisorFault: supervisord refused; `code` is its fault number.
            Refused: the process behind the socket belongs to a stranger.
        """
        body = dumps(params, method).encode("utf-8", "strict")
        connection = _Connection(self, time.monotonic() + self.timeout)
        try:
            connection.request("POST", "/RPC2", body, self._headers)
            # Closed here: with "Connection: close" the response owns the socket, not the connection.
            with connection.getresponse() as response:
                self._check_head(response)
                return self._read(response, share)
        except TimeoutError as error:
            raise SupervisorUnavailable(
                f"supervisord gave no whole answer at {self.url} within {self.timeout:g} s. "
                "It may be stopped, hung or very busy: look at its process and its own log, then try again."
            ) from error
        except http.client.HTTPException as error:
            raise BadReply(
                f"{self.url} does not answer in HTTP ({printable(error)}). Check the address."
            ) from error
        except OSError as error:
            raise SupervisorUnavailable(self._why(error)) from error
        finally:
            connection.close()

    def _check_head(self, response: http.client.HTTPResponse) -> None:
        status = response.status
        if status in (401, 403):
            what = (
                "refuses the user name or the password"
                if self._password_sent
                else "wants a user name and a password"
            )
            raise SupervisorUnavailable(
                f"supervisord at {self.url} {what} ({status}). "
                "Set username and password of [supervisor] to those of its http server section."
            )
        if 300 <= status < 400:
            raise BadReply(
                f"{self.url} answers with a redirect ({status}); fleet follows none. Check the address."
            )
        if status == 500:
            raise BadReply(
                f"supervisord at {self.url} failed inside this call (500). Its own log has the traceback."
            )
        if status != 200:
            raise BadReply(
                f"{self.url} answers with HTTP status {status}; is that supervisord? Check the address."
            )
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise BadReply(
                f"{self.url} answers with content encoding {printable(encoding)}, which was not offered."
            )

    def _read(self, response: http.client.HTTPResponse, share: int) -> Any:
        reply = _Reply(self.url, share)
        while chunk := response.read(_CHUNK):
            reply.feed(chunk)
        return reply.value()

    def _why(self, error: OSError) -> str:
        """What a failed connection means, from the error and from what lies at the path."""
        if self._path is None:
            return (
                f"supervisord does not answer at {self.url} ({error.strerror or error}). "
                "Start it, or check [inet_http_server] port."
            )
        begin = f"supervisord does not answer at {self.url}: "
        try:
            found = os.lstat(self._path)
        except PermissionError:
            return (
                begin + f"this user may not look into its folder ({owner_and_mode(Path(self._path).parent)})."
            )
        except OSError:
            return begin + "there is no such socket. Start supervisord (`fleet up` for a private one)."
        if stat.S_ISLNK(found.st_mode):
            return begin + f"it is a symbolic link ({owner_and_mode(self._path)}). Name the socket itself."
        if not stat.S_ISSOCK(found.st_mode):
            return (
                begin
                + f"that is not a socket ({owner_and_mode(self._path)}). Move it away and start supervisord."
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return begin + (
                f"permission denied ({owner_and_mode(self._path)}). "
                "Set chmod and chown under [unix_http_server] for this user's group."
            )
        if error.errno == errno.ECONNREFUSED:
            return begin + (
                "nobody listens at it: a supervisord that was killed left it behind. Start supervisord again."
            )
        return begin + f"{error.strerror or error}."


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket whose every send and receive ends at one deadline."""

    def __init__(self, transport: Transport, deadline: float) -> None:
        super().__init__("localhost")
        self._transport = transport
        self._deadline = deadline

    def connect(self) -> None:
        path = self._transport._path
        if path is not None:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                # A link could lead anywhere; `_why` tells what it is.
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not a socket")
            self.sock = _Socket(socket.AF_UNIX, self._deadline)
            self.sock.connect(path)
            self._check_peer(path)
            return
        failure: OSError = OSError("the host name has no address")
        for family, _, _, _, address in socket.getaddrinfo(
            *self._transport._address, type=socket.SOCK_STREAM
        ):
            self.sock = _Socket(family, self._deadline)
            try:
                self.sock.connect(address)
                return
            except TimeoutError:
                raise
            except OSError as error:
                self.sock.close()
                failure = error
        raise failure

    def _check_peer(self, path: str) -> None:
        """Nobody but root, this user or the folder's owner may play supervisord to us."""
        if not hasattr(socket, "SO_PEERCRED"):  # Linux only
            return
        raw = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", raw)
        if uid not in {0, os.geteuid(), Path(path).parent.stat().st_uid}:
            raise Refused(
                f"the process behind {path} runs as {user_name(uid)}, who is neither you, nor root, "
                "nor the owner of its folder. Nothing was sent to it."
            )


class _Socket(socket.socket):
    def __init__(self, family: int, deadline: float) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._deadline = deadline

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def connect(self, address: Any) -> None:
        self._arm()
        super().connect(address)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._arm()
        super().sendall(data, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self._arm()  # http.client reads through here, header lines too
        return super().recv_into(buffer, nbytes, flags)


class _Reply:
    """Feeds expat and xmlrpc.client's unmarshaller, within bounds."""

    def __init__(self, url: str, share: int) -> None:
        self._url = url
        self._share = share
        self._size = 0  # bytes that came
        self._chars, self._width = 0, 1  # of text, and the bytes that Python needs for each
        self._depth = 0
        self._elements = 0
        self._target = Unmarshaller()
        self._target.xml(None, None)  # type: ignore[arg-type]  # None: expat hands over text, not bytes
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._check_size(self._size)
        self._guard(chunk, False)
        if self._size - self._parser.CurrentByteIndex > _LARGEST_TAG:
            raise BadReply(f"the answer of {self._url} has a tag that does not end. Check the address.")

    def value(self) -> Any:
        self._guard(b"", True)
        try:
            result = self._target.close()
        except Fault as fault:
            code = fault.faultCode
            if not isinstance(code, int) or not isinstance(fault.faultString, str):
                raise BadReply(f"{self._url} answers with a fault that has no number and text.") from None
            raise SupervisorFault(code, printable(fault.faultString)) from None
        except Exception as error:
            raise BadReply(f"the answer of {self._url} is not XML-RPC ({type(error).__name__}).") from error
        if len(result) != 1:
            raise BadReply(f"the answer of {self._url} holds {len(result)} values instead of one.")
        return result[0]

    def _guard(self, chunk: bytes, final: bool) -> None:
        try:
            self._parser.Parse(chunk, final)
        except BadReply:
            raise
        except expat.ExpatError as error:
            hint = ""
            if error.code == expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]:
                hint = (
                    " It holds control characters, which XML cannot carry: "
                    "set strip_ansi=true under [supervisord], or read the log file itself."
                )
            raise BadReply(f"the answer of {self._url} is not XML ({error}).{hint}") from error
        except Exception as error:  # the unmarshaller trips over odd input in a dozen ways
            raise BadReply(f"the answer of {self._url} is not XML-RPC ({type(error).__name__}).") from error

    def _doctype(self, *_: object) -> None:
        raise BadReply(
            f"the answer of {self._url} has a DOCTYPE, which XML-RPC never needs. Check the address."
        )

    def _check_size(self, size: int) -> None:
        most = MAX_BYTES // self._share
        if size > most:
            raise BadReply(
                f"the answer of {self._url} is larger than {most // 1024**2} MiB; reading stopped."
            )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        most = MAX_ELEMENTS // self._share
        if self._depth > MAX_DEPTH or self._elements > most:
            raise BadReply(
                f"the answer of {self._url} is nested too deep, or has more than {most:,} elements."
            )
        if tag not in _TAGS:
            raise BadReply(f"the answer of {self._url} is not XML-RPC (<{printable(tag, 40)}>).")
        self._target.start(tag, attributes)

    def _text(self, text: str) -> None:
        # One odd character makes a whole text two or four times as wide.
        if not text.isascii():
            self._width = max(self._width, 4 if max(text) > "\uffff" else 2)
        self._chars += len(text)
        self._check_size(self._chars * self._width)
        self._target.data(text)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._target.end(tag)


def printable(value: object, limit: int = 400) -> str:
    """Foreign text made safe for one line of an error message."""
    text = str(value)
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def owner_and_mode(path: str | Path) -> str:
    """ "0700, root:root", or "not readable"."""
    try:
        found = os.lstat(path)
    except OSError:
        return "not readable"
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    return f"{stat.S_IMODE(found.st_mode):04o}, {user_name(found.st_uid)}:{group}"


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
