"""Errors grouped by cause, so that 23 failures with one cause are one line.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

BURIED, RETRIED, TIMEOUT, CRASHED = "buried", "retried", "timeout", "crashed"
ANY = "#"  # stands in a cause for what differs from job to job
KEPT = 24 * 3600  # seconds that a group is kept after its last error
MAX_CAUSE = 160  # characters, as in the tables
MAX_PLACE = 120
MAX_SAMPLE = 400
MOST = 50  # groups that one process tells of at once; the rest is counted together
OTHERS = "(other causes)"

# Compiled by `re` at the first error: 5 ms that a start need not wait for.
_VARIES = r"""
    [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}    # a UUID
    | \b0x[0-9a-f]+                                                   # an address
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                    # whose mail
    | \b(?=[a-f]*\d)[0-9a-f]{8,}\b                                    # a digest
    | (?<![^\W\d])\d+(?:[.,:]\d+)*                                    # a number, a time; not the 8 of utf8
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """
    Attempts that ended in the same way for the same cause.

    Workers write how many there were since they last wrote; what is read is
    the sum, and how long ago the first and the last one were.
    """

    pipeline: str
    kind: str  # buried retried timeout crashed: how the attempts ended
    cause: str  # "KeyError: 'TZ'", "#" for what differs
    place: str  # "jobs/reports.py:14 build", "" where nobody knows
    count: int = 1
    job: int = 0  # id of the newest one
    sample: str = ""  # its message as it was
    first: float = 0.0  # seconds ago, by the server's clock
    last: float = 0.0


def error_from_row(
    pipeline: str, kind: str, cause: str, place: str, count: int, job: int, sample: str, first: int, last: int
) -> ErrorGroup:
    """A row as every SQL back end reads it; *first* and *last* are microseconds ago."""
    return ErrorGroup(
        pipeline=pipeline,
        kind=kind,
        cause=cause,
        place=place,
        count=count,
        job=job,
        sample=sample,
        first=max(0.0, first / 1e6),
        last=max(0.0, last / 1e6),
    )


def normalise(text: str) -> str:
    """One line, with "#" for numbers, ids and mail addresses: "row 17" and "row 18" are one cause."""
    return re.sub(_VARIES, ANY, " ".join(text.split()), flags=re.VERBOSE | re.IGNORECASE)[:MAX_CAUSE]


def pattern(cause: str) -> str:
    """The cause as the filter of `fleet jobs kick --error`, in which % stands for anything."""
    return cause.replace(ANY, "%")


def merge(groups: Iterable[ErrorGroup]) -> list[ErrorGroup]:
    """Groups of several processes as one list without repetition."""
    found: dict[tuple[str, str, str, str], ErrorGroup] = {}
    for group in groups:
        key = (group.pipeline, group.kind, group.cause, group.place)
        other = found.get(key)
        if other is None:
            found[key] = group
            continue
        newest = group if group.last <= other.last else other
        found[key] = replace(
            newest,
            count=group.count + other.count,
            first=max(group.first, other.first),
            last=min(group.last, other.last),
        )
    return list(found.values())
