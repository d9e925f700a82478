"""
Every error that fleet raises on purpose.

    FleetError                       exit code
    ├── ManifestError                    4   fleet.toml cannot be used; carries every problem found
    ├── RenderError                      4   a value that supervisord's files cannot carry
    ├── SecretError                      4   a secret that the manifest names cannot be read
    ├── QueueError                       6
    │   ├── BackendUnavailable           6   the server does not answer; nothing happened
    │   │   └── BackendBusy              6   it answers, but a lock could not be had in time
    │   ├── PutUnknown                   7   the connection died when the server may have stored the job
    │   ├── OutcomeUnknown               7   the same for any other verb; repeating it is safe
    │   ├── JobNotFound                  6   no such job, or not in the state the verb needs
    │   ├── LeaseLost                    6   the job may be someone else's by now; nothing was changed
    │   ├── PayloadError                 2   not JSON, and not bytes
    │   ├── PayloadTooLarge              2   more bytes than the back end takes
    │   ├── UidConflict                  6   the uid is stored already, with another payload
    │   ├── DsnError                     4   a data source name that cannot be used, or is refused
    │   ├── SchemaError                  6   tables missing, too old or too new
    │   │   └── NoTables                 6   nobody has made them yet
    │   └── NotSupported                 6   this back end cannot do that, and does not pretend
    ├── SupervisorError                  5
    │   ├── SupervisorUnavailable        5   no answer at the socket, in time
    │   ├── BadReply                     5   an answer that is not XML-RPC as supervisord speaks it
    │   ├── SupervisorFault              5   a fault with supervisord's own number
    │   └── ProcessNotFound              2   no process or pipeline of that name
    ├── PartlyDone                       7   something was done, and something failed: both are listed
    └── Refused                          8   needs --yes, another run holds the lock, or unsafe permissions

A caller's slip, such as a negative delay, is a plain `ValueError`.
Exit codes are stable: scripts rely on them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass


class FleetError(Exception):
    """Base of all of them; `exit_code` is what the command line ends with."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding in a manifest: where, what, and what to do next."""

    code: str  # stable, such as "E003"; W… are warnings
    message: str
    key: str = ""  # dotted path, such as "pipelines.emails.numprocs"
    line: int = 0  # from 1; 0 when the finding has no place in the file
    column: int = 0  # from 1
    width: int = 1  # characters to underline
    hint: str = ""
    file: str = ""  # the file it stands in, when that is not the manifest itself
    text: str = ""  # that line, to underline the place

    @property
    def is_warning(self) -> bool:
        return self.code.startswith("W")


class ManifestError(FleetError):
    """fleet.toml cannot be used.  `problems` holds every finding, sorted by line."""

    exit_code = 4

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(
                f"{p.file or path}:{p.line}:{p.column}: {p.code} {p.message}"
                if p.line
                else f"{p.file or path}: {p.code} {p.message}"
                for p in self.problems
            )
        )


class RenderError(FleetError):
    """A value that no supervisord configuration file can carry."""

    exit_code = 4


class SecretError(FleetError):
    """A secret is not where the manifest says, or is no text."""

    exit_code = 4


class QueueError(FleetError):
    exit_code = 6


class BackendUnavailable(QueueError):
    """The server does not answer, and nothing of the call took effect."""


class BackendBusy(BackendUnavailable):
    """The server answers, but a lock could not be had in time; try again."""


class PutUnknown(QueueError):
    """
    The connection died when the server may already have stored the job, or part of a `put_many` is stored.

    `uid` names the job: on SQL back ends `put(..., uid=error.uid)` stores it
    at most once.  `uids` holds one per payload after `put_many`.  On SQLite,
    where only a disk error leaves it open, there are none.
    """

    exit_code = 7

    def __init__(self, message: str, uids: Sequence[bytes] = ()) -> None:
        super().__init__(message)
        self.uids = tuple(uids)

    @property
    def uid(self) -> bytes | None:
        return self.uids[0] if self.uids else None


class OutcomeUnknown(QueueError):
    """The connection died in the middle of a verb; doing it again is safe."""

    exit_code = 7


class JobNotFound(QueueError):
    """No such job, or it is not in the state that the verb needs."""


class LeaseLost(QueueError):
    """The lease is over and the job may be someone else's.  Nothing was changed."""


class PayloadError(QueueError):
    """The payload is neither bytes nor a JSON value."""

    exit_code = 2


class PayloadTooLarge(QueueError):
    """The payload has more bytes than the back end takes; nothing was sent."""

    exit_code = 2


class UidConflict(QueueError):
    """A job with this uid is stored already, and its payload is another one."""


class DsnError(QueueError):
    """A data source name that cannot be used, or that its server refuses; its password is never told."""

    exit_code = 4


class SchemaError(QueueError):
    """The queue's tables are missing, too old, or newer than this fleet."""


class NoTables(SchemaError):
    """Nobody has made the queue's tables yet, or its file: it holds no job."""


class NotSupported(QueueError):
    """This back end cannot do that, and does not pretend to."""


class SupervisorError(FleetError):
    exit_code = 5


class SupervisorUnavailable(SupervisorError):
    """supervisord gave no answer in time, or nobody listens."""


class BadReply(SupervisorError):
    """The answer is not XML-RPC as supervisord speaks it."""


class SupervisorFault(SupervisorError):
    """supervisord refused; `code` is its own fault number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProcessNotFound(SupervisorError):
    """No process or pipeline has that name."""

    exit_code = 2


class PartlyDone(FleetError):
    """Something was done and something failed; the message lists both."""

    exit_code = 7


class Refused(FleetError):
    """Not done: it needs --yes, another run holds the lock, or permissions are unsafe."""

    exit_code = 8


def limit_hit(error: BaseException) -> str:
    """Which limit of this process or machine *error* speaks of, in words; "" when of none."""
    number = error.errno if isinstance(error, OSError) else 0
    if number == errno.EMFILE:
        most = os.sysconf("SC_OPEN_MAX")  # an import of `resource` would open a file
        return f"this process may not open more than {most} files (ulimit -n)"
    if number == errno.ENFILE:
        return "this machine can open no more files (sysctl fs.file-max)"
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return "no more processes or threads can be had here (ulimit -u, TasksMax=, or memory)"
    if number == errno.ENOMEM or isinstance(error, MemoryError):
        return "no more memory can be had here (ulimit -v, MemoryMax=)"
    return ""
