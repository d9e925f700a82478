"""
What one worker process did for one pipeline in one minute, and the arithmetic over such rows.  Pure.

Times are kept as 24 logarithmic buckets: 4 ms and below, then each twice as
wide as the one before, and everything above 4 h 39 m in the last.  A quantile
read from them is right within its bucket; adding buckets loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

BUCKETS = 24
_UNIT = 250  # buckets per second at the fine end: the first border lies at 1/250 s = 4 ms
BORDERS: tuple[float, ...] = tuple(
    2**index / _UNIT for index in range(BUCKETS - 1)
)  # upper ends, seconds; the last is open
EMPTY = (0,) * BUCKETS

KEPT = 2 * 3600  # seconds that rows are kept
MINUTE = 60


def bucket(seconds: float) -> int:
    """Which bucket a time belongs to."""
    return min(int(seconds * _UNIT).bit_length(), BUCKETS - 1)


def add(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Two histograms as one."""
    return tuple(map(sum, zip(left, right, strict=True)))


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """
    Seconds that *share* of the jobs (0.95 for p95) did not exceed; None of nothing.

    Within a bucket jobs are taken to lie evenly.  The last bucket has no upper
    end: what falls into it counts as its lower end, so "at least".
    """
    total = sum(buckets)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(buckets):
        if count and below + count >= rank:
            low = BORDERS[index - 1] if index else 0.0
            high = BORDERS[index] if index < len(BORDERS) else low
            return low + (high - low) * max(0.0, rank - below) / count
        below += count
    return BORDERS[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """
    One row.  A process writes it again every few seconds until the minute is over.

    `held` is sampled once, when the row begins, by one process of a pipeline.
    """

    pipeline: str
    minute: int  # Unix time // 60, by the worker's clock
    process: str  # host, supervisord's name and pid: nobody else writes this row
    began: float = 0.0  # Unix time from which it counts
    done: int = 0  # deleted, their work is over
    failed: int = 0  # attempts that ended in an error
    buried: int = 0
    crashed: int = 0  # came from a worker that vanished
    retried: int = 0  # given back for another attempt
    busy: float = 0.0  # seconds in handlers
    waits: tuple[int, ...] = EMPTY  # from "could have run" to "reserved"
    runs: tuple[int, ...] = EMPTY  # in the handler
    held: int | None = None  # jobs that were ready, delayed or reserved when it began
    ready: int | None = None  # the ready ones of these

    @property
    def ended(self) -> int:
        """Attempts that are over, however they ended."""
        return self.done + self.buried + self.retried

    @property
    def out(self) -> int:
        """Jobs that left the stream for good, or until somebody kicks them."""
        return self.done + self.buried


_KEYS = ("pipeline", "minute", "process")
_FIELDS = tuple(field.name for field in fields(Minute) if field.name not in _KEYS)


def minute_to_text(row: Minute) -> str:
    """The row's body; histograms lose the zeros at their end."""
    body = {name: getattr(row, name) for name in _FIELDS}
    body["waits"], body["runs"] = _trimmed(row.waits), _trimmed(row.runs)
    body["began"], body["busy"] = round(row.began, 3), round(row.busy, 6)
    return json.dumps(body, separators=(",", ":"))


def minute_from_text(pipeline: str, minute: int, process: str, text: str) -> Minute:
    """Read a row back; keys of a newer fleet are ignored."""
    body = json.loads(text)
    values = {name: body[name] for name in _FIELDS if name in body}
    for name in ("waits", "runs"):
        values[name] = (*values.get(name, ()), *EMPTY)[:BUCKETS]
    return Minute(pipeline=pipeline, minute=minute, process=process, **values)


def total(rows: Iterable[Minute]) -> Minute:
    """All *rows* as one, from the earliest `began` on.  Samples are not added up."""
    rows = list(rows)
    if not rows:
        return Minute(pipeline="", minute=0, process="")
    return Minute(
        pipeline=rows[0].pipeline,
        minute=min(row.minute for row in rows),
        process="",
        began=min(row.began for row in rows),
        done=sum(row.done for row in rows),
        failed=sum(row.failed for row in rows),
        buried=sum(row.buried for row in rows),
        crashed=sum(row.crashed for row in rows),
        retried=sum(row.retried for row in rows),
        busy=sum(row.busy for row in rows),
        waits=tuple(map(sum, zip(*(row.waits for row in rows), strict=True))),
        runs=tuple(map(sum, zip(*(row.runs for row in rows), strict=True))),
    )


def _trimmed(buckets: Sequence[int]) -> list[int]:
    out = list(buckets)
    while out and not out[-1]:
        out.pop()
    return out
