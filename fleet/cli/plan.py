"""fleet plan: what apply would do, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.manager.compare import Plan, Step
    from fleet.manager.desired import Desired
    from fleet.manager.places import Place
    from fleet.manifest import Manifest

DIFFERENT = 10  # `--exit-code` found differences; 2 would look like wrong usage
_MOST_WHY = 34  # columns
_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def plan(
    diff: Annotated[bool, typer.Option("--diff", help="the lines of the files that change, too")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit 10 if something would change")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PLAN", help="save it for fleet apply PLAN")
    ] = None,
) -> None:
    """
    What fleet apply would do: who starts, who drains, who never stops.

    Compares the manifest with the files on disk and with what runs, and changes
    nothing.  A saved plan is refused by apply once the world has changed.  Where
    apply would refuse, plan ends in the same words and exit code.

      fleet plan --diff
      fleet plan -o friday.plan && fleet apply friday.plan
    """
    import json

    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.manager import foreign, world
    from fleet.manager.desired import desired
    from fleet.manager.places import place_of
    from fleet.manifest import machine

    manifest = load_manifest()
    place = place_of(manifest)
    wanted = desired(manifest, place)
    found = world.plan(place, wanted)
    if out is not None:
        try:
            out.write_text(json.dumps(found.to_dict(), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise typer.BadParameter(f"cannot write {out}: {error.strerror}") from error
    if settings().json:
        output.document({**found.to_dict(), "unclaimed": unclaimed(manifest, found, place)})
    else:
        say(manifest, place, found)
        if diff:
            for line in diff_lines(place, wanted, found):
                output.say(line)
    machine.require(manifest)
    foreign.check(place, wanted, found)
    if not (settings().json or found.is_nothing):
        output.note(f"next: fleet apply{f' {out}' if out else ''}")
    if exit_code and not found.is_nothing:
        raise typer.Exit(DIFFERENT)


def say(manifest: Manifest, place: Place, found: Plan) -> None:
    """The plan for eyes: data on stdout, warnings on stderr."""
    import time

    from fleet.cli import output
    from fleet.dashboard.text import show

    where = "its own supervisord" if place.private else place.url
    if found.starts_supervisord:
        where = "a supervisord that is to be started"
    clock = time.strftime("%H:%M:%S")
    head = f"{manifest.path.name} rev {found.revision} against {show(where)} · read {clock}"
    output.say(head)
    output.say("nothing changed yet" if not found.is_nothing else "nothing to change")
    output.say()
    for sign, line in plan_lines(found, output.width()):
        output.say(_painted(sign, line))
    if not place.private and found.others:
        names = ", ".join(found.others[:5]) + (" …" if len(found.others) > 5 else "")
        output.say(f"\n  left alone: {len(found.others)} of others ({show(names)})")
    for note in found.notes:
        output.warn(show(note))
    for warning in manifest.warnings:
        output.warn(f"{warning.code} {show(warning.message)}")
    for queue_name, ready in unclaimed(manifest, found, place).items():
        output.warn(
            f"{show(queue_name)} still has {ready:,} ready job{'s' if ready != 1 else ''}, "
            "and no pipeline will take them"
        )
    if not found.is_nothing:
        output.say()
        for line in summary(found):
            output.say(line)


def _painted(sign: str, line: str) -> str:
    """Mark and name in the colour of the sign; the rest in the terminal's own, which suits its background."""
    from fleet.cli import output

    style = _STYLES.get(sign, "")
    if not line.startswith(f"  {sign} "):  # more about the pipeline above
        return line
    name = line[4:].partition(" ")[0]
    return f"  {output.paint(f'{sign} {name}', style)}{line[4 + len(name) :]}"


def plan_lines(found: Plan, width: int = 80) -> Iterator[tuple[str, str]]:
    """
    The body of the screen: a sign (+ ~ - =) and a line, for each pipeline that changes.

    Names and differences are foreign text, and safe here.
    """
    from textwrap import wrap

    from fleet.dashboard.text import pad, show, width_of

    changing = [step for step in found.steps if not step.is_nothing]
    wide = min(max((len(step.pipeline) for step in changing), default=0), 24)
    reasons = {id(step): [show(why, 60) for why in step.why] for step in changing}
    widest = max((width_of(why) for whys in reasons.values() for why in whys), default=0)
    why_wide = min(widest, _MOST_WHY)
    for step in changing:
        sign = {"add": "+", "remove": "-"}.get(step.action, "~")
        if step.action == "add" and step.why:
            sign = "~"
        left = f"  {sign} {pad(show(step.pipeline), wide)}  "
        blank = " " * width_of(left)
        effect, whys = effect_of(step), reasons[id(step)]
        first = f"{pad(whys[0], max(why_wide, width_of(whys[0])))}  " if whys else ""
        fits = width_of(left + first + effect) <= width
        yield sign, f"{left}{first}{effect if fits else ''}".rstrip()
        for why in whys[1:]:
            yield sign, f"{blank}{why}"
        if not fits:
            for index, line in enumerate(wrap(effect, max(width - len(blank) - 2, 20))):
                yield sign, f"{blank}{'→ ' if not index else '  '}{line}"
    same = [
        f"{show(step.pipeline)} ({show(', '.join(step.why))})" if step.why else show(step.pipeline)
        for step in found.steps
        if step.is_nothing
    ]
    if same:
        listed = ", ".join(same[:12]) + (f" … ({len(same)} in all)" if len(same) > 12 else "")
        for index, line in enumerate(wrap(listed, max(width - 4, 20))):
            yield "=", f"  {'=' if not index else ' '} {line}"


def effect_of(step: Step) -> str:
    """What it means for processes, such as "2 start beside the 4 that run"."""
    from fleet.units import short_duration

    drains = f"{step.drains} drain{'s' if step.drains == 1 else ''} (≤ {short_duration(step.longest)})"
    starts = f"{step.starts} start{'s' if step.starts == 1 else ''}"
    match step.action:
        case "add":
            return starts
        case "surge":
            old = f"{step.drains} old drain{'s' if step.drains == 1 else ''}"
            new = f"{step.tried} new start{'s' if step.tried == 1 else ''}"
            return f"surge: {new}, then {old} (≤ {short_duration(step.longest)})"
        case "replace" if step.tried:
            return f"{step.tried} new is tried first, then {drains}, {starts}"
        case "replace":
            return f"{drains}, then {starts}: a gap" if step.drains else starts
        case "remove":
            return drains if step.drains else "file removed"
        case "start":
            return f"{starts} beside the {step.keeps} that run" if step.keeps else starts
        case "scale":
            return f"{starts}, {drains}" if step.starts else drains
        case "rewrite":
            return "files only, nothing restarts"
    return ""


def summary(found: Plan) -> list[str]:
    """The last lines: counts, and the longest that anybody waits."""
    from fleet.units import short_duration

    signs = [sign for sign, line in plan_lines(found) if line.startswith(f"  {sign} ")]
    lines = [
        f"{signs.count('+')} to add, {signs.count('~')} to change, {signs.count('-')} to remove: "
        f"{_count(found.starts, 'start')}, {found.drains} drain{'s' if found.drains == 1 else ''}, "
        f"{found.keeps} untouched"
    ]
    if found.drains:
        longest = f"longest drain {short_duration(found.longest)}"
        how = {step.action for step in found.steps if step.drains}
        # A pipeline that goes or gets fewer is meant to do less: neither a gap nor a promise.
        if "replace" in how:
            longest = f"a gap while they drain; {longest}"
        elif how == {"surge"}:
            longest = f"capacity never falls below the present; {longest}"
        lines.append(longest)
    return lines


def _count(number: int, verb: str) -> str:
    return f"{number} process {verb}s" if number == 1 else f"{number} processes {verb}"


def diff_lines(place: Place, wanted: Desired, found: Plan) -> Iterator[str]:
    """A unified diff of every file that changes."""
    from difflib import unified_diff

    from fleet.cli import output
    from fleet.dashboard.text import show

    there = files_of(place, wanted.project)
    for name in (*found.write, *found.remove):
        old, new = there.get(name, ""), wanted.files.get(name, "")
        lines = unified_diff(
            old.splitlines(), new.splitlines(), f"{name} (on disk)", f"{name} (wanted)", lineterm="", n=1
        )
        yield ""
        for line in lines:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            yield output.paint(show(line), style)


def files_of(place: Place, project: str) -> Mapping[str, str]:
    from fleet.manager import files

    if not place.conf_dir.is_dir():
        return {}
    with files.opened(place.conf_dir, private=place.private) as folder:
        return folder.ours(project)


def unclaimed(manifest: Manifest, found: Plan, place: Place) -> dict[str, int]:
    """Ready jobs of pipelines that go, by queue name; nothing when the queue does not answer."""
    from fleet.cli.context import open_queue
    from fleet.errors import FleetError

    gone = [step.group for step in found.steps if step.action == "remove"]
    taken = {pipeline.queue_name for pipeline in manifest.pipelines.values()}
    names = set(_queue_names(files_of(place, manifest.project), gone)) - taken if gone else set()
    if not names:
        return {}
    try:
        with open_queue(manifest, looks=True) as queue:
            counts = {name: queue.stats(name, cap=1_000_000).ready for name in sorted(names)}
    except (FleetError, OSError):
        return {}
    return {name: ready for name, ready in counts.items() if ready}


def _queue_names(there: Mapping[str, str], groups: Sequence[str]) -> Iterator[str]:
    import re

    for group in groups:
        match = re.search(r'FLEET_PIPELINE="([^"]*)"', there.get(f"fleet.{group}.conf", ""))
        if match:
            yield match[1]
