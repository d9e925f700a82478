"""
A snapshot as lines of text: pure, so that a frame can be tested as a text file.

`frame` makes the live screen, `once` one report for a terminal, `plain` the
table for a pipe.  No line of the first two is wider than the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

from fleet.dashboard.columns import (
    ICONS,
    NARROW_PIPELINES,
    PIPELINES,
    PLAIN_PIPELINES,
    PLAIN_PROCESSES,
    PROCESSES,
    STYLES,
    WIDE_PIPELINES,
    WIDE_PROCESSES,
    count,
    rate,
)
from fleet.dashboard.facts import Health, PipelineRow, ProcessRow, Snapshot, Source
from fleet.dashboard.lines import Column, Line, Row, Span, fit, spread, table, text_of, to_ascii, window
from fleet.dashboard.state import QUEUE_AWAY, SUPERVISORD_AWAY
from fleet.dashboard.text import show, width_of
from fleet.units import short_duration

NARROW = 72  # below: pipelines only
WIDE = 130  # from here: hosts, room, totals, reasons in the row
_SAID_ALREADY = (QUEUE_AWAY, SUPERVISORD_AWAY)  # by the line of the source itself
SORTS = ("trouble", "name", "load")

KEYS = (
    ("q", "quit; the workers go on"),
    ("?", "this help"),
    ("up down, j k", "select a row"),
    ("tab", "the other pane: pipelines, processes"),
    ("enter", "only the selected pipeline's processes, and back"),
    ("/", "filter by name; enter keeps it, esc clears it"),
    ("s", "sort by trouble, name or load"),
    ("space", "freeze the screen, and go on"),
    ("+ -", "look more or less often"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the reader wants to see it: everything that keys change."""

    ascii: bool = False
    timezone: tzinfo | None = None  # None: this host's
    interval: float = 1.0  # seconds between two snapshots
    slow: bool = False  # the interval was doubled because the sources are slow
    frozen: bool = False
    late: float = 0.0  # seconds since a snapshot was due and none came
    pane: str = "pipelines"  # or "processes"
    pipeline: str | None = None  # selected row
    process: str | None = None  # selected row, "host/full_name"
    only: str | None = None  # show the processes of this pipeline only
    filter: str = ""
    typing: bool = False  # the filter is being typed
    sort: str = SORTS[0]
    help: bool = False


def frame(snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    """The whole live screen: at most *height* lines, none wider than *width*."""
    rule: Line = (Span("─" * width, "dim"),)
    pipelines, processes = pipeline_rows(snapshot, look), process_rows(snapshot, look)
    top = [_title(snapshot, look, width), fit(_totals(snapshot, width), width)]
    below = _footer(look, width)
    trouble = _trouble(snapshot, look, width)[: 3 if height >= 20 else 1]
    if trouble:
        trouble = [rule, *trouble]
    columns = _pipeline_columns(width)
    if look.help:
        middle, trouble = [rule, *_help(width)], []
    elif width < NARROW or height < 14:
        room = height - len(top) - len(trouble) - 4  # rule, head, rule, footer
        middle = [rule, *_pane(columns, pipelines, look, "pipelines", width, room)]
    else:
        room = max(height - len(top) - len(trouble) - 6, 2)  # two rules, two heads, rule, footer
        share = min(max(len(pipelines), 1), max(room - 4, room // 2))
        middle = [rule, *_pane(columns, pipelines, look, "pipelines", width, share)]
        middle += [
            rule,
            *_pane(_process_columns(width), processes, look, "processes", width, room - share),
        ]
    body = [*top, *middle][: max(height - len(trouble) - 2, 0)]
    body += [()] * (height - 2 - len(trouble) - len(body))
    lines = [*body, *trouble, rule, below][-max(height, 1) :]
    return [to_ascii(line) for line in lines] if look.ascii else lines


def once(snapshot: Snapshot, look: Look, width: int, *, processes: bool = False) -> list[Line]:
    """One report for a terminal, as long as it needs to be."""
    head, rows = _table(_pipeline_columns(width), pipeline_rows(snapshot, look), look, "", width)
    lines = [_title(snapshot, look, width, live=False), head, *rows, *_trouble(snapshot, look, width)]
    if processes:
        head, rows = _table(_process_columns(width), process_rows(snapshot, look), look, "", width)
        lines += [(), head, *rows]
    return [to_ascii(line) for line in lines] if look.ascii else lines


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
    """A line for each source that does not answer."""
    sources = [("the queue", snapshot.queue)]
    sources += [(f"supervisord on {show(host.name, 30)}", host) for host in snapshot.hosts]
    return [_silence(what, source, snapshot.taken_at, look) for what, source in sources if not source.ok]


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


# --- rows: chosen and sorted


def pipeline_rows(snapshot: Snapshot, look: Look) -> list[PipelineRow]:
    """Trouble first, then in the order of the manifest, unless the reader sorts otherwise."""
    rows = [row for row in snapshot.pipelines if look.filter.lower() in row.name.lower()]
    if look.sort == "trouble":
        rows.sort(key=lambda row: row.health.rank)
    elif look.sort == "name":
        rows.sort(key=lambda row: row.name)
    elif look.sort == "load":
        rows.sort(key=lambda row: -(row.jobs.ready if row.jobs else -1))
    return rows


def process_rows(snapshot: Snapshot, look: Look) -> list[ProcessRow]:
    """Those that do not run first, then as supervisord numbers them, or by CPU."""
    rows = [
        row
        for row in snapshot.processes
        if (look.only is None or row.pipeline == look.only)
        and (look.filter.lower() in row.name.lower() or look.filter.lower() in row.pipeline.lower())
    ]
    if look.sort == "trouble":
        rows.sort(key=lambda row: (row.state in ("RUNNING", "OUTSIDE"), row.health.rank))
    elif look.sort == "name":
        rows.sort(key=lambda row: row.name)
    elif look.sort == "load":
        rows.sort(key=lambda row: -(row.cpu or 0))
    return rows


def key_of(row: PipelineRow | ProcessRow) -> str:
    """What `Look.pipeline` and `Look.process` hold to name a row."""
    return row.name if isinstance(row, PipelineRow) else f"{row.host}/{row.full_name}"


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
    at = _clock(snapshot.taken_at, look)
    if not live:
        return spread(tuple(spans), (Span(at),), width)
    every = f"every {_interval(look.interval)}{' (slow)' if look.slow else ''} · "
    right = [Span(f"{at} · {every if width >= NARROW else ''}")]
    if look.frozen:
        right.append(Span("frozen", "bold yellow"))
    elif look.late > 0:
        right.append(Span(f"no answer for {short_duration(look.late)}", "bold yellow"))
    else:
        right.append(Span("live", "green"))
    return spread(tuple(spans), tuple(right), width)


def _interval(seconds: float) -> str:
    return f"{seconds:g}s"


def _totals(snapshot: Snapshot, width: int) -> Line:
    dim = "" if snapshot.queue.ok else "dim"
    plus = "+" if snapshot.capped else ""
    parts = []
    for state in ("ready", "delayed", "reserved", "buried"):
        parts.append(f"{state} {count(snapshot.total(state))}{plus if state == 'ready' else ''}")
    parts.append(f"{rate(snapshot.rate)} jobs/s")
    while len(parts) > 1 and len("   ".join(parts)) + 1 > width:
        parts.pop()
    left: Line = (Span(" " + "   ".join(parts), dim),)
    if width < WIDE:
        return left
    tally: list[Span] = []
    for health in (Health.SLOW, Health.STALE, Health.UNKNOWN, Health.FAILING):
        number = sum(row.health is health for row in snapshot.pipelines)
        if number:
            tally.append(Span(f"{ICONS[health]} {number} {health.value}  ", STYLES[health]))
    return spread(left, tuple(tally), width)


def _trouble(snapshot: Snapshot, look: Look, width: int) -> list[Line]:
    """Who is silent since when; and, where rows have no room for it, why they are not well."""
    lines = silences(snapshot, look)
    if width < WIDE:
        for row in sorted(snapshot.pipelines, key=lambda row: row.health.rank):
            if row.health.is_trouble and row.reason not in _SAID_ALREADY:
                icon = Span(f" {ICONS[row.health]} ", STYLES[row.health])
                lines.append((icon, Span(f"{show(row.name, 30)}: {show(row.reason, 200)}")))
    return [fit(line, width) for line in lines]


def _silence(what: str, source: Source, now: float, look: Look) -> Line:
    silent = now - source.since if source.since is not None else 0.0
    since = f" since {_clock(now - silent, look)} ({short_duration(silent)})" if silent >= 1 else ""
    return (
        Span(" ✖ ", "bold red"),
        Span(f"no answer{since} from {what}: ", "bold"),
        Span(show(source.error, 300)),
    )


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


def _footer(look: Look, width: int) -> Line:
    if look.typing:
        return fit(
            (Span(f" / {show(look.filter, 40)}▏", "bold"), Span("   enter keep   esc clear", "dim")), width
        )
    enter = "all processes" if look.only else "its processes"
    hints = [("?", "help"), ("q", "quit"), ("jk", "select"), ("enter", enter), ("/", "filter"), ("s", "sort")]
    hints += [("space", "go on" if look.frozen else "freeze"), ("+-", "interval"), ("tab", "pane")]
    state = f"/{show(look.filter, 20)} " if look.filter else ""
    state += f"sort: {look.sort} " if look.sort != SORTS[0] else ""
    spans: list[Span] = []
    used = width_of(state) - (not state)  # the last blank may fall off the edge
    for key, what in hints:
        need = len(key) + len(what) + 3
        if used + need > width:
            break
        spans += [Span(f" {key}", "bold"), Span(f" {what} ", "dim")]
        used += need
    return spread(tuple(spans), (Span(state, "bold yellow"),), width)


def _help(width: int) -> list[Line]:
    # Without headings, so that all of it fits on 24 lines.
    lines: list[Line] = [(Span(f"   {key:14}", "bold"), Span(what)) for key, what in KEYS]
    lines.append(())
    words = {
        Health.OK: "as many processes run as the manifest wants",
        Health.FAILING: "a process that does not stay up, buried jobs, or no queue",
        Health.SLOW: "the oldest ready job waits longer than the manifest allows",
        Health.STALE: "a worker is silent, or leases ran out",
        Health.UNKNOWN: "supervisord does not answer",
        Health.STARTING: "on its way up; draining: on its way down",
        Health.PAUSED: "hands out no jobs for a while",
        Health.STOPPED: "stopped by hand, or not applied yet",
    }
    for health, what in words.items():
        icon = Span(f"   {ICONS[health]} ", STYLES[health])
        lines.append((icon, Span(f"{health.value:12}", STYLES[health]), Span(what)))
    return [fit(line, width) for line in lines]


def _pipeline_columns(width: int) -> Sequence[Column[PipelineRow]]:
    if width < NARROW:
        return NARROW_PIPELINES
    return WIDE_PIPELINES if width >= WIDE else PIPELINES


def _process_columns(width: int) -> Sequence[Column[ProcessRow]]:
    return WIDE_PROCESSES if width >= WIDE else PROCESSES


def _clock(at: float, look: Look) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone(look.timezone).strftime("%H:%M:%S")
