"""fleet apply and rollback: make it so, or as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.up import TimeoutOption, processes

if TYPE_CHECKING:
    from fleet.manager.apply import Applied
    from fleet.manager.compare import Plan
    from fleet.manager.desired import Desired
    from fleet.manager.history import Revision
    from fleet.manager.places import Place
    from fleet.manifest import Manifest

_LARGEST_PLAN = 16 * 1024**2  # bytes; one of 5,000 pipelines has about two


def apply(
    saved: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="a plan that fleet plan -o has saved")
    ] = None,
    timeout: TimeoutOption = "60s",
) -> None:
    """
    Carry out the plan; if something does not come up, put everything back.

    New settings are tried by one worker before an old one stops, or run beside
    the old ones with rollout = "surge".  Asks first if a process stops.

      fleet apply
      fleet apply friday.plan -y --timeout 5m
    """
    from fleet.cli import confirm
    from fleet.cli.context import load_manifest
    from fleet.cli.plan import say
    from fleet.manager import world
    from fleet.manager.desired import desired
    from fleet.manager.places import place_of
    from fleet.manifest import machine

    with confirm.nothing_yet():
        manifest = load_manifest()
        machine.require(manifest)
        place = place_of(manifest)
        wanted = desired(manifest, place)
        found = world.plan(place, wanted)
    if saved is not None:
        _check_saved(saved, found)
    carry_out(manifest, place, wanted, found, timeout=timeout, say=lambda: say(manifest, place, found))


def rollback(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="one of --list; the one before by default")
    ] = "",
    listed: Annotated[bool, typer.Option("--list", help="the revisions that are remembered")] = False,
    timeout: TimeoutOption = "60s",
) -> None:
    """
    Go back to an earlier revision: its files, and its processes.

    The manifest stays as it is, and so fleet plan will show it as a difference.

      fleet rollback --list
      fleet rollback
    """
    from dataclasses import replace

    from fleet.cli import output
    from fleet.cli.context import load_manifest
    from fleet.cli.plan import say
    from fleet.errors import Refused
    from fleet.manager import world
    from fleet.manager.desired import desired
    from fleet.manager.places import place_of

    manifest = load_manifest()
    place = place_of(manifest)
    known, current = _remembered(place, manifest.project)
    if listed:
        _say_revisions(known, current)
        return
    chosen = _choose(known, current, revision)
    if chosen is None:
        what = f"no revision {revision}" if revision else "no earlier revision"
        raise Refused(f"{what} is remembered. See: fleet rollback --list")
    # Only the files of the pipelines are history; a private supervisord's own file is of today.
    wanted = replace(chosen.desired, main_conf=desired(manifest, place).main_conf)
    found = world.plan(place, wanted)
    carry_out(
        manifest,
        place,
        wanted,
        found,
        timeout=timeout,
        say=lambda: say(manifest, place, found),
        kind="rollback",
    )
    output.note("the manifest is as it was: fleet plan shows what differs from it now")


def carry_out(
    manifest: Manifest,
    place: Place,
    wanted: Desired,
    found: Plan,
    *,
    timeout: str,
    say: Any,
    surge: bool = False,
    kind: str = "apply",
) -> None:
    """Show the plan, ask if it stops anything, apply exactly that, and say how it went."""
    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.cli.names import time_to_wait
    from fleet.cli.pulses import Pulses
    from fleet.cli.up import group_lines
    from fleet.errors import PartlyDone
    from fleet.manager.apply import apply as apply_now
    from fleet.manager.rollout import GroupResult

    seconds = time_to_wait("--timeout", timeout)
    if not settings().json:
        say()
    weight = confirm.Weight.MODERATE if found.drains else confirm.Weight.FREE
    if found.is_nothing:
        confirm.free()
        if settings().json:
            output.document({"schema": "fleet.apply/1", "changed": False, "revision": found.revision})
        return
    whose = "its" if found.drains == 1 else "their"
    question = f"{processes(found.drains)} will stop after {whose} current job. Apply?"
    confirm.ask(weight, question, name=manifest.project or manifest.root.name)
    wide = max([11, *map(len, manifest.pipelines)])

    def tell(result: GroupResult) -> None:
        if result.action != "kept" and not settings().json:
            for line in group_lines(result, wide):
                output.say(line)

    done = apply_now(
        place,
        wanted,
        timeout=seconds,
        tell=tell,
        is_alive=Pulses(manifest).is_alive,
        undo=True,
        expect=found.fingerprint,
        surge=surge,
    )
    _tell(manifest, done, kind)
    for warning in done.warnings:
        output.warn(warning)
    if settings().json:
        output.document(_document(done))
    else:
        can_undo = _choose(*_remembered(place, wanted.project), "") is not None
        _say_done(done, wide, can_undo=can_undo)
    if done.failed:
        raise PartlyDone(_failed(done))


def _check_saved(path: Path, found: Plan) -> None:
    import json

    from fleet.errors import Refused
    from fleet.manager.compare import SCHEMA

    try:
        with open(path, "rb") as file:  # a device may have no end
            text = file.read(_LARGEST_PLAN + 1)
        if len(text) > _LARGEST_PLAN:
            raise ValueError
        value = json.loads(text)
        schema, fingerprint = value["schema"], value["fingerprint"]
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        schema, fingerprint = None, None
    if schema != SCHEMA:
        raise typer.BadParameter(f"{path} is not a plan that fleet plan -o has saved")
    if fingerprint != found.fingerprint:
        raise Refused(
            f"the manifest, the files or the processes have changed since {path} was made. "
            "Nothing was done; plan again."
        )


def _tell(manifest: Manifest, done: Applied, kind: str) -> None:
    """Note it for the time line; what was put back is no deploy."""
    from fleet.manager import events

    changed = [group for group in done.groups if group.action != "kept"]
    names = [group.pipeline for group in changed]
    what = ", ".join(
        f"{group.pipeline} {'removed' if group.action == 'removed' else f'{group.running}/{group.wanted}'}"
        for group in changed
    )
    if done.undone:
        failed = [group.pipeline for group in done.failed]
        events.tell(manifest.state_dir, "undone", f"{kind} of {done.revision}: {', '.join(failed)}", failed)
        return
    text = f"{done.revision}: {what or 'nothing restarted'}"
    events.tell(manifest.state_dir, kind, text, names, root=manifest.root)


def _say_done(done: Applied, wide: int, *, can_undo: bool) -> None:
    from fleet.cli import output
    from fleet.cli.up import group_lines
    from fleet.units import short_duration

    for group in done.groups:
        if group.action in ("kept", "refused") and group.failures:
            for line in group_lines(group, wide):
                output.say(line)
    if done.undone and all(group.action == "refused" for group in done.failed):
        output.say(f"nothing changed, no old process was stopped · {short_duration(done.seconds)}")
        return
    if done.undone:
        output.say(f"put back as it was · {short_duration(done.seconds)}")
        return
    output.say(f"applied {done.revision} in {short_duration(done.seconds)}")
    if can_undo:
        output.note("undo: fleet rollback")


def _failed(done: Applied) -> str:
    names = ", ".join(group.pipeline for group in done.failed)
    log = done.failed[0].failures[0].process.name
    if done.undone:
        return f"{names}: the new processes do not come up, so everything is as it was before."
    return f"{names}: not everything runs, and it did not before either. See: fleet logs {log}"


def _document(done: Applied) -> dict[str, Any]:
    from fleet.cli.up import up_document

    return {**up_document(done), "schema": "fleet.apply/1", "revision": done.revision, "undone": done.undone}


def _remembered(place: Place, project: str) -> tuple[tuple[Revision, ...], dict[str, str]]:
    """The revisions, oldest first, and the files of today."""
    from fleet.manager import files, history

    if not place.conf_dir.is_dir():
        return (), {}
    with files.opened(place.conf_dir, private=place.private) as folder:
        return history.revisions(folder, project), folder.ours(project)


def _choose(known: Any, current: dict[str, str], revision: str) -> Any:
    """The revision that is meant: by its digest or number, or the last one that differs from today."""
    if revision:
        return next((r for r in reversed(known) if revision in (r.revision, str(r.number))), None)
    here = next((i for i in range(len(known) - 1, -1, -1) if known[i].desired.files == current), len(known))
    return known[here - 1] if here > 0 else None


def _say_revisions(known: Any, current: dict[str, str]) -> None:
    from datetime import datetime

    from fleet.cli import output
    from fleet.cli.context import settings

    rows = [
        (
            revision.number,
            revision.revision,
            datetime.fromtimestamp(revision.at).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            len(revision.desired.groups),
            "in force" if revision.desired.files == current else "",
        )
        for revision in reversed(known)
    ]
    if settings().json:
        keys = ("number", "revision", "at", "pipelines", "state")
        output.document(
            {"schema": "fleet.revisions/1", "revisions": [dict(zip(keys, r, strict=True)) for r in rows]}
        )
    elif rows:
        output.table(("NUMBER", "REV", "APPLIED", "PIPELINES", ""), rows, right="NUMBER PIPELINES")
    else:
        output.note("no revision yet: fleet apply makes one")
