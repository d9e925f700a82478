"""fleet start, stop and restart: single processes, pipelines, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.up import NowOption, processes

if TYPE_CHECKING:
    from fleet.manager.start import Started
    from fleet.manager.stop import Stopped

TargetsArgument = Annotated[
    list[str], typer.Argument(metavar="TARGET…", help="a pipeline, a process (emails_03), a glob, or all")
]


def start(
    targets: TargetsArgument,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="how long to wait until they run")] = "60s",
) -> None:
    """
    Start what is stopped, and wait until it runs.

    A pipeline means as many processes as the manifest or fleet scale asks for;
    by its name, one in the room above them is started, too.

      fleet start emails
      fleet start emails_03 'thumbs_*'
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.manager.start import start as begin

    run = Run(timeout)
    confirm.ask(confirm.Weight.FREE, "", name="")
    done = begin(run.client, run.select(targets, for_start=True), timeout=run.seconds or 60.0)
    before = run.running(done.up)
    if new := [name for name in done.up if name not in before]:
        run.tell("start", new)
    if settings().json:
        output.document({"schema": "fleet.start/1", **_started_document(done)})
    else:
        _say_started(done)
    _raise_unless_up(done)


def stop(
    targets: TargetsArgument,
    now: NowOption = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="stop waiting after this; no end by default")
    ] = "",
    confirmed: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="for --now: the target, typed again")
    ] = None,
) -> None:
    """
    Stop after the job in hand, everything at once, each within its own grace.

    What is stopped stays so until fleet start or fleet up, or until supervisord
    is started again.

      fleet stop emails
      fleet stop all --timeout 5m -y
    """
    import shlex
    from dataclasses import asdict

    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.cli.drain import DrainLine
    from fleet.manager.stop import stop as end
    from fleet.units import short_duration

    run = Run(timeout)
    names = run.running(run.select(targets))
    if names:
        how = "be killed in the middle of their job" if now else "stop after the job in hand"
        weight = confirm.Weight.SEVERE if now else confirm.Weight.MODERATE
        label = " ".join(targets)
        confirm.ask(weight, f"{processes(len(names))} will {how}. Stop?", name=label, confirmed=confirmed)
    try:
        with DrainLine() as tell:
            done = end(run.client, names, now=now, timeout=run.seconds, tell=tell)
    except KeyboardInterrupt:
        run.tell("stop", names)  # they were told to, and stop
        raise
    if done.stopped:
        run.tell("stop", done.stopped)
    if settings().json:
        output.document({"schema": "fleet.stop/1", **asdict(done)})
    elif not names:
        output.say("nothing to stop: none of them runs")
    else:
        output.say(
            f"{len(done.stopped)} of {processes(len(names))} stopped in {short_duration(done.seconds)}"
        )
        output.note(f"undo: fleet start {shlex.join(targets)}")
    _raise_if_left(done)


def restart(
    targets: TargetsArgument,
    now: NowOption = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="how long to wait until they run again")
    ] = "60s",
    rolling: Annotated[
        bool, typer.Option("--rolling", help="one at a time, the next only when it works again")
    ] = False,
    surge: Annotated[
        bool, typer.Option("--surge", help="rolling, with one more beside them meanwhile")
    ] = False,
    max_down: Annotated[
        int, typer.Option("--max-down", min=1, metavar="N", help="with --rolling: so many at a time")
    ] = 1,
    confirmed: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="for --now: the target, typed again")
    ] = None,
) -> None:
    """
    Stop after the job in hand, then start again: all of them together.

    With --rolling it ends at the first that does not come back, and the others
    go on as they are.  --surge uses the room of the pipeline.

      fleet restart emails --rolling
      fleet restart all --surge -y
    """
    import shlex

    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.cli.drain import DrainLine
    from fleet.manager.start import start as begin
    from fleet.manager.stop import stop as end
    from fleet.units import short_duration

    if now and (rolling or surge):
        raise typer.BadParameter("--now kills all of them at once; --rolling and --surge do the opposite")
    run = Run(timeout)
    if rolling or surge:
        from fleet.cli.rolling import restart_rolling

        restart_rolling(run, targets, max_down=max_down, surge=surge)
        return
    chosen = run.select(targets)
    going = run.running(chosen)
    names = tuple(dict.fromkeys([*going, *run.select(targets, for_start=True)]))
    how = "be killed in the middle of their job" if now else "stop after the job in hand"
    question = f"{processes(len(going))} will {how}, then {len(names)} start. Restart?"
    weight = confirm.Weight.SEVERE if now else confirm.Weight.MODERATE
    confirm.ask(
        weight if going else confirm.Weight.FREE, question, name=" ".join(targets), confirmed=confirmed
    )
    try:
        with DrainLine() as tell:
            stopped = end(run.client, going, now=now, tell=tell)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"What has stopped stays so: fleet start {shlex.join(targets)}")
        raise
    done = begin(run.client, names, timeout=run.seconds or 60.0)
    if names:
        run.tell("restart", names)
    if settings().json:
        output.document(
            {"schema": "fleet.restart/1", "stopped": list(stopped.stopped), **_started_document(done)}
        )
    else:
        output.say(f"{processes(len(stopped.stopped))} stopped in {short_duration(stopped.seconds)}")
        _say_started(done)
    _raise_unless_up(done)


class Run:
    """One command's view: the manifest, its supervisord, and what exists there."""

    def __init__(self, timeout: str) -> None:
        from fleet.cli.context import load_manifest
        from fleet.cli.names import time_to_wait
        from fleet.errors import SupervisorUnavailable
        from fleet.manager.places import place_of

        self.seconds = time_to_wait("--timeout", timeout) if timeout else None
        self.manifest = load_manifest()
        self.place = place_of(self.manifest)
        if self.place.find() is None:
            raise SupervisorUnavailable(
                f"nothing runs here: no supervisord at {self.place.url}. Start it: fleet up"
            )
        self.client = self.place.client()
        self.processes = self.client.processes()

    def select(self, targets: list[str], *, for_start: bool = False) -> tuple[str, ...]:
        """
        Full names of the processes that *targets* mean.

        Raises:
            ProcessNotFound: a target means none.
            Refused: one of them is somebody else's.
        """
        from fleet.manager import scale, world
        from fleet.manager.targets import room, select

        groups = {pipeline.name: pipeline.group for pipeline in self.manifest.pipelines.values()}
        names = [process.full_name for process in self.processes]
        spare: frozenset[str] = frozenset()
        if for_start:
            numprocs = {each.group: each.numprocs for each in self.manifest.pipelines.values()}
            by_hand = scale.numbers(self.place, self.manifest.project, numprocs)
            spare = room(names, numprocs, by_hand, self.running(tuple(names)))
        chosen = select(targets, groups, names, room=spare)
        world.check_ours(self.place, self.manifest.project, {name.partition(":")[0] for name in chosen})
        return chosen

    def tell(self, kind: str, names: Sequence[str]) -> None:
        """Note in the file of events what was done to these processes."""
        from fleet.manager import events

        manifest = self.manifest
        groups = {name.partition(":")[0] for name in names}
        pipelines = [each.name for each in manifest.pipelines.values() if each.group in groups]
        text = f"{', '.join(pipelines)}: {processes(len(names))}"
        events.tell(manifest.state_dir, kind, text, pipelines, root=manifest.root)

    def running(self, names: tuple[str, ...]) -> tuple[str, ...]:
        found = {p.full_name for p in self.processes if not p.state.is_stopped}
        return tuple(name for name in names if name in found)


def _started_document(done: Started) -> dict[str, Any]:
    return {
        "running": list(done.up),
        "failures": [
            {
                "process": f.process.full_name,
                "state": f.process.state,
                "reason": f.reason,
                "lines": list(f.lines),
            }
            for f in done.failures
        ],
        "seconds": round(done.seconds, 3),
    }


def _say_started(done: Started) -> None:
    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.units import short_duration

    if not done.up and not done.failures:
        output.say("nothing to start")
        return
    output.say(f"{processes(len(done.up))} running · {short_duration(done.seconds)}")
    for failure in done.failures[:5]:
        output.say(f"{show(failure.process.name)}  {failure.process.state}: {show(failure.reason)}")
        for line in failure.lines:
            output.say(f"  {show(line, 200)}")


def _raise_unless_up(done: Started) -> None:
    from fleet.errors import PartlyDone

    if done.failures:
        names = [failure.process.name for failure in done.failures]
        shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        raise PartlyDone(f"{processes(len(names))} did not come up: {shown}. See: fleet logs {names[0]}")


def _raise_if_left(done: Stopped) -> None:
    from fleet.errors import PartlyDone

    if done.left:
        shown = ", ".join(done.left[:10]) + (" …" if len(done.left) > 10 else "")
        raise PartlyDone(
            f"{processes(len(done.left))} still busy with a job: {shown}. They end by themselves."
        )
