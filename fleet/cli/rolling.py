"""fleet restart --rolling and --surge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.cli.up import processes

if TYPE_CHECKING:
    from fleet.cli.control import Run
    from fleet.manager.rolling import Rolled, Turn


def restart_rolling(run: Run, targets: list[str], *, max_down: int, surge: bool) -> None:
    """
    One batch after the other, each only when the one before works.

    Raises:
        PartlyDone: one did not come back; the rest was left alone.
    """
    from dataclasses import asdict

    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.cli.drain import DrainLine
    from fleet.cli.pulses import Pulses
    from fleet.manager.rolling import roll

    names = run.running(run.select(targets))
    if not names:
        output.say("nothing to restart: none of them runs")
        return
    groups = {name.partition(":")[0] for name in names}
    weight = confirm.Weight.FREE if len(groups) == 1 else confirm.Weight.MODERATE
    how = f"{max_down} at a time" if max_down > 1 else "one after the other"
    confirm.ask(weight, f"{processes(len(names))} will restart, {how}. Restart?", name=" ".join(targets))
    done: list[Rolled] = []
    for group in dict.fromkeys(name.partition(":")[0] for name in names):
        members = [name for name in names if name.partition(":")[0] == group]
        beside = _beside(run, group, min(max_down, len(members))) if surge else ()
        with DrainLine() as tell_drain:
            done.append(
                roll(
                    run.client,
                    members,
                    max_down=max_down,
                    beside=beside,
                    timeout=run.seconds or 60.0,
                    is_alive=Pulses(run.manifest).is_alive,
                    tell=None if settings().json else _say_turn,
                    tell_drain=tell_drain,
                )
            )
        if done[-1].failures:
            break
    restarted = [name for rolled in done for name in rolled.restarted]
    if restarted:
        run.tell("restart", restarted)
    if settings().json:
        output.document({"schema": "fleet.restart/1", "groups": [_document(asdict(r), r) for r in done]})
    elif not done[-1].failures:
        from fleet.units import short_duration

        count = sum(len(r.restarted) for r in done)
        output.say(f"{processes(count)} restarted in {short_duration(sum(r.seconds for r in done))}")
    _raise_if_failed(done[-1], len(names) - sum(len(r.restarted) for r in done))


def _beside(run: Run, group: str, number: int) -> tuple[str, ...]:
    """
    Processes of the room that are free to stand in.

    Raises:
        Refused: there are none.
    """
    from fleet.errors import Refused

    free = [p for p in run.processes if p.group == group and p.state.is_stopped]
    if len(free) < number:
        raise Refused(
            f"{group} has no room for {number} more: --surge starts new ones before old ones stop. "
            "Set room in the manifest, or use --rolling. Nothing was changed."
        )
    return tuple(p.full_name for p in sorted(free, key=lambda p: (len(p.name), p.name))[:number])


def _say_turn(turn: Turn) -> None:
    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.units import short_duration

    names = ", ".join(show(name.partition(":")[2]) for name in turn.names)
    if turn.failures:
        failure = turn.failures[0]
        mark = output.paint("!!" if output.ascii_only() else "✖", "red")
        output.say(f"{names}  {mark} {failure.process.state}: {show(failure.reason)}")
        for line in failure.lines:
            output.say(f"    {show(line, 200)}")
    elif turn.done:
        drained, started = short_duration(turn.drained), short_duration(turn.started)
        output.say(f"{names}  {turn.done}/{turn.of}  drained {drained}, running {started}")
    else:
        output.say(f"{names}  beside the others, running {short_duration(turn.started)}")


def _document(plain: dict[str, Any], rolled: Rolled) -> dict[str, Any]:
    failures = [
        {"process": f.process.full_name, "state": f.process.state, "reason": f.reason, "lines": list(f.lines)}
        for f in rolled.failures
    ]
    return {**plain, "failures": failures}


def _raise_if_failed(last: Rolled, untouched: int) -> None:
    from fleet.errors import PartlyDone

    if not last.failures:
        return
    bad = last.failures[0].process.name
    stopped = len(last.failures) if last.restarted or last.beside or untouched > len(last.left) else 0
    if stopped:
        text = f"stopped at {bad}, which does not come up; {untouched - stopped} go on with the old code."
    else:
        text = f"{bad} does not come up beside the others, so nobody was stopped."
    if last.beside:
        text += f" {', '.join(n.partition(':')[2] for n in last.beside)} runs in its place."
    raise PartlyDone(f"{text}\nSee: fleet logs {bad}. Undo the deploy, then: fleet restart {bad}")
