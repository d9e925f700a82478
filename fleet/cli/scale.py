"""fleet scale: another number of processes, now, and nobody else restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.up import processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.manager.places import Place
    from fleet.manager.scale import Scaling, Target
    from fleet.manifest import Manifest


def scale(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="PIPELINE=N…", help="without any: the numbers that hold by hand"),
    ] = None,
    time_limit: Annotated[
        str,
        typer.Option("--for", metavar="TIME", help="how long, such as 1h; the manifest's number comes back"),
    ] = "",
    save: Annotated[bool, typer.Option("--save", help="write it into the manifest, and apply that")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="how long to wait until they run")] = "60s",
) -> None:
    """
    Start or drain single processes; the pipeline's others never stop.

    Surplus ones finish the job in hand, idle ones go first.  The number holds
    until supervisord is started anew, numprocs in the manifest changes, or
    its time (--for) is over.  A small process waits for that; should it have
    been ended, the next fleet scale, apply or up does its work.

      fleet scale emails=6
      fleet scale emails=12 --for 1h
      fleet scale emails=4 --save
    """
    import time

    from fleet.cli import confirm, output
    from fleet.cli.context import load_manifest, settings
    from fleet.cli.drain import DrainLine
    from fleet.cli.names import time_to_wait
    from fleet.cli.pulses import Pulses
    from fleet.errors import Refused
    from fleet.manager import scale as scaling
    from fleet.manager.places import place_of

    if save and time_limit:
        raise typer.BadParameter("--for ends by itself, and --save does not: choose one")
    manifest = load_manifest()
    numbers = _numbers(manifest, wanted or [])
    seconds = time_to_wait("--timeout", timeout)
    until = time.time() + time_to_wait("--for", time_limit) if time_limit else None
    place = place_of(manifest)
    if (save or time_limit) and not numbers:
        raise typer.BadParameter(f"{'--save' if save else '--for'} needs PIPELINE=N")
    if save:
        _save(manifest, place, numbers, timeout)
        return
    numprocs = {p.group: p.numprocs for p in manifest.pipelines.values()}
    by_group = {manifest.pipelines[name].group: number for name, number in numbers.items()}
    try:
        found = scaling.preview(place, manifest.project, by_group, numprocs)
    except scaling.BeyondRoom as beyond:
        raise Refused(f"{beyond} {_help_beyond(manifest, numbers, beyond.room)}") from beyond
    drains = sum(len(target.drain) for target in found)
    weight = confirm.Weight.MODERATE if drains else confirm.Weight.FREE
    question = f"{processes(drains)} will stop after the job in hand. Scale?"
    confirm.ask(weight, question, name=" ".join(numbers))
    pulses = Pulses(manifest)
    try:
        with DrainLine() as tell:
            done = scaling.scale(
                place,
                manifest.project,
                by_group,
                numprocs=numprocs,
                until=until,
                timeout=seconds,
                busy_for=pulses.busy_for,
                is_alive=pulses.is_alive,
                tell=tell,
            )
    finally:
        # Also for somebody who does not wait for the last drain: the number is in force from the start.
        if until is not None:
            _end_at(until, manifest, place)
    _tell(manifest, done, time_limit)
    if settings().json:
        output.document(_document(done))
    else:
        _say(manifest, place, done, until)
    _raise_unless_up(done)


def _end_at(until: float, manifest: Manifest, place: Place) -> None:
    """Have `fleet scale`, which ends the numbers whose time is over, run then."""
    import sys

    from fleet.cli.context import settings
    from fleet.manager.later import later

    env = settings().env
    chosen = ["--manifest", str(manifest.path), *(["--env", env] if env else [])]
    words = [sys.executable, "-m", "fleet", *chosen, "--yes", "scale"]
    daemon = place.find()
    later(words, at=until, unless_ended=(daemon and daemon.pid) or 0)


def _tell(manifest: Manifest, done: Scaling, time_limit: str) -> None:
    from fleet.manager import events

    names = {p.group: p.name for p in manifest.pipelines.values()}
    changed = [t for t in done.targets if t.start or t.drain]
    if changed:
        what = ", ".join(f"{names[t.group]} {t.before} → {t.after}" for t in changed)
        text = f"{what} for {time_limit}" if time_limit else what
        events.tell(manifest.state_dir, "scale", text, [names[t.group] for t in changed])


def _numbers(manifest: Manifest, wanted: list[str]) -> dict[str, int]:
    from fleet.cli.names import unknown
    from fleet.manifest.leaves import MOST_PROCESSES

    numbers = {}
    for word in wanted:
        name, equals, number = word.partition("=")
        if not equals or not number.isdecimal() or int(number) > MOST_PROCESSES:
            raise typer.BadParameter(f"expected PIPELINE=N, such as emails=6, got {word!r}")
        if name not in manifest.pipelines:
            raise unknown("pipeline", name, manifest.pipelines)
        numbers[name] = int(number)
    return numbers


def _help_beyond(manifest: Manifest, numbers: Mapping[str, int], room: Mapping[str, int]) -> str:
    name = next((n for n in numbers if manifest.pipelines[n].group in room), "PIPELINE")
    return (
        f"fleet scale {name}={numbers.get(name, 'N')} --save writes it into the manifest, "
        "and replaces the group by surge: new ones start before old ones drain."
    )


def _save(manifest: Manifest, place: Place, numbers: Mapping[str, int], timeout: str) -> None:
    """Edit the manifest, apply it, and take the edit back if that fails or is not wanted."""
    from fleet.cli import output
    from fleet.cli.apply import carry_out
    from fleet.cli.context import load_manifest
    from fleet.cli.plan import say
    from fleet.errors import Refused
    from fleet.manager import world
    from fleet.manager.desired import desired
    from fleet.manifest import edit

    before = manifest.source.base.text
    pending = world.plan(place, desired(manifest, place))
    edit.write(manifest.path, edit.with_numprocs(manifest, numbers))
    try:
        new = load_manifest()
        elsewhere = [name for name, number in numbers.items() if new.pipelines[name].numprocs != number]
        if elsewhere:
            raise Refused(
                f"numprocs of {elsewhere[0]} comes from another file than {manifest.path.name}. "
                "Nothing was changed."
            )
        wanted = desired(new, place)
        found = world.plan(place, wanted)
        groups = {manifest.pipelines[name].group for name in numbers}
        others = [s.pipeline for s in pending.steps if not s.is_nothing and s.group not in groups]
        if others and not pending.starts_supervisord:
            raise Refused(
                f"the manifest holds other changes, too ({', '.join(others[:5])}). "
                "Apply them first: fleet apply"
            )
        carry_out(new, place, wanted, found, timeout=timeout, say=lambda: say(new, place, found), surge=True)
    except BaseException:
        edit.write(manifest.path, before)
        output.note(f"{manifest.path.name} is as it was")
        raise
    for name, number in numbers.items():
        output.note(f"{manifest.path.name}: pipelines.{name}.numprocs = {number}")


def _say(manifest: Manifest, place: Place, done: Scaling, until: float | None) -> None:
    import time

    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.manager.scale import by_hand
    from fleet.units import short_duration

    pipelines = {p.group: p for p in manifest.pipelines.values()}
    wide = max([8, *(len(pipelines[t.group].name) for t in done.targets)])
    for target in done.targets:
        pipeline = pipelines[target.group]
        end = f" until {time.strftime('%H:%M', time.localtime(until))}" if until else ""
        manifest_says = f" (manifest: {pipeline.numprocs})" if target.after != pipeline.numprocs else ""
        output.say(
            f"{show(pipeline.name):{wide}}  {target.before} → {target.after}"
            f"{end if manifest_says else ''}{manifest_says}"
        )
        output.say(f"{'':{wide}}  {_what(target)}")
    if done.targets:
        output.note(f"done in {short_duration(done.seconds)}")
        changed = [t for t in done.targets if t.before != t.after]
        if changed and until is None:
            back = " ".join(f"{pipelines[t.group].name}={t.before}" for t in changed)
            output.note(f"undo: fleet scale {back}")
        return
    held = by_hand(place, manifest.project)
    rows = [
        (
            pipelines[group].name,
            scaled.number,
            scaled.manifest,
            time.strftime("%H:%M", time.localtime(scaled.until)) if scaled.until else "supervisord restarts",
        )
        for group, scaled in held.items()
        if group in pipelines
    ]
    if rows:
        output.table(("PIPELINE", "PROCESSES", "MANIFEST", "UNTIL"), rows, right="PROCESSES MANIFEST")
    else:
        output.say("no number by hand: every pipeline has the manifest's")


def _what(target: Target) -> str:
    parts = []
    if target.start:
        parts.append(f"{len(target.start)} started")
    if target.drain:
        parts.append(f"{len(target.drain)} drained")
    kept = target.before - len(target.drain)
    parts.append(f"{kept} never stopped" if parts else "nothing to do")
    return ", ".join(parts)


def _document(done: Scaling) -> dict[str, object]:
    return {
        "schema": "fleet.scale/1",
        "groups": [
            {
                "group": target.group,
                "before": target.before,
                "after": target.after,
                "started": list(target.start),
                "drained": list(target.drain),
            }
            for target in done.targets
        ],
        "failed": [failure.process.full_name for failure in done.started.failures],
        "seconds": round(done.seconds, 3),
    }


def _raise_unless_up(done: Scaling) -> None:
    from fleet.errors import PartlyDone

    if done.started.failures:
        failure = done.started.failures[0]
        raise PartlyDone(
            f"{processes(len(done.started.failures))} did not come up: {failure.process.name} "
            f"{failure.process.state}, {failure.reason}. See: fleet logs {failure.process.name}"
        )
