"""What people type: names, found in the manifest and the queue or refused with the nearest match; times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import typer

from fleet.dashboard.text import show

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.queue import Queue


def unknown(kind: str, name: str, known: Iterable[str]) -> typer.BadParameter:
    """The error for a name that does not exist: the nearest match, or the list."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    if near:
        hint = f'Did you mean "{near[0]}"?'
    elif names:
        hint = f"There are: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}."
    else:
        hint = "There are none."
    return typer.BadParameter(f'no {kind} "{show(name, 60)}". {show(hint)}')


def queue_name(manifest: Manifest, queue: Queue, name: str) -> str:
    """
    The queue's name for a pipeline, which may be another than the manifest's.

    A pipeline that is gone from the manifest but still holds jobs counts.

    Raises:
        typer.BadParameter: neither knows it.
    """
    if name in manifest.pipelines:
        return manifest.pipelines[name].queue_name
    if any(pipeline.queue_name == name for pipeline in manifest.pipelines.values()):
        return name
    holding = queue.pipelines()
    if name in holding:
        return name
    raise unknown("pipeline", name, dict.fromkeys([*manifest.pipelines, *holding]))


def queue_names(manifest: Manifest, queue: Queue, targets: Iterable[str]) -> list[str]:
    """
    The same for several names, for globs over those of the manifest, and for `all` of them.

    Raises:
        typer.BadParameter: one of them means nothing.
    """
    found: dict[str, None] = {}
    for target in targets:
        meant = [
            pipeline.queue_name
            for name, pipeline in manifest.pipelines.items()
            if target == "all" or fnmatchcase(name, target)
        ]
        found |= dict.fromkeys(meant or [queue_name(manifest, queue, target)])
    return list(found)


def redacted_keys(manifest: Manifest, queue_name: str) -> frozenset[str]:
    """Payload keys that are never shown for this pipeline."""
    return frozenset(
        key
        for pipeline in manifest.pipelines.values()
        if pipeline.queue_name == queue_name
        for key in pipeline.redact
    )


@contextmanager
def slips_are_usage_errors() -> Iterator[None]:
    """The library tells a caller's slip by ValueError; here the caller typed it."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def duration(option: str, text: str) -> float:
    """
    Seconds of *text*.

    Raises:
        typer.BadParameter: not a duration; names the option.
    """
    from fleet.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error


def time_to_wait(option: str, text: str) -> float:
    """
    Seconds of *text*; nothing can come up, drain or hold in no time at all.

    Raises:
        typer.BadParameter: not a duration, or none that is longer than 0.
    """
    seconds = duration(option, text)
    if not seconds:
        raise typer.BadParameter(f"{option} {text}: expected more than 0 seconds, or leave it out")
    return seconds
