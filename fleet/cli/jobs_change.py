"""fleet jobs kick, release, bury and move: counted, and asked where it is much, before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.jobs import (
    AllOption,
    DryRunOption,
    ErrorOption,
    IdsArgument,
    LimitOption,
    MatchOption,
    PipelineArgument,
    RateOption,
    SinceOption,
    open_pipeline,
)

if TYPE_CHECKING:
    from fleet.cli.confirm import Weight
    from fleet.cli.selection import Selection
    from fleet.queue.queue import Queue


class Releasable(StrEnum):
    """States that release is for."""

    DELAYED = "delayed"
    RESERVED = "reserved"


class Waiting(StrEnum):
    """States that bury is for."""

    READY = "ready"
    DELAYED = "delayed"


class Movable(StrEnum):
    """States that move is for."""

    READY = "ready"
    DELAYED = "delayed"
    BURIED = "buried"


def kick(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: AllOption = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    limit: LimitOption = None,
    rate: RateOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """
    Make buried jobs ready again, oldest first, each with a fresh attempt budget.

      fleet jobs kick emails 881203 881204
      fleet jobs kick emails --error "KeyError: 'TZ'" --rate 5/s
      fleet jobs kick emails --match site=7 --since 2h --dry-run
      fleet jobs kick emails --all --yes
    """
    from fleet.cli.selection import parse_rate, select

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    moved = _change(
        "kick",
        lambda state, **which: queue.kick(name, **which),  # noqa: ARG005 - there is one state
        queue,
        name,
        ["buried"],
        selection,
        effect="become ready. Kick them?",
        limit=limit,
        rate=parse_rate(rate),
        dry_run=dry_run,
    )
    if moved is not None:
        _report("kick", name, {"kicked": moved}, f"{moved:,} buried → ready, with new attempts")


def release(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: AllOption = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    state: Annotated[
        Releasable | None, typer.Option(help="delayed by default; ids are looked for in both")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="reserved jobs also while their worker has a valid lease")
    ] = False,
    limit: LimitOption = None,
    rate: RateOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """
    Make delayed jobs ready now, oldest first.  They keep their attempts.

    With --state reserved: jobs whose worker is gone, their lease over.  Workers
    take these by themselves in the end; --force does not wait for the end of the
    lease, and a job may be done twice.

      fleet jobs release emails 881203
      fleet jobs release emails --error "500 from" --rate 10/s
      fleet jobs release emails --state reserved --all
    """
    from fleet.cli.confirm import Weight
    from fleet.cli.selection import parse_rate, select

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    states = [state.value] if state else ["delayed", "reserved"] if ids else ["delayed"]
    if force and "reserved" not in states:
        raise typer.BadParameter("--force is about reserved jobs: add --state reserved")
    effect = "become ready. Release them?"
    if force:
        effect = "become ready, also while a worker is at them: they may be done twice. Release them?"
    elif "reserved" in states:
        effect = "become ready, of reserved ones those whose lease is over. Release them?"
    moved = _change(
        "release",
        lambda state, **which: queue.release_jobs(name, state, force=force, **which),
        queue,
        name,
        states,
        selection,
        effect=effect,
        weight=Weight.MODERATE if force else None,
        stay="their worker has a valid lease" if "reserved" in states else "they were due meanwhile",
        limit=limit,
        rate=parse_rate(rate),
        dry_run=dry_run,
    )
    if moved is not None:
        _report("release", name, {"released": moved}, f"{moved:,} {' or '.join(states)} → ready")


def bury(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: AllOption = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    state: Annotated[Waiting | None, typer.Option(help="ready and delayed by default")] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="kept with each job; list and why show it")
    ] = "put aside by hand",
    limit: LimitOption = None,
    rate: RateOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """
    Put waiting jobs aside, oldest first, until somebody kicks them.

    fleet jobs kick brings them back, by that reason.

      fleet jobs bury emails 881203 --reason "customer asked us to wait"
      fleet jobs bury emails --match batch=import-2291 --reason "broken import"
      fleet jobs kick emails --error "broken import"
    """
    from fleet.cli.selection import parse_rate, select

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    states = [state.value] if state else [each.value for each in Waiting]
    moved = _change(
        "bury",
        lambda state, **which: queue.bury_jobs(name, state, reason, **which),
        queue,
        name,
        states,
        selection,
        effect="are put aside. Bury them?",
        limit=limit,
        rate=parse_rate(rate),
        dry_run=dry_run,
    )
    if moved is not None:
        text = f'{moved:,} {" or ".join(states)} → buried, for "{reason}"'
        _report("bury", name, {"buried": moved, "reason": reason}, text)


def move(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    to: Annotated[
        str, typer.Option("--to", metavar="PIPELINE", help="of the manifest, or one that holds jobs")
    ] = "",
    all_: AllOption = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    state: Annotated[Movable | None, typer.Option(help="all but reserved by default")] = None,
    limit: LimitOption = None,
    rate: RateOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """
    Put jobs into another pipeline.  Id, state, priority and attempts stay.

      fleet jobs move emails --to emails-slow --match kind=newsletter
      fleet jobs move legacy --to emails --all --yes
      fleet jobs move emails 881203 --to quarantine
    """
    from fleet.cli.confirm import Weight
    from fleet.cli.names import queue_name
    from fleet.cli.selection import parse_rate, select

    manifest, queue, name = open_pipeline(pipeline)
    if not to:
        raise typer.BadParameter("say where to: --to PIPELINE")
    target = queue_name(manifest, queue, to)
    if target == name:
        raise typer.BadParameter(f"{to} is where these jobs are")
    selection = select(ids, all_, error, match, since)
    moved = _change(
        "move",
        lambda state, **which: queue.move_jobs(name, target, state, **which),
        queue,
        name,
        [state.value] if state else [each.value for each in Movable],
        selection,
        effect=f"go to {target}. Move them?",
        weight=Weight.MODERATE,
        stay="their unique key is taken there, or a worker took them meanwhile",
        limit=limit,
        rate=parse_rate(rate),
        dry_run=dry_run,
    )
    if moved is not None:
        _report("move", name, {"moved": moved, "target": target}, f"{moved:,} moved to {target}")


def _change(
    verb: str,
    call: Callable[..., int],
    queue: Queue,
    name: str,
    states: Sequence[str],
    selection: Selection,
    *,
    effect: str,
    limit: int | None,
    rate: float | None,
    dry_run: bool,
    weight: Weight | None = None,
    stay: str = "a worker took them meanwhile",
) -> int | None:
    """
    Count, ask and act; how many were changed, None after a dry run.

    Without a *weight* many jobs are worth a question, and few are not.
    *stay* is why some that were counted may be as they were.
    """
    from fleet.cli import confirm, output
    from fleet.cli.selection import carry_out
    from fleet.cli.selection import count as counted

    count = counted(queue, name, states, selection, confirm.MANY + 1, limit=limit)
    kind = " or ".join(states)
    if dry_run:
        would(verb, name, kind, count)
        return None
    if count:
        if weight is None:
            weight = confirm.Weight.MODERATE if count > confirm.MANY else confirm.Weight.FREE
        text = (
            f"{many(count)} {kind} {_jobs(count)} of {name}{oldest(queue, name, states, selection)} {effect}"
        )
        confirm.ask(weight, text, name=name)
    else:
        confirm.free()
    moved = 0
    try:
        for done in carry_out(call, queue, name, states, selection, limit=limit, rate=rate):
            moved += done
    except KeyboardInterrupt:
        output.note(f"stopped: {moved:,} {_jobs(moved)} were changed, the others are as they were")
        raise
    lost = len(selection.ids) - moved
    if moved < count <= confirm.MANY:
        output.note(f"{count - moved} of the {count} were not changed: {stay}")
    elif lost > 0:
        which = f"of {len(selection.ids)} ids, {lost}" if len(selection.ids) > 1 else f"#{selection.ids[0]}"
        output.note(f"{which} {'is no' if lost == 1 else 'are no'} {kind} {_jobs(lost)} of {name}")
    return moved


def _report(verb: str, name: str, facts: dict[str, Any], text: str) -> None:
    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.dashboard.text import show

    if settings().json:
        output.document({"schema": f"fleet.{verb}/1", "pipeline": name, **facts})
    else:
        output.say(show(f"{name}  {text}"))


# --- shared with delete and purge


def would(verb: str, name: str, kind: str, count: int) -> None:
    """The answer of --dry-run."""
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document({"schema": f"fleet.{verb}/1", "pipeline": name, "dry_run": True, "match": count})
    else:
        kind = f"{kind} " if kind else ""
        output.say(f"{name}  {many(count)} {kind}jobs match; --dry-run: nothing was changed")


def many(count: int) -> str:
    """A number that was counted no further than it matters."""
    from fleet.cli.confirm import MANY

    return f"{MANY:,}+" if count > MANY else str(count)


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"


def oldest(queue: Queue, name: str, states: Sequence[str], selection: Selection) -> str:
    """ ", the oldest from 20m ago (#7)," of the first state that has one; "" where nobody knows."""
    from fleet.cli.selection import jobs
    from fleet.units import short_duration

    if not queue.capabilities.lists:
        return ""
    first = next((job for state in states for job in jobs(queue, name, state, selection)), None)
    if first is None or first.delay:
        return ""
    return f", the oldest from {short_duration(first.waited)} ago (#{first.id}),"
