"""fleet doctor: what would go wrong here, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet.manager.doctor import Finding
    from fleet.manifest import Manifest

TROUBLE = 3
_CLOCK = 2.0  # seconds of difference that nobody notices


def doctor() -> int:
    """
    Look at everything that fleet needs here, and change nothing.

    Exit 3 when something is wrong; 0 when there are only warnings.

      fleet doctor
      fleet doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.manager.doctor import Level, examine
    from fleet.manager.places import place_of

    manifest = load_manifest()
    findings = [*examine(manifest, place_of(manifest)), *_queue(manifest)]
    bad = sum(finding.level is Level.BAD for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    if settings().json:
        output.document(
            {"schema": "fleet.doctor/1", "ok": not bad, "findings": [_document(f) for f in findings]}
        )
    else:
        for finding in findings:
            _say(finding)
        output.say(_verdict(bad, warnings))
    return TROUBLE if bad else 0


def _queue(manifest: Manifest) -> Iterator[Finding]:
    """The queue's server, tables and durability, as it tells them itself."""
    import os

    from fleet.errors import FleetError, SchemaError
    from fleet.manager.doctor import Finding, Level
    from fleet.manifest.dsn import file_of, hidden, is_sqlite
    from fleet.manifest.secrets import dsn_with_password
    from fleet.queue import connect

    dsn = manifest.queue.dsn
    if is_sqlite(dsn) and not os.path.exists(file_of(dsn)):  # noqa: PTH110  (where we may not look, too)
        text = f"{file_of(dsn)} is made by the first fleet up or jobs put"
        yield Finding(what="queue", level=Level.OK, text=text)
        return
    try:
        with connect(dsn_with_password(manifest), create=False) as queue:
            info = queue.info()
    except SchemaError as error:
        yield Finding(what="schema", level=Level.BAD, text=str(error))
        return
    except (FleetError, OSError) as error:
        yield Finding(what="queue", level=Level.BAD, text=hidden(str(error)))
        return
    text = f"{info.backend} {info.version}, {info.location}"
    yield Finding(what="queue", level=Level.OK, text=text)
    if info.schema_wanted is not None and info.schema_found is None:
        text = "no tables yet: the first worker or jobs put makes them, or now:"
        yield Finding(what="schema", level=Level.WARNING, text=text, mend=("fleet queue migrate",))
    elif info.schema_found != info.schema_wanted:
        text = f"tables of version {info.schema_found}"
        yield Finding(what="schema", level=Level.BAD, text=text, mend=("fleet queue migrate",))
    level = Level.WARNING if info.durability in ("memory", "process") else Level.OK
    yield Finding(
        what="durable", level=level, text=f"a job that was put survives a crash of: {info.durability}"
    )
    if info.clock_ahead is not None:
        yield clock_finding(info.clock_ahead)
    for note in info.notes:
        said, *mend = note.splitlines()
        yield Finding(what="queue", level=Level.WARNING, text=said, mend=tuple(mend))


def clock_finding(ahead: float) -> Finding:
    """The queue's server counts by its own clock, so a difference harms no job: only what people read."""
    from fleet.manager.doctor import Finding, Level
    from fleet.units import short_duration

    if abs(ahead) < _CLOCK:
        return Finding(what="clock", level=Level.OK, text="the queue's server and this host agree")
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        what="clock",
        level=Level.WARNING,
        text=f"the queue's server is {short_duration(abs(ahead))} {way} this host: "
        "jobs keep its time, logs and events this host's",
        mend=("sudo timedatectl set-ntp true   # on both",),
    )


def _say(finding: Finding) -> None:
    from textwrap import wrap

    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.manager.doctor import Level

    icons = {Level.OK: "✔", Level.WARNING: "▲", Level.BAD: "✖"}
    words = {Level.OK: "ok", Level.WARNING: "!", Level.BAD: "!!"}
    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.BAD: "red"}
    mark = words[finding.level] if output.ascii_only() else icons[finding.level]
    mark = output.paint(mark.ljust(2 if output.ascii_only() else 1), styles[finding.level])
    blank = " " * (15 + (1 if output.ascii_only() else 0))
    texts = [line for part in finding.text.splitlines() for line in wrap(show(part), 64) or [""]]
    output.say(f"{mark} {finding.what:12} {texts[0] if texts else ''}".rstrip())
    for line in texts[1:]:
        output.say(f"{blank}{line}")
    for command in finding.mend:
        output.say(f"{blank}  {show(command)}")


def _verdict(bad: int, warnings: int) -> str:
    if not bad and not warnings:
        return "nothing is wrong"
    parts = []
    if bad:
        parts.append(f"{bad} problem{'' if bad == 1 else 's'}")
    if warnings:
        parts.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
    return ", ".join(parts)


def _document(finding: Finding) -> dict[str, Any]:
    return {"what": finding.what, "level": finding.level, "text": finding.text, "mend": list(finding.mend)}
