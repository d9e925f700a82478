"""Checks that every argument passes once, before any byte is sent to a server."""

from __future__ import annotations

import re

from fleet.queue.job import MAX_PRIORITY, Settlement

# The tube names of beanstalkd's protocol, so that a pipeline can move between back ends.
_PIPELINE = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_TEN_YEARS = 10 * 365 * 86400
_MAX_ID = 2**63 - 1
_NUMBERS = (int, float)  # made once: ``int | float`` in a check would be built anew each time
_known: set[str] = set()  # names that passed: a hot path puts to the same few again and again


def check_pipeline(name: str) -> str:
    """Raises ValueError unless *name* is 1 to 200 of ``A-Za-z0-9-+/;.$_()`` and does not start with "-"."""
    if name in _known:
        return name
    if not isinstance(name, str) or not _PIPELINE.fullmatch(name):
        raise ValueError(
            f"pipeline name {str(name)[:80]!r}: expected 1 to 200 of the characters "
            'A-Z a-z 0-9 - + / ; . $ _ ( ), not starting with "-"'
        )
    if len(_known) < 10_000:
        _known.add(name)
    return name


def check_prefix(name: str) -> str:
    """
    A table prefix is the only name that is ever written into SQL text.

    Raises:
        ValueError: not lower-case letters, digits and underscores, or over 40 characters.
    """
    if not isinstance(name, str) or not _PREFIX.fullmatch(name):
        raise ValueError(
            f"table prefix {str(name)[:80]!r}: expected up to 40 of the characters a-z 0-9 _, "
            "starting with a letter or an underscore"
        )
    return name


def check_priority(priority: int) -> int:
    """Raises ValueError unless *priority* is a whole number from 0 to 4294967295."""
    if type(priority) is not int or not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(
            f"priority: expected a whole number from 0 (most urgent) to {MAX_PRIORITY}, got {priority!r}"
        )
    return priority


def check_delay(delay: float, what: str = "delay") -> float:
    """Raises ValueError unless *delay* is between 0 seconds and ten years."""
    if isinstance(delay, bool) or not isinstance(delay, _NUMBERS) or not 0 <= delay <= _TEN_YEARS:
        raise ValueError(f"{what}: expected seconds between 0 and ten years, got {delay!r}")
    return delay


def check_ttr(ttr: float) -> float:
    """Raises ValueError unless *ttr* is more than 0 seconds and at most ten years."""
    if isinstance(ttr, bool) or not isinstance(ttr, _NUMBERS) or not 0 < ttr <= _TEN_YEARS:
        raise ValueError(f"ttr: expected more than 0 seconds and at most ten years, got {ttr!r}")
    return ttr


def check_id(job_id: int) -> int:
    """Raises ValueError unless *job_id* is a whole number that some server could have given."""
    if type(job_id) is not int or not 0 <= job_id <= _MAX_ID:
        raise ValueError(f"job id: expected a whole number from 0 to {_MAX_ID}, got {str(job_id)[:40]}")
    return job_id


def check_uid(uid: object) -> bytes:
    """16 bytes of a `bytes` or `uuid.UUID`; raises ValueError on anything else."""
    raw = getattr(uid, "bytes", uid)
    if not isinstance(raw, bytes) or len(raw) != 16:
        raise ValueError(f"uid: expected 16 bytes or a uuid.UUID, got {uid!r}")
    return raw


def check_unique(key: str | None) -> str | None:
    """Raises ValueError unless *key* is None or text of 1 to 255 characters without NUL."""
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= 255 or "\0" in key):
        raise ValueError(f"unique: expected 1 to 255 characters, got {str(key)[:80]!r}")
    return key


def check_reason(reason: str) -> str:
    """Raises ValueError unless *reason* is text."""
    if not isinstance(reason, str):
        raise ValueError(f"reason: expected text, got {reason!r}; say str() of it")
    return reason


def check_settlement(settlement: Settlement) -> Settlement:
    """Raises ValueError for what `release` and `bury` would refuse."""
    if settlement.verb not in ("delete", "release", "bury"):
        raise ValueError(f"verb: expected delete, release or bury, got {settlement.verb!r}")
    check_delay(settlement.delay)
    if settlement.priority is not None:
        check_priority(settlement.priority)
    check_reason(settlement.reason)
    return settlement
