"""
A snapshot as lines of text: pure, so that a frame can be tested as a text file.

`frame` makes the live screen, `once` one report for a terminal, `plain` the
table for a pipe.  No line of the first two is wider than the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap

from fleet.dashboard.columns import (
    ICONS,
    NARROW_PIPELINES,
    PIPELINES,
    PLAIN_PIPELINES,
    PLAIN_PROCESSES,
    PROCESSES,
    STYLES,
    TRAIL,
    WIDE_PIPELINES,
    WIDE_PROCESSES,
    WORDS,
    count,
    rate,
    share,
)
from fleet.dashboard.facts import Health, PipelineRow, ProcessRow, Snapshot, Source
from fleet.dashboard.lines import Column, Line, Row, Span, fit, spread, table, text_of, to_ascii, window
from fleet.dashboard.look import WINDOW_NAMES, Look, key_of, pipeline_rows, process_rows
from fleet.dashboard.panes import (
    bottom,
    clock,
    error_lines,
    event_lines,
    footer,
    help_lines,
    overlay_lines,
)
from fleet.dashboard.spark import CELLS, resample, spark
from fleet.dashboard.state import QUEUE_AWAY, SUPERVISORD_AWAY
from fleet.dashboard.text import show
from fleet.units import short_duration

NARROW = 72  # below: pipelines only
WIDE = 150  # from here: hosts, room, rates in and out, errors and events side by side
_SHORT = 14  # lines: below, pipelines only
_TALL = 20  # from here more than one line of trouble
_SAID_ALREADY = (QUEUE_AWAY, SUPERVISORD_AWAY)  # by the line of the source itself
_RECENT = 3600.0  # seconds: a deploy is news for that long


def frame(snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    """The whole live screen: at most *height* lines, none wider than *width*."""
    rule: Line = (Span("─" * width, "dim"),)
    top = [_title(snapshot, look, width), fit(_totals(snapshot, width), width)]
    trouble = _trouble(snapshot, look, width)[: 3 if height >= _TALL else 1]
    trouble = [rule, *trouble] if trouble else []
    if look.help or look.overlay:
        trouble = []
    room = height - len(top) - len(trouble) - 2  # the last rule and the line of keys
    if look.help:
        middle = [rule, *help_lines(width)]
    elif look.overlay is not None:
        middle = [rule, *overlay_lines(look.overlay, width, room - 1)]
    elif width < NARROW or height < _SHORT:
        middle = [rule, *_pipelines(snapshot, look, width, room - 2)]
    else:
        middle = _panes(snapshot, look, width, room)
    body = [*top, *middle][: max(height - len(trouble) - 2, 0)]
    body += [()] * (height - 2 - len(trouble) - len(body))
    lines = [*body, *trouble, rule, footer(look, width)][-max(height, 1) :]
    return [to_ascii(line) for line in lines] if look.ascii else lines


def _panes(snapshot: Snapshot, look: Look, width: int, room: int) -> list[Line]:
    """Pipelines above, the chosen pane below, and what happened at the bottom, in *room* lines."""
    rule: Line = (Span("─" * width, "dim"),)
    side_by_side = width >= WIDE and room >= 20
    in_place = look.pane in ("errors", "events") and not side_by_side
    least = 4 if room >= 14 else 2  # lines for the pane in the middle
    below: list[Line] = []
    spare = room - 3 - min(len(snapshot.pipelines), 6) - least - 1
    if side_by_side:
        below = bottom(snapshot, look, width, min(8, max(4, spare - 1)))
    elif spare >= 2 and snapshot.events and not in_place:
        below = bottom(snapshot, look, width, min(3, spare - 1))
    below = [rule, *below] if below else []
    room -= len(below)
    left = max(room - 4, 2)  # two rules and two heads
    share_of_pipelines = min(max(len(pipeline_rows(snapshot, look)), 1), max(left - least, left // 2))
    upper = _pipelines(snapshot, look, width, share_of_pipelines)
    height = left - share_of_pipelines
    if in_place and look.pane == "errors":
        middle = error_lines(snapshot, look, width, height + 1)
    elif in_place:
        middle = event_lines(snapshot, look, width, height + 1)
    else:
        rows = process_rows(snapshot, look)
        middle = _pane(_process_columns(snapshot, width), rows, look, "processes", width, height)
    middle = [*middle, *[()] * (height + 1 - len(middle))]
    return [rule, *upper, rule, *middle, *below]


def once(snapshot: Snapshot, look: Look, width: int, *, processes: bool = False) -> list[Line]:
    """One report for a terminal, as long as it needs to be."""
    columns = _pipeline_columns(snapshot, width)
    head, rows = _table(columns, pipeline_rows(snapshot, look), look, "", width)
    lines = [_title(snapshot, look, width, live=False), head, *rows, *_trouble(snapshot, look, width)]
    if processes:
        columns_of_processes = _process_columns(snapshot, width)
        head, rows = _table(columns_of_processes, process_rows(snapshot, look), look, "", width)
        lines += [(), head, *rows]
    if hint := _look_closer(snapshot):
        lines.append(fit((Span(hint, "dim"),), width))
    return [to_ascii(line) for line in lines] if look.ascii else lines


def _look_closer(snapshot: Snapshot) -> str:
    names = [
        row.name for row in snapshot.pipelines if row.health.is_trouble and row.reason not in _SAID_ALREADY
    ]
    if not names:
        return ""
    return "look closer: " + " · ".join(f"fleet why {show(name, 30)}" for name in names[:3])


def plain(snapshot: Snapshot, look: Look, *, processes: bool = False) -> list[str]:
    """Tables for a pipe: one record a line, whole values, nothing cut, no icons."""
    by_manifest = replace(look, sort="manifest")
    head, rows = table(PLAIN_PIPELINES, pipeline_rows(snapshot, by_manifest))
    lines = [head, *rows]
    if processes:
        head, rows = table(PLAIN_PROCESSES, process_rows(snapshot, by_manifest))
        lines += [(), head, *rows]
    return [text_of(to_ascii(line) if look.ascii else line).rstrip() for line in lines]


def silences(snapshot: Snapshot, look: Look) -> list[Line]:
    """A line for each source that does not answer, and for a queue that nobody has made yet."""
    queue = snapshot.queue
    sources = [("the queue", queue)]
    sources += [(f"supervisord on {show(host.name, 30)}", host) for host in snapshot.hosts]
    lines = [_silence(what, source, snapshot.taken_at, look) for what, source in sources if not source.ok]
    if queue.ok and queue.detail:
        lines.append((Span(" ▲ ", "yellow"), Span("the queue: ", "bold"), Span(show(queue.detail, 300))))
    return lines


def troubles(snapshot: Snapshot) -> list[str]:
    """A line for everything that is wrong, for a pipe: name, word, reason."""
    lines = [f"queue: no answer: {show(snapshot.queue.error)}"] if not snapshot.queue.ok else []
    lines += [
        f"supervisord on {show(host.name)}: no answer: {show(host.error)}"
        for host in snapshot.hosts
        if not host.ok
    ]
    return lines + [
        f"{show(row.name)}: {row.health.value}: {show(row.reason)}"
        for row in snapshot.pipelines
        if row.health.is_trouble and row.reason not in _SAID_ALREADY
    ]


# --- parts of the screen


def _title(snapshot: Snapshot, look: Look, width: int, live: bool = True) -> Line:
    spans = [Span(f" {show(snapshot.project, 30)}", "bold")]
    if width < NARROW:
        pass
    elif len(snapshot.hosts) > 2 or width < WIDE:
        silent = sum(not host.ok for host in snapshot.hosts)
        name = (
            show(snapshot.hosts[0].name, 20) if len(snapshot.hosts) == 1 else f"{len(snapshot.hosts)} hosts"
        )
        spans.append(Span(f" · {name}"))
        if silent:
            spans.append(Span(" ✖", "bold red"))
    else:
        for number, host in enumerate(snapshot.hosts):
            spans.append(Span(f"{' ·' if number == 0 else ''} {show(host.name, 30)} "))
            spans.append(Span("●", "green") if host.ok else Span("✖", "bold red"))
    running = "–" if snapshot.running is None else snapshot.running
    spans.append(Span(f" · {running}/{snapshot.wanted} processes"))
    if width >= WIDE:
        spans.append(Span(f" · {show(snapshot.queue.name, 60)}", "" if snapshot.queue.ok else "bold red"))
    at = clock(snapshot.taken_at, look)
    if not live:
        return spread(tuple(spans), (Span(at),), width)
    every = f"every {_interval(look.interval)}{' (slow)' if look.slow else ''} · "
    right = [Span(f"{_deploy(snapshot) if width >= WIDE else ''}{at} · {every if width >= NARROW else ''}")]
    if look.frozen:
        right.append(Span("frozen", "reverse"))
    elif look.late > 0:
        right.append(Span(f"no answer for {short_duration(look.late)}", "reverse"))
    else:
        right.append(Span("live"))
    return spread(tuple(spans), tuple(right), width)


def _deploy(snapshot: Snapshot) -> str:
    """ "up 9f3c1a 4m ago · " when that is news."""
    last = next((event for event in reversed(snapshot.events) if event.is_deploy), None)
    ago = snapshot.taken_at - last.at if last else _RECENT
    if last is None or ago >= _RECENT:
        return ""
    return " ".join(filter(None, (last.kind, show(last.revision, 12)))) + f" {short_duration(ago)} ago · "


def _interval(seconds: float) -> str:
    return f"{seconds:g}s"


def _totals(snapshot: Snapshot, width: int) -> Line:
    dim = "" if snapshot.queue.ok else "dim"
    plus = "+" if snapshot.capped else ""
    parts = []
    for state in ("ready", "delayed", "reserved", "buried"):
        parts.append(f"{state} {count(snapshot.total(state))}{plus if state == 'ready' else ''}")
    parts.append(f"{rate(snapshot.rate)} jobs/s")
    errors = _errors(snapshot)
    if errors is not None:
        parts.append(f"{share(errors)} errors")
    if width >= WIDE:
        parts[0] += f" {_all_ready(snapshot)}"
        parts[4] += f" {_all_minutes(snapshot, 'per_minute')}"
        if errors is not None:
            parts[5] += f" {_all_minutes(snapshot, 'failed_per_minute')}"
    while len(parts) > 1 and len("   ".join(parts)) + 1 > width:
        parts.pop()
    left: Line = (Span(" " + "   ".join(parts), dim),)
    if width < WIDE:
        return left
    tally: list[Span] = []
    for health in (Health.SLOW, Health.STALE, Health.UNKNOWN, Health.FAILING):
        number = sum(row.health is health for row in snapshot.pipelines)
        if number:
            tally.append(Span(f"{ICONS[health]} ", STYLES[health]))
            tally.append(Span(f"{number} {health.value}  ", WORDS[health]))
    return spread(left, tuple(tally), width)


def _errors(snapshot: Snapshot) -> float | None:
    """The share of all attempts that failed."""
    known = [row.flow for row in snapshot.pipelines if row.flow.errors is not None]
    attempts = sum(flow.ended for flow in known)
    if not known:
        return None
    return sum((flow.errors or 0.0) * flow.ended for flow in known) / attempts if attempts else 0.0


def _all_ready(snapshot: Snapshot) -> str:
    """The sum of the pipelines' trails, where all are known."""
    lines = [resample(row.trail, snapshot.taken_at, snapshot.window) for row in snapshot.pipelines]
    cells = list(zip(*lines, strict=True)) if lines else [()] * CELLS
    return spark([None if not cell or None in cell else sum(v or 0 for v in cell) for cell in cells])


def _all_minutes(snapshot: Snapshot, what: str) -> str:
    """Minutes that are over, all pipelines together."""
    lines = [getattr(row.flow, what)[:-1] for row in snapshot.pipelines if row.flow.per_minute]
    return spark([sum(cell) for cell in zip(*lines, strict=True)]) if lines else ""


def _trouble(snapshot: Snapshot, look: Look, width: int) -> list[Line]:
    """Who is silent since when, and why which pipeline is not well."""
    lines = [part for line in silences(snapshot, look) for part in _folded(line, width)]
    for row in sorted(snapshot.pipelines, key=lambda row: row.health.rank):
        if row.health.is_trouble and row.reason not in _SAID_ALREADY:
            icon = Span(f" {ICONS[row.health]} ", STYLES[row.health])
            name = Span(f"{show(row.name, 30)} {row.health.value}: ", WORDS[row.health])
            lines.append((icon, name, Span(show(row.reason, 200))))
    return [fit(line, width) for line in lines]


def _folded(line: Line, width: int) -> list[Line]:
    """Its complaint on lines of its own where one is too narrow: its end says what to do."""
    *head, complaint = line
    if len(text_of(line)) <= width:
        return [line]
    return [tuple(head), *((Span(f"   {part}"),) for part in wrap(complaint.text, max(width - 3, 1))[:2])]


def _silence(what: str, source: Source, now: float, look: Look) -> Line:
    silent = now - source.since if source.since is not None else 0.0
    since = f" since {clock(now - silent, look)} ({short_duration(silent)})" if silent >= 1 else ""
    return (
        Span(" ✖ ", "bold red"),
        Span(f"no answer{since} from {what}: ", "bold"),
        Span(show(source.complaint, 300)),
    )


def _pipelines(snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    rows = pipeline_rows(snapshot, look)
    return _pane(_pipeline_columns(snapshot, width), rows, look, "pipelines", width, height)


def _pane(
    columns: Sequence[Column[Row]], rows: Sequence[Row], look: Look, pane: str, width: int, height: int
) -> list[Line]:
    """The head and as many rows as fit; the selected one is always among them."""
    selected = look.pipeline if pane == "pipelines" else look.process
    chosen = next((i for i, row in enumerate(rows) if key_of(row) == selected), 0)  # type: ignore[arg-type]
    start, stop = window(len(rows), height, chosen)
    hidden = len(rows) - (stop - start)
    if hidden and height > 1:  # one line tells what is not there
        start, stop = window(len(rows), height - 1, chosen)
        hidden = len(rows) - (stop - start)
    head, body = _table(columns, rows[start:stop], look, pane, width)
    lines = [head, *body]
    if not rows:
        empty = f'nothing matches "{show(look.filter, 20)}"' if look.filter else f"no {pane}"
        lines.append(fit((Span(f"   {empty}", "dim"),), width))
    elif hidden and height > 1:
        arrows = ("↑" if start else "") + ("↓" if stop < len(rows) else "")
        lines.append(fit((Span(f"   … {hidden} more ({arrows})", "dim"),), width))
    return lines


def _table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], look: Look, pane: str, width: int
) -> tuple[Line, list[Line]]:
    """A table with its margin: the mark of the selected row, and the icon."""
    head, body = table(columns, rows, width - 3)
    selected = look.pipeline if look.pane == "pipelines" else look.process
    lines: list[Line] = []
    for row, line in zip(rows, body, strict=True):
        health: Health = row.health  # type: ignore[attr-defined]
        is_selected = pane == look.pane and key_of(row) == selected  # type: ignore[arg-type]
        margin = Span("▸" if is_selected else " ")
        if is_selected:
            line = tuple(Span(span.text, "reverse") for span in line)
        lines.append(fit((margin, Span(ICONS[health], STYLES[health]), Span(" "), *line), width))
    return fit((Span("   "), *head), width), lines


def _pipeline_columns(snapshot: Snapshot, width: int) -> Sequence[Column[PipelineRow]]:
    if width < NARROW:
        return NARROW_PIPELINES
    if width < WIDE:
        return PIPELINES
    trail = replace(TRAIL, head=WINDOW_NAMES.get(snapshot.window, TRAIL.head).upper())
    return _without_hosts([trail if c is TRAIL else c for c in WIDE_PIPELINES], snapshot)


def _process_columns(snapshot: Snapshot, width: int) -> Sequence[Column[ProcessRow]]:
    return _without_hosts(WIDE_PROCESSES, snapshot) if width >= WIDE else PROCESSES


def _without_hosts(columns: Sequence[Column[Row]], snapshot: Snapshot) -> Sequence[Column[Row]]:
    """Where there is one host only, its name stands in the title."""
    hosts = {host.name for host in snapshot.hosts} | {row.host for row in snapshot.processes}
    return columns if len(hosts) > 1 else [c for c in columns if c.head not in ("HOST", "HOSTS")]
