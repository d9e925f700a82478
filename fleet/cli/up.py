"""fleet up and down: the manifest's processes, started and ended as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleet.manager.apply import Applied
    from fleet.manager.rollout import GroupResult
    from fleet.manager.stop import Down

TimeoutOption = Annotated[str, typer.Option(metavar="TIME", help="how long to wait, such as 90s or 5m")]
NowOption = Annotated[bool, typer.Option("--now", help="kill, instead of letting the job in hand finish")]


def up(timeout: TimeoutOption = "60s") -> None:
    """
    Start everything that the manifest asks for, and change what differs.

    Without [supervisor] in the manifest a private supervisord is started in
    .fleet/ beside it.  What already runs as it should is not touched.

      fleet up
      fleet up --timeout 5m
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import load_manifest, settings
    from fleet.cli.names import time_to_wait
    from fleet.errors import PartlyDone
    from fleet.manager import events
    from fleet.manager.apply import apply
    from fleet.manager.desired import desired
    from fleet.manager.places import place_of
    from fleet.manifest import machine

    seconds = time_to_wait("--timeout", timeout)
    with confirm.nothing_yet():
        manifest = load_manifest()
        machine.require(manifest)
        place = place_of(manifest)
        wanted = desired(manifest, place)
    confirm.ask(confirm.Weight.FREE, "", name="")
    wide = max([11, *map(len, manifest.pipelines)])
    told: list[GroupResult] = []

    def tell(result: GroupResult) -> None:
        told.append(result)
        if result.action != "kept" and not settings().json:
            for line in group_lines(result, wide):
                output.say(line)

    try:
        done = apply(place, wanted, timeout=seconds, tell=tell)
    except KeyboardInterrupt:
        output.note(f"stopped waiting; {len(told)} pipelines were ready. Run fleet up again to finish.")
        raise
    for warning in done.warnings:
        output.warn(warning)
    if settings().json:
        output.document(up_document(done))
    elif done.undone:
        for group in done.failed:
            for line in group_lines(group, wide):
                output.say(line)
    else:
        _say_up(done, wide)
    if not (done.is_unchanged or done.undone):
        changed = [group for group in done.groups if group.action != "kept"]
        what = ", ".join(f"{group.pipeline} {group.running}/{group.wanted}" for group in changed)
        names = [group.pipeline for group in changed]
        events.tell(manifest.state_dir, "up", what or "nothing restarted", names, root=manifest.root)
    if done.failed:
        raise PartlyDone(_failed(done))


def down(
    now: NowOption = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="stop waiting after this; no end by default")
    ] = "",
) -> None:
    """
    Stop everything, and end the private supervisord.

    All workers finish the job in hand together, each within its own grace.
    Files and jobs stay.

      fleet down
      fleet down --now
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import load_manifest, settings
    from fleet.cli.drain import DrainLine
    from fleet.cli.names import time_to_wait
    from fleet.errors import PartlyDone, Refused
    from fleet.manager import events
    from fleet.manager.places import place_of
    from fleet.manager.stop import down as take_down
    from fleet.units import short_duration

    seconds = time_to_wait("--timeout", timeout) if timeout else None
    manifest = load_manifest()
    home = place_of(manifest).home
    if home is None:
        raise Refused(
            "down ends a private supervisord, and this manifest names another one. See: fleet stop all"
        )
    confirm.ask(confirm.Weight.FREE, "", name="")
    with DrainLine() as tell:
        done = take_down(home, now=now, timeout=seconds, tell=tell)
    if done.ran:
        how = "killed" if now else "stopped"
        events.tell(manifest.state_dir, "down", f"{processes(len(done.stopped))} {how}")
    if settings().json:
        output.document(_down_document(done))
    elif not done.ran:
        output.say("nothing is running")
    elif not done.left:
        count = f"{processes(len(done.stopped))} " if done.stopped else ""
        output.say(
            f"{count}stopped, supervisord ended in {short_duration(done.seconds)}; nothing is left running"
        )
    if done.left:
        raise PartlyDone(
            f"{processes(len(done.left))} still busy with a job after {short_duration(done.seconds)}: "
            f"{', '.join(done.left[:10])}. supervisord goes on for them. Run fleet down again, or with --now."
        )


def processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def group_lines(result: GroupResult, wide: int) -> list[str]:
    """What happened to one pipeline, and why when it failed."""
    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.units import short_duration

    icon, bad = ("ok", "!!") if output.ascii_only() else ("✔", "✖")
    if result.action == "removed":
        what = f"drained {result.drained}, removed" if result.drained else "removed"
    else:
        what = f"{result.running}/{result.wanted} running"
        if result.untouched and result.action != "kept":
            what += f", {result.untouched} never stopped"
        if result.drained:
            what += f", {result.drained} drained"
    mark = output.paint(bad, "red") if result.failures else output.paint(icon, "green")
    lines = [
        f"{show(result.pipeline):{wide}}  {mark} {what:32}  {short_duration(result.seconds):>5}".rstrip()
    ]
    # One process tells the reason for all: they run the same code.
    for failure in result.failures[:1]:
        process = failure.process
        lines.append(f"{'':{wide}}  {show(process.name)} {process.state}: {show(failure.reason)}")
        lines += [f"{'':{wide}}    {show(line, 200)}" for line in failure.lines]
    if len(result.failures) > 1:
        lines.append(f"{'':{wide}}  and {len(result.failures) - 1} more")
    return lines


def _say_up(done: Applied, wide: int) -> None:
    from fleet.cli import output
    from fleet.units import short_duration

    running = sum(group.running for group in done.groups)
    pid = f"supervisord pid {done.daemon.pid}"
    if done.is_unchanged and not done.failed:
        pipelines = f"{len(done.groups)} pipeline{'' if len(done.groups) == 1 else 's'}"
        what = f"{processes(running)} of {pipelines}"
        output.say(f"nothing to change: {what} running as asked ({pid})")
        return
    kept = [group for group in done.groups if group.action == "kept"]
    for group in kept:
        if group.failures:
            for line in group_lines(group, wide):
                output.say(line)
    sound = len([group for group in kept if not group.failures])
    rest = f", {sound} of {len(done.groups)} pipelines left alone" if sound else ""
    output.say(f"{processes(running)} running{rest} · {short_duration(done.seconds)} · {pid}")
    output.note("look: fleet status · end: fleet down")


def _failed(done: Applied) -> str:
    if done.undone:  # tried by one worker each, before anything else was touched
        pipelines = ", ".join(group.pipeline for group in done.failed)
        return f"{pipelines}: new processes do not come up, so nothing was changed. Mend it, then: fleet up"
    names = [failure.process.name for group in done.failed for failure in group.failures]
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return (
        f"{len(names)} of {sum(group.wanted for group in done.groups)} processes did not come up: {shown}. "
        f"See: fleet logs {names[0]}"
    )


def up_document(done: Applied) -> dict[str, Any]:
    return {
        "schema": "fleet.up/1",
        "changed": not done.is_unchanged,
        "supervisord": {"pid": done.daemon.pid, "version": done.daemon.version, "started": done.started},
        "seconds": round(done.seconds, 3),
        "written": list(done.written),
        "removed": list(done.removed),
        "pipelines": [
            {
                "pipeline": group.pipeline,
                "group": group.group,
                "action": group.action,
                "wanted": group.wanted,
                "running": group.running,
                "untouched": group.untouched,
                "drained": group.drained,
                "failures": [
                    {
                        "process": failure.process.name,
                        "state": failure.process.state,
                        "reason": failure.reason,
                        "lines": list(failure.lines),
                    }
                    for failure in group.failures
                ],
            }
            for group in done.groups
        ],
    }


def _down_document(done: Down) -> dict[str, Any]:
    return {
        "schema": "fleet.down/1",
        "ran": done.ran,
        "pid": done.pid,
        "stopped": list(done.stopped),
        "left": list(done.left),
        "seconds": round(done.seconds, 3),
    }
