"""What goes wrong with a statement: codes of the server and the driver, by what a caller may do."""

from __future__ import annotations

from fleet.errors import BackendUnavailable, PayloadTooLarge, QueueError, SchemaError

_DENIED = (1142, 1143, 1227, 1044)
_CLASH = (1205, 1213, 1020)  # lock wait, deadlock, and MariaDB's snapshot conflict
# Gone away, lost, killed, shut down, and the server's own word for "you were idle for too long".
# 1180 is a commit that failed, as on a Galera node that loses its cluster.
_LOST = (
    0,
    2006,
    2013,
    2014,
    2055,
    1053,
    1077,
    1079,
    1080,
    1152,
    1158,
    1159,
    1160,
    1161,
    1180,
    1184,
    1927,
    3169,
    4031,
)
_GONE_AWAY = 2006  # PyMySQL's code for: the packet did not leave this host whole, so nobody has acted on it


class Lost(Exception):
    """The connection broke.  `maybe`: a commit was on its way, so the transaction may have happened."""

    def __init__(self, message: str, *, maybe: bool, unsent: bool) -> None:
        super().__init__(message)
        self.maybe = maybe
        self.unsent = unsent


class Clash(Exception):
    """A deadlock or a lock that was waited for too long: the whole transaction may be run again."""


class Duplicate(Exception):
    """A unique index has the value already; the statement changed nothing."""


def translated(error: Exception, where: str, *, maybe: bool) -> Exception:
    """
    What to raise for an *error* of the driver.

    *maybe*: a commit was on its way, so that a transaction whose connection broke may have happened.
    """
    code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
    text = words(error)
    if code in _LOST or isinstance(error, OSError | AssertionError) or "sequence number" in text:
        return Lost(text, maybe=maybe, unsent=code in (0, _GONE_AWAY))
    if code in _CLASH or code == 1317:  # 1317: somebody ended the statement, and only that
        return Clash(text)
    if code in (1062, 1586):
        return Duplicate(text)
    if code in (1153, 1301):
        return PayloadTooLarge(f"{where}: {text}")
    if code in _DENIED:
        return SchemaError(f"{where}: {text}")
    if code in (1021, 1114, 1030, 1836, 1290, 1792, 1047):
        # No space, table full, storage, read-only, a Galera node alone: nothing was done, it may be mended.
        return BackendUnavailable(f"{where}: {text}")
    if code == 1146:
        return SchemaError(
            f"{where}: {text}. Create fleet's tables, or see what is missing: fleet queue migrate"
        )
    return QueueError(f"{where}: {text}")


def words(error: Exception) -> str:
    """The server's own words, without the tuple that PyMySQL prints."""
    if len(error.args) > 1:
        return f"{error.args[1]} ({error.args[0]})"
    return str(error) or type(error).__name__
