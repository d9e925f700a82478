"""Who is asked what before something is changed: the rules, and the question."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Literal

import typer

from fleet.cli import output
from fleet.cli.context import settings
from fleet.dashboard.text import show
from fleet.errors import FleetError, Refused

NOTHING = "Nothing was changed."
MANY = 1000  # kicking more than this many jobs at once is worth a question


class Weight(StrEnum):
    """How hard it is to undo."""

    FREE = "free"  # undone with one command
    MODERATE = "moderate"  # stops work, or moves many jobs
    SEVERE = "severe"  # loses something for good


def decide(
    weight: Weight, *, name: str, yes: bool, confirmed: str | None, is_terminal: bool, read_only: bool
) -> Literal["go", "ask", "type the name"]:
    """
    What has to happen before a change of this weight.

    *confirmed* is the value of --confirm.  --yes answers questions, and a
    severe change is more than a question: it wants *name*.

    Raises:
        Refused: it must not happen, or nobody is there to be asked.
    """
    if read_only:
        raise Refused("FLEET_READ_ONLY is set. Nothing was changed.")
    if weight is Weight.FREE:
        return "go"
    if weight is Weight.MODERATE:
        if yes or confirmed == name:
            return "go"
        if is_terminal:
            return "ask"
        raise Refused("this needs a yes, and nobody is there to be asked. Add --yes. Nothing was changed.")
    if confirmed == name:
        return "go"
    if confirmed is not None:
        raise Refused(f"--confirm says {confirmed!r}, and the name is {name!r}. Nothing was changed.")
    if is_terminal:
        return "type the name"
    raise Refused(f"this cannot be undone. Add --confirm {name}. Nothing was changed.")


def is_read_only() -> bool:
    """Whether FLEET_READ_ONLY forbids every change."""
    return os.environ.get("FLEET_READ_ONLY", "") not in ("", "0")


@contextmanager
def nothing_yet() -> Iterator[None]:
    """Around what comes before the first change: who is stopped there is told that there was none."""
    try:
        yield
    except (KeyboardInterrupt, PermissionError, FleetError) as error:
        if NOTHING not in str(error):
            error.add_note(NOTHING)
        raise


def free() -> None:
    """Before a change that asks nobody: only FLEET_READ_ONLY stops it."""
    ask(Weight.FREE, "", name="")


def ask(weight: Weight, effect: str, *, name: str, confirmed: str | None = None) -> None:
    """
    Say the *effect* and ask as the rules want it; returns when it may happen.

    Raises:
        Refused: the answer was no, or there was nobody to answer.
    """
    step = decide(
        weight,
        name=name,
        yes=settings().yes,
        confirmed=confirmed,
        is_terminal=output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr),
        read_only=is_read_only(),
    )
    if step == "go":
        return
    if step == "ask":
        if typer.confirm(show(effect), default=False, err=True):
            return
    else:
        output.note(show(effect))
        if typer.prompt(f"Type {show(name)} to go on", default="", show_default=False, err=True) == name:
            return
    raise Refused("Nothing was changed.")
