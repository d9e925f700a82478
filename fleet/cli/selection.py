"""Which jobs a command means: by id, state, reason, payload and age."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fleet.queue.job import Job
    from fleet.queue.queue import Queue

PAGE = 500  # jobs that are looked at together
TICK = 0.2  # seconds between two steps of a slow kick
_CHUNK = 1000  # ids in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Jobs of one state that fit all that is said here; nothing said means all."""

    ids: tuple[int, ...] = ()
    reason: str = ""  # a pattern, as the library takes it
    match: tuple[tuple[tuple[str, ...], str], ...] = ()  # (path into the payload, value as it was typed)
    since: float | None = None  # seconds: became ready, or was buried, no longer ago
    older: float | None = None  # seconds: the other side of it

    @property
    def needs_a_look(self) -> bool:
        """Only the jobs themselves can tell: the server knows nothing of payloads."""
        return bool(self.match) or self.since is not None or self.older is not None

    def fits(self, job: Job) -> bool:
        """Whether a job that the server has chosen is really meant."""
        if self.since is not None and job.waited > self.since:
            return False
        if self.older is not None and job.waited < self.older:
            return False
        return all(_has(job, path, value) for path, value in self.match)

    def words(self) -> dict[str, Any]:
        """What the server itself can choose by, ids apart, as the library's arguments."""
        return {"reason": self.reason} if self.reason else {}


def select(
    ids: Sequence[int] | None, all_: bool, error: str, match: Sequence[str] | None, since: str
) -> Selection:
    """
    The selection that the options mean; something must be said, or --all.

    Raises:
        typer.BadParameter: nothing, or --all beside something else.
    """
    said = bool(ids) or bool(error) or bool(match) or bool(since)
    if said == all_ or (ids and (error or match or since)):
        raise typer.BadParameter("say which jobs: their ids, or --error, --match, --since, or --all")
    return filtered(error, match, since, ids=ids)


def filtered(
    error: str, match: Sequence[str] | None, since: str, *, ids: Sequence[int] | None = None
) -> Selection:
    """The same where nothing said means all."""
    from fleet.cli.names import duration

    seconds = duration("--since", since) if since else None
    return Selection(
        ids=tuple(ids or ()),
        reason=pattern(error) if error else "",
        match=tuple(_parse(each) for each in match or ()),
        since=seconds,
    )


def pattern(text: str) -> str:
    """Anywhere in the reason; % inside stands for anything too."""
    return f"%{text.strip('%')}%"


def jobs(queue: Queue, name: str, state: str, selection: Selection) -> Iterator[Job]:
    """Every job that is meant, in the order of ids, a page at a time: a million are no burden."""
    for start in range(0, len(selection.ids), _CHUNK):
        ids = selection.ids[start : start + _CHUNK]
        yield from queue.peek(name, state, len(ids), ids=ids)  # type: ignore[arg-type]
    if selection.ids:
        return
    above = 0
    while True:
        page = queue.peek(name, state, PAGE, above=above, **selection.words())  # type: ignore[arg-type]
        yield from filter(selection.fits, page)
        if len(page) < PAGE:
            return
        above = max(job.id for job in page)


def count(
    queue: Queue,
    name: str,
    states: Sequence[str],
    selection: Selection,
    most: int,
    *,
    limit: int | None = None,
) -> int:
    """How many are meant, counted no further than *most*."""
    most = most if limit is None else min(limit, most)
    found = 0
    for state in states:
        if selection.ids or selection.needs_a_look:
            found += sum(1 for _ in islice(jobs(queue, name, state, selection), most - found))
        elif selection.reason:
            found += len(queue.peek(name, state, most - found, **selection.words()))  # type: ignore[arg-type]
        else:
            found += int(getattr(queue.stats(name, cap=most), state))
    return min(found, most)


def carry_out(
    verb: Callable[..., int],
    queue: Queue,
    name: str,
    states: Sequence[str],
    selection: Selection,
    *,
    limit: int | None = None,
    rate: float | None = None,
) -> Iterator[int]:
    """
    Call *verb* with each state and with `limit`, `reason` and `ids`, step by step; yields what each changed.

    With a *rate* (jobs a second) the steps are small, with pauses between
    them, and what came to that state meanwhile is left alone: a job that is
    kicked and buried again must not make this endless.
    """
    size = _CHUNK if rate is None else max(1, round(rate * TICK))
    pause = 0.0 if rate is None else size / rate
    begun = False
    for state in states:
        for which in _steps(queue, name, state, selection, limit, size, rate):
            if begun and pause:
                time.sleep(pause)
            begun = True
            done = verb(state, **which)
            limit = None if limit is None else limit - done
            yield done


def _steps(
    queue: Queue,
    name: str,
    state: str,
    selection: Selection,
    limit: int | None,
    size: int,
    rate: float | None,
) -> Iterator[dict[str, Any]]:
    """What a verb is told in each step."""
    if selection.ids or selection.needs_a_look or (rate is not None and queue.capabilities.lists):
        ids = [job.id for job in islice(jobs(queue, name, state, selection), limit)]
        for start in range(0, len(ids), size):
            yield {"ids": ids[start : start + size]}
    elif rate is None:
        yield {"limit": limit, **selection.words()}
    else:  # beanstalkd shows the first one only, and counts all
        left = int(getattr(queue.stats(name), state))
        left = left if limit is None else min(left, limit)
        for start in range(0, left, size):
            yield {"limit": min(size, left - start)}


def parse_rate(text: str) -> float | None:
    """Jobs a second of "5/s", "300/m" or "5"; None of ""."""
    if not text:
        return None
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / {"": 1, "s": 1, "m": 60, "h": 3600}[unit.strip()]
    except (ValueError, KeyError):
        raise typer.BadParameter(f"--rate {text!r}: write it as 5/s or 300/m") from None
    if not 0 < rate <= 1e6:
        raise typer.BadParameter("--rate must be above 0")
    return rate


def _parse(text: str) -> tuple[tuple[str, ...], str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"--match {text!r}: write it as KEY=VALUE, such as user.id=7")
    return tuple(key.split(".")), value


def _has(job: Job, path: tuple[str, ...], typed: str) -> bool:
    """Whether the payload has that text there, or the number, true, false or null that it spells."""
    from fleet.errors import PayloadError

    try:
        found = job.data
    except PayloadError:
        return False
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return found == typed if isinstance(found, str) else json.dumps(found) == typed
