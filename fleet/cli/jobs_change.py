"""fleet jobs kick and delete, fleet queue purge: counted and asked before anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.jobs import (
    ConfirmOption,
    DryRunOption,
    ErrorOption,
    IdsArgument,
    MatchOption,
    PipelineArgument,
    SinceOption,
    State,
    open_pipeline,
)

if TYPE_CHECKING:
    from fleet.cli.selection import Selection
    from fleet.queue.queue import Queue


def kick(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="every buried job")] = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    rate: Annotated[str, typer.Option(metavar="N/s", help="so many at a time, such as 5/s or 300/m")] = "",
    dry_run: DryRunOption = False,
) -> None:
    """
    Make buried jobs ready again, oldest first, each with a fresh attempt budget.

      fleet jobs kick emails 881203 881204
      fleet jobs kick emails --error "KeyError: 'TZ'" --rate 5/s
      fleet jobs kick emails --match site=7 --since 2h --dry-run
      fleet jobs kick emails --all --yes
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.cli.selection import count as counted
    from fleet.cli.selection import parse_rate, select, steps

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    pace = parse_rate(rate)
    count = counted(queue, name, "buried", selection, confirm.MANY + 1)
    if dry_run:
        _would("kick", name, "buried", count)
        return
    weight = confirm.Weight.MODERATE if count > confirm.MANY else confirm.Weight.FREE
    oldest = _oldest(queue, name, "buried", selection)
    confirm.ask(
        weight, f"{_many(count)} buried jobs of {name}{oldest} become ready. Kick them?", name=pipeline
    )
    moved = 0
    try:
        for step in steps(queue, name, "buried", selection, pace):
            done = queue.kick(name, **step)
            moved += done
            if not done and "ids" not in step:
                break
    except KeyboardInterrupt:
        output.note(f"stopped: {moved:,} were kicked, the others stay buried")
        raise
    if settings().json:
        output.document({"schema": "fleet.kick/1", "pipeline": name, "kicked": moved})
    else:
        output.say(f"{name}  {moved:,} buried → ready, with new attempts")


def delete(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="every job of that state")] = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    state: Annotated[State, typer.Option(help="which jobs --all and the filters mean")] = State.BURIED,
    dry_run: DryRunOption = False,
    confirmed: ConfirmOption = None,
) -> None:
    """
    Delete jobs for good, also while a worker holds them.

    By id it asks y/N; --all and filters want the pipeline's name typed.

      fleet jobs delete emails 881203
      fleet jobs delete emails --error "not an address" --confirm emails
      fleet jobs delete emails --all --state delayed
    """
    from fleet.cli import confirm
    from fleet.cli.selection import count as counted
    from fleet.cli.selection import select

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    count = counted(queue, name, state.value, selection, confirm.MANY + 1)
    if dry_run:
        _would("delete", name, "" if ids else state.value, count)
        return
    if ids:
        effect = f"{len(ids)} jobs of {name} are deleted for good. Delete them?"
        confirm.ask(confirm.Weight.MODERATE, effect, name=pipeline, confirmed=confirmed)
        gone = sum(queue.discard(name, each.value, **selection.words()) for each in State)
    else:
        gone = _delete_filtered(queue, name, pipeline, state.value, selection, count, confirmed)
    _say_deleted(name, gone)


def _delete_filtered(
    queue: Queue,
    name: str,
    pipeline: str,
    state: str,
    selection: Selection,
    count: int,
    confirmed: str | None,
) -> int:
    """Ask, with the count and the age of the oldest, and delete; how many."""
    from fleet.cli import confirm
    from fleet.cli.selection import steps
    from fleet.queue.job import JobState

    if not count:
        return 0
    oldest = _oldest(queue, name, state, selection)
    copy = f"To keep a copy: fleet jobs export {pipeline} --state {state}"
    effect = f"{_many(count)} {state} jobs of {name}{oldest} are deleted for good. {copy}"
    confirm.ask(confirm.Weight.SEVERE, effect, name=pipeline, confirmed=confirmed)
    gone = 0
    for step in steps(queue, name, state, selection, None):
        gone += queue.discard(name, JobState(state), **step)
    return gone


def purge(
    pipeline: PipelineArgument,
    state: Annotated[State, typer.Option(help="which jobs")] = State.BURIED,
    older: Annotated[
        str, typer.Option(metavar="TIME", help="those that were buried, or became ready, longer ago")
    ] = "",
    dry_run: DryRunOption = False,
    confirmed: ConfirmOption = None,
) -> None:
    """
    Delete old jobs of one state, buried ones by default.

      fleet queue purge emails --older 7d
      fleet queue purge emails --state ready --confirm emails
    """
    from fleet.cli import confirm
    from fleet.cli.names import slips_are_usage_errors
    from fleet.cli.selection import Selection, jobs
    from fleet.cli.selection import count as counted
    from fleet.units import parse_duration

    with slips_are_usage_errors():
        seconds = parse_duration(older) if older else None
    _, queue, name = open_pipeline(pipeline)
    selection = Selection()
    if seconds is not None:
        old = [job.id for job in jobs(queue, name, state.value, selection) if job.waited >= seconds]
        selection, count = Selection(ids=tuple(old)), len(old)
    else:
        count = counted(queue, name, state.value, selection, confirm.MANY + 1)
    if dry_run:
        _would("delete", name, state.value, count)
        return
    gone = _delete_filtered(queue, name, pipeline, state.value, selection, count, confirmed)
    _say_deleted(name, gone)


def _would(verb: str, name: str, state: str, count: int) -> None:
    """The answer of --dry-run."""
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document({"schema": f"fleet.{verb}/1", "pipeline": name, "dry_run": True, "match": count})
    else:
        kind = f"{state} " if state else ""
        output.say(f"{name}  {_many(count)} {kind}jobs match; --dry-run: nothing was changed")


def _many(count: int) -> str:
    from fleet.cli.confirm import MANY

    return f"{MANY:,}+" if count > MANY else str(count)


def _oldest(queue: Queue, name: str, state: str, selection: Selection) -> str:
    """ ", the oldest from 20m ago (#7)", or nothing where that is not known."""
    from fleet.cli.selection import jobs
    from fleet.units import short_duration

    if not queue.capabilities.lists:
        return ""
    first = next(jobs(queue, name, state, selection), None)
    return "" if first is None else f", the oldest from {short_duration(first.waited)} ago (#{first.id}),"


def _say_deleted(name: str, gone: int) -> None:
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document({"schema": "fleet.delete/1", "pipeline": name, "deleted": gone})
    else:
        output.say(f"{name}  {gone:,} deleted")
