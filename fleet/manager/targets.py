"""What a person means by `emails`, `emails_03`, `'emails_*'` or `all`.  Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from fleet.errors import ProcessNotFound


def select(
    targets: Sequence[str],
    pipelines: Mapping[str, str],
    names: Iterable[str],
    *,
    room: Container[str] = (),
) -> tuple[str, ...]:
    """
    The full names (`group:process`) that *targets* mean, in the order of *names*.

    *pipelines* maps a pipeline to its group, *names* are the full names that
    exist in those groups.  A target is a pipeline, a process with or without
    the project (`emails_03`, `shop-emails_03`, `shop-emails:shop-emails_03`), a
    glob over either, or `all`.  Those in *room* are meant by their own name only.

    Raises:
        ProcessNotFound: a target matches nothing; says what is near.
    """
    groups = {group: pipeline for pipeline, group in pipelines.items()}
    spellings = {
        name: _spellings(name, groups[group]) for name in names if (group := name.partition(":")[0]) in groups
    }
    chosen: set[str] = set()
    for target in targets:
        found = {
            name
            for name, known in spellings.items()
            if (target in known[-3:] if name in room else _means(target, known))
        }
        if not found and not _is_known(target, pipelines):
            raise ProcessNotFound(_unknown(target, pipelines, spellings))
        chosen |= found
    return tuple(name for name in spellings if name in chosen)


def room(
    names: Iterable[str],
    numprocs: Mapping[str, int],
    by_hand: Mapping[str, int] | None = None,
    active: Container[str] = (),
) -> frozenset[str]:
    """
    The full names above the number that is to run, by group: they start only when asked for one by one.

    A number *by_hand* is made of any processes: those that are *active*, and
    of the others the lowest, as many as lack.
    """
    by_hand = by_hand or {}
    found = set()
    idle: dict[str, list[tuple[int, str]]] = {group: [] for group in by_hand}
    lacking = dict(by_hand)
    for name in names:
        group = name.partition(":")[0]
        match = re.search(r"_(\d+)$", name)
        number = int(match[1]) if match else 0
        if group not in by_hand:
            if number >= numprocs.get(group, 0):
                found.add(name)
        elif name in active:
            lacking[group] -= 1
        else:
            idle[group].append((number, name))
    for group, members in idle.items():
        found.update(name for _, name in sorted(members)[max(0, lacking[group]) :])
    return frozenset(found)


def _spellings(name: str, pipeline: str) -> tuple[str, ...]:
    """Everything that a process answers to: "all", its pipeline, and its own names."""
    group, _, process = name.partition(":")
    short = pipeline + process.removeprefix(group) if process.startswith(group) else process
    return "all", pipeline, group, process, short, name


def _means(target: str, known: tuple[str, ...]) -> bool:
    return target in known or any(fnmatchcase(spelling, target) for spelling in known[1:])


def _is_known(target: str, pipelines: Mapping[str, str]) -> bool:
    """A pipeline that has no process, or `all` of nothing, is no mistake."""
    return target == "all" or any(fnmatchcase(p, target) or g == target for p, g in pipelines.items())


def _unknown(target: str, pipelines: Mapping[str, str], spellings: Mapping[str, tuple[str, ...]]) -> str:
    candidates = [*pipelines, *(known[-2] for known in spellings.values())]
    near = get_close_matches(target, candidates, n=1)
    if near:
        return f"no pipeline or process is called {target!r}. Did you mean {near[0]!r}?"
    listed = ", ".join(list(pipelines)[:10]) or "none"
    return f"no pipeline or process is called {target!r}. The pipelines are: {listed}."
