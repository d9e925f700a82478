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


def room(names: Iterable[str], numprocs: Mapping[str, int]) -> frozenset[str]:
    """The full names above the number that is to run, by group: they start only when asked for one by one."""
    found = set()
    for name in names:
        number = re.search(r"_(\d+)$", name)
        if number and int(number[1]) >= numprocs.get(name.partition(":")[0], 0):
            found.add(name)
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
