"""fleet jobs delete and fleet queue purge: what cannot be undone wants the pipeline's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.jobs import (
    AllOption,
    ConfirmOption,
    DryRunOption,
    ErrorOption,
    IdsArgument,
    LimitOption,
    MatchOption,
    PipelineArgument,
    RateOption,
    SinceOption,
    State,
    open_pipeline,
)
from fleet.cli.jobs_change import many, oldest, would

if TYPE_CHECKING:
    from fleet.cli.selection import Selection
    from fleet.queue.queue import Queue


def delete(
    pipeline: PipelineArgument,
    ids: IdsArgument = None,
    all_: AllOption = False,
    error: ErrorOption = "",
    match: MatchOption = None,
    since: SinceOption = "",
    state: Annotated[State, typer.Option(help="which jobs --all and the filters mean")] = State.BURIED,
    limit: LimitOption = None,
    rate: RateOption = "",
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
    from fleet.cli.selection import carry_out, parse_rate, select
    from fleet.cli.selection import count as counted

    _, queue, name = open_pipeline(pipeline)
    selection = select(ids, all_, error, match, since)
    pace = parse_rate(rate)
    if not ids:
        _delete_filtered(queue, name, pipeline, state.value, selection, limit, pace, dry_run, confirmed)
        return
    states = [each.value for each in State]
    count = counted(queue, name, states, selection, len(ids), limit=limit)
    if dry_run:
        would("delete", name, "", count)
        return
    if count:
        effect = f"{count} of {len(ids)} jobs are in {name}, and are deleted for good. Delete them?"
        confirm.ask(confirm.Weight.MODERATE, effect, name=pipeline, confirmed=confirmed)
    else:
        confirm.free()
    _say_deleted(
        name, sum(carry_out(_discard(queue, name), queue, name, states, selection, limit=limit, rate=pace))
    )


def _delete_filtered(
    queue: Queue,
    name: str,
    pipeline: str,
    state: str,
    selection: Selection,
    limit: int | None,
    rate: float | None,
    dry_run: bool,
    confirmed: str | None,
) -> None:
    """Ask, with the count and the age of the oldest, and delete."""
    from fleet.cli import confirm
    from fleet.cli.selection import carry_out
    from fleet.cli.selection import count as counted

    count = counted(queue, name, [state], selection, confirm.MANY + 1, limit=limit)
    if dry_run:
        would("delete", name, state, count)
        return
    if count:
        age = oldest(queue, name, [state], selection)
        copy = f"To keep a copy: fleet jobs export {pipeline} --state {state}"
        effect = f"{many(count)} {state} jobs of {name}{age} are deleted for good. {copy}"
        confirm.ask(confirm.Weight.SEVERE, effect, name=pipeline, confirmed=confirmed)
    else:
        confirm.free()
    _say_deleted(
        name, sum(carry_out(_discard(queue, name), queue, name, [state], selection, limit=limit, rate=rate))
    )


def _discard(queue: Queue, name: str) -> Callable[..., int]:
    return lambda state, **which: queue.discard(name, state, **which)


def _say_deleted(name: str, gone: int) -> None:
    from fleet.cli import output
    from fleet.cli.context import settings

    if settings().json:
        output.document({"schema": "fleet.delete/1", "pipeline": name, "deleted": gone})
    else:
        output.say(f"{name}  {gone:,} deleted")


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
    from fleet.cli.names import duration
    from fleet.cli.selection import Selection

    seconds = duration("--older", older) if older else None
    _, queue, name = open_pipeline(pipeline)
    selection = Selection(older=seconds)
    _delete_filtered(queue, name, pipeline, state.value, selection, None, None, dry_run, confirmed)
