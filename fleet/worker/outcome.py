"""How an attempt ended, as the settlement that follows from it.  Pure."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleet.queue.causes import BURIED, MAX_PLACE, MAX_SAMPLE, RETRIED, TIMEOUT, ErrorGroup, normalise
from fleet.queue.job import Job, Settlement
from fleet.units import parse_duration

MAX_REASON = 8 * 1024  # bytes of reason and traceback that are kept with a job
_MAX_HEAD = 400  # characters of the first line
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_HIDDEN = "***"


class Bury(Exception):
    """Raise it in a handler to put the job aside, with the reason, without another attempt."""

    reason: object = ""  # also of a subclass that sets none

    def __init__(self, reason: object = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """
    Raise it in a handler to try again *after* some time: "30s", or seconds.

    Without *after* the pipeline's own schedule decides.  It counts as a failed
    attempt, so that a job cannot go round for ever.
    """

    after: float | None = None  # also of a subclass that sets none

    def __init__(self, reason: str = "", *, after: str | float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else parse_duration(after)


class JobTimeout(Exception):
    """Raised inside a handler that has used up its time; clean up and let it out."""


class Interrupted(JobTimeout):
    """Raised inside a handler when the worker must end before the job is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a failed job is tried again, and what is done with one that kills its workers."""

    max: int = 5  # retries; then it is buried
    first: float = 10.0  # seconds before the first retry
    factor: float = 2.0  # each further one waits that many times longer
    cap: float = 3600.0  # seconds, the longest wait
    jitter: bool = True  # shorten each wait by up to a quarter, so that failures spread out
    max_crashes: int = 3  # workers that a job may take with it; then it is buried
    redact: tuple[str, ...] = ()  # payload keys whose values are masked in reasons


def delay_before_retry(policy: Policy, failures: int, chance: float) -> float:
    """Seconds to wait after that many failures (from 1); *chance*, from 0 to 1, is the jitter."""
    try:
        delay = policy.first * policy.factor ** (failures - 1)
    except OverflowError:
        delay = policy.cap
    delay = min(delay, policy.cap)
    return delay * (1 - chance / 4) if policy.jitter else delay


def after_error(job: Job, error: BaseException, policy: Policy, chance: float) -> Settlement:
    """What becomes of a job whose handler raised."""
    if isinstance(error, Interrupted):
        return interrupted(job)
    if isinstance(error, Bury):
        return Settlement(job=job, verb="bury", reason=clean(_reason_of(error), job, policy.redact))
    reason = describe(error, job, policy.redact)
    if job.failures >= policy.max:
        return Settlement(job=job, verb="bury", reason=reason)
    delay = error.after if isinstance(error, Retry) else None
    if delay is None:
        delay = delay_before_retry(policy, job.failures + 1, chance)
    return Settlement(job=job, verb="release", delay=delay, reason=reason)


def interrupted(job: Job) -> Settlement:
    """The worker had to end: that is no fault of the job, so the attempt is not counted."""
    return Settlement(job=job, verb="release", reason="interrupted", counted=False)


def crashed(job: Job, policy: Policy) -> Settlement | None:
    """The burial of a job that has killed its workers too often; None when it may be begun."""
    if job.crashes < policy.max_crashes:
        return None
    workers = "worker" if job.crashes == 1 else "workers"
    return Settlement(
        job=job,
        verb="bury",
        reason=f"crashed: {job.crashes} {workers} died or vanished while they had this job",
    )


def group_of(job: Job, error: BaseException | None, verdict: Settlement, policy: Policy) -> ErrorGroup | None:
    """
    What an attempt that failed is counted under; None for one that is no failure.

    *error* is None for a job that is buried because its workers died.
    """
    if isinstance(error, Interrupted):
        return None
    head = verdict.reason.partition("\n")[0]
    place = ""
    if error is not None:
        path, function = _where(error)
        place = clean(f"{path} {function}".strip())  # a file's name need not be text
        message = _head(error) if not isinstance(error, Bury) else _reason_of(error)
        head = clean(" ".join(message.split())[:_MAX_HEAD], job, policy.redact)
    kind = BURIED if verdict.verb == "bury" else TIMEOUT if isinstance(error, JobTimeout) else RETRIED
    return ErrorGroup(
        pipeline=job.pipeline,
        kind=kind,
        cause=normalise(head),
        place=place[-MAX_PLACE:],
        job=job.id,
        sample=head[:MAX_SAMPLE],
    )


def describe(error: BaseException, job: Job, redact: Iterable[str] = ()) -> str:
    """
    "KeyError: 'body' at shop/jobs/email.py:9", and the traceback in the lines below it.

    The first line is the same for the same cause, so errors can be counted by it.
    """
    head, place = _head(error), location(error)
    if place:
        head = f"{head} at {place}"
    return clean(f"{head}\n{_traceback_of(error)}", job, redact)


def _reason_of(error: Bury) -> str:
    """As text, for ``raise Bury(error)`` gives another exception."""
    reason = error.reason
    return (_head(reason) if isinstance(reason, BaseException) else str(reason or "")) or "Bury"


def _head(error: BaseException) -> str:
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
    except Exception:  # a broken __str__ must not hide the error
        message = "(no message: str() of the error failed)"
    return (f"{name}: {message}" if message else name)[:_MAX_HEAD]


def location(error: BaseException) -> str:
    """ "file.py:line" of the innermost frame that is the user's own code, "" without a traceback."""
    return _where(error)[0]


def _where(error: BaseException) -> tuple[str, str]:
    """The same, and the function."""
    import traceback  # needed by failures only

    found = last = ("", "")
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        last = (f"{_short(path)}:{line}", frame.f_code.co_name)
        if not _is_foreign(path):
            found = last
    return found if found[0] else last


def clean(text: str, job: Job | None = None, redact: Iterable[str] = ()) -> str:
    """Without control characters and masked values, and at most 8 KiB: the head and the tail are kept."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.expandtabs(4))
    keys = tuple(redact)
    if keys:
        text = _mask(text, keys, job)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= MAX_REASON:
        return raw.decode("utf-8", "replace")
    head, tail = raw[: MAX_REASON // 4], raw[-(MAX_REASON * 3 // 4 - 16) :]
    return f"{head.decode('utf-8', 'ignore')}\n[…]\n{tail.decode('utf-8', 'ignore')}"


def _traceback_of(error: BaseException) -> str:
    import traceback

    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-20)
    except Exception:  # a traceback that cannot be printed must not hide the error
        return ""
    return "".join(lines).rstrip()


def _is_foreign(path: str) -> bool:
    return path.startswith((_OUR_OWN, *_LIBRARIES, "<frozen"))


_OUR_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120 - lean
_LIBRARIES = tuple(
    {os.path.dirname(os.__file__) + os.sep, os.path.join(sys.prefix, "lib") + os.sep}  # noqa: PTH118, PTH120
)


def _short(path: str) -> str:
    """Relative to the working directory when it lies inside; pathlib costs a worker half a megabyte."""
    try:
        here = os.getcwd() + os.sep  # noqa: PTH109
    except OSError:
        return path
    return path.removeprefix(here)


def _mask(text: str, keys: tuple[str, ...], job: Job | None) -> str:
    names = "|".join(re.escape(key) for key in keys)
    text = re.sub(
        rf"""((?<![\w-])["']?(?:{names})["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;}}\])]+)""",
        rf"\g<1>{_HIDDEN}",
        text,
        flags=re.IGNORECASE,
    )
    for value in sorted(_secret_values(job, keys), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    return text


def _secret_values(job: Job | None, keys: tuple[str, ...]) -> set[str]:
    """The payload's own values under those keys: they turn up in messages without their key."""
    if job is None:
        return set()
    try:
        data = job.data
    except Exception:  # raw bytes have no keys
        return set()
    wanted = {key.lower() for key in keys}
    values: set[str] = set()
    rest: list[Any] = [data]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            for key, value in item.items():
                if (
                    str(key).lower() in wanted
                    and isinstance(value, str | int | float)
                    and len(str(value)) >= 3
                ):
                    values.add(str(value))
                else:
                    rest.append(value)
        elif isinstance(item, list):
            rest.extend(item)
    return values
