"""Settlements as statements: jobs that fare alike share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.queue.backends.mysql.connection import Result
from fleet.queue.backends.mysql.literal import among, bind
from fleet.queue.backends.mysql.rows import BURIED, DELAYED, READY
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.job import Settlement


class SomeLeaseLost(Exception):
    """A batch changed fewer rows than it has jobs: roll back, and ask one by one."""


class Group(NamedTuple):
    """One statement, and the positions of the settlements that it carries out."""

    statement: str
    members: list[int]


def groups(sql: Statements, settlements: Sequence[Settlement], *, one_by_one: bool) -> list[Group]:
    """Statements that settle, ids in order, so that rivals do not wait for each other in a circle."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for position, s in enumerate(settlements):
        kind: tuple[Any, ...] = (s.job.token, s.verb)
        if s.verb != "delete":
            kind = (*kind, s.delay, s.priority, s.reason, s.counted)
        if one_by_one:
            kind = (*kind, position)
        alike.setdefault(kind, []).append(position)
    return [Group(_statement(sql, settlements, members), members) for members in alike.values()]


def _statement(sql: Statements, settlements: Sequence[Settlement], members: Sequence[int]) -> str:
    s = settlements[members[0]]
    ids = sorted([settlements[position].job.id for position in members])
    if s.verb == "delete":
        return bind(sql.delete, among(ids), s.job.token, len(ids))
    state = BURIED if s.verb == "bury" else DELAYED if s.delay else READY
    reason = s.reason.encode(errors="replace").decode()  # a lone surrogate is no reason to fail
    given_back = 0 if s.counted else 1
    changes = (state, round(s.delay * 1e6), s.priority, reason, given_back)
    return bind(sql.put_back, *changes, among(ids), s.job.token, len(ids))


def returns(sql: Statements, settlements: Sequence[Settlement]) -> list[str]:
    """What tells other claims that older jobs are ready again, or will be."""
    names = {(s.job.pipeline, s.delay > 0) for s in settlements if s.verb == "release"}
    return [bind(sql.delayed if later else sql.returned, name) for name, later in sorted(names)]


def verdicts(count: int, asked: Sequence[Group], results: Sequence[Result]) -> list[bool]:
    """
    Which of *count* settlements took effect, by the rows that their statements changed.

    Raises:
        SomeLeaseLost: a row count that does not say which.
    """
    taken = [True] * count
    for group, result in zip(asked, results, strict=False):
        if result.changed != len(group.members):
            if len(group.members) > 1:
                raise SomeLeaseLost
            taken[group.members[0]] = False
    return taken
