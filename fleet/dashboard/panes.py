"""The lower part of the screen: errors, events, texts, help and the line of keys.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fleet.dashboard.changes import AWAY, FAILING, SLOW, WELL
from fleet.dashboard.columns import ICONS, STYLES, WORDS, count
from fleet.dashboard.facts import Cause, Health, Snapshot
from fleet.dashboard.flow import WINDOW
from fleet.dashboard.lines import Column, Line, Span, fit, spread, table, text_of
from fleet.dashboard.look import KEYS, SORTS, WINDOW_NAMES, Look, Overlay, causes, key_of
from fleet.dashboard.text import quoted, show, width_of, wrap
from fleet.manager.events import Event

_MARKS = {FAILING: ("✖", "bold red"), AWAY: ("✖", "bold red"), SLOW: ("▲", "yellow"), WELL: ("●", "green")}
_HALF = 40  # columns: two panes side by side need at least that much each


def clock(at: float, look: Look, *, seconds: bool = True) -> str:
    form = "%H:%M:%S" if seconds else "%H:%M"
    return datetime.fromtimestamp(at, UTC).astimezone(look.timezone).strftime(form)


def error_lines(snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    """The head and at most *height* - 1 groups; the selected one is among them."""
    rows = causes(snapshot, look)
    title = "ERRORS, last hour" + (f" · {show(look.only, 20)}" if look.only else "")
    style = "bold" if look.pane == "errors" else "dim"
    lines: list[Line] = [fit((Span(f" {title}", style),), width)]
    if not rows:
        return [*lines, fit((Span("   none", "dim"),), width)][:height]
    index = next((i for i, cause in enumerate(rows) if key_of(cause) == look.cause), 0)
    first = min(max(0, index - height + 2), max(0, len(rows) - height + 1))
    shown = rows[first : first + height - 1]
    columns = (
        Column[Cause](head="", cell=lambda cause: count(cause.count), right=True, least=4),
        Column[Cause](
            head="",
            cell=lambda cause: "✖" if cause.is_grave else "↻",
            style=lambda cause: "bold red" if cause.is_grave else "yellow",
        ),
        Column[Cause](head="", cell=lambda cause: show(cause.cause, 160), least=26, grows=True),
        Column[Cause](head="", cell=lambda cause: show(_short_place(cause.place), 28), drop=2),
        Column[Cause](head="", cell=lambda cause: show(cause.pipeline, 20), drop=1),
        Column[Cause](
            head="", cell=lambda cause: f"first {clock(cause.first_at, look, seconds=False)}", drop=3
        ),
        Column[Cause](
            head="",
            cell=lambda cause: " ".join(f"{kind} {count(many)}" for kind, many in cause.kinds),
            drop=4,
        ),
    )
    _, body = table(columns, shown, width - 1)
    for cause, line in zip(shown, body, strict=True):
        is_selected = look.pane == "errors" and key_of(cause) == look.cause
        if is_selected:
            line = tuple(Span(span.text, "reverse") for span in line)
        lines.append(fit((Span("▸" if is_selected else " "), *line), width))
    return lines[:height]


def event_lines(snapshot: Snapshot, look: Look, width: int, height: int, *, head: bool = True) -> list[Line]:
    """The latest events, the newest on top."""
    style = "bold" if look.pane == "events" else "dim"
    lines: list[Line] = [fit((Span(" EVENTS", style),), width)] if head else []
    chosen = [
        event
        for event in reversed(snapshot.events)
        if (look.only is None or event.concerns(look.only)) and look.filter.lower() in event.text.lower()
    ]
    for event in chosen[: max(0, height - len(lines))]:
        lines.append(fit(event_line(event, look), width))
    if not chosen and head:
        lines.append(fit((Span("   none", "dim"),), width))
    return lines[:height]


def event_line(event: Event, look: Look) -> Line:
    """ "13:58:40 ▼ up 9f3c1a by ada · emails 4/4"."""
    at = Span(f" {clock(event.at, look)} ", "dim")
    if event.kind in _MARKS:
        icon, style = _MARKS[event.kind]
        return (at, Span(f"{icon} ", style), Span(show(event.text, 300)))
    icon, style = ("▼", "bold cyan") if event.is_deploy else ("·", "dim")
    head = " ".join(filter(None, (event.kind, event.revision)))
    by = f" by {event.by}" if event.by else ""
    return (at, Span(f"{icon} ", style), Span(show(f"{head}{by} · {event.text}", 300)))


def bottom(snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    """Errors and events side by side; events alone where there is no room for both."""
    if width < 2 * _HALF + 3:
        return event_lines(snapshot, look, width, height, head=False)
    left = width // 2
    errors = error_lines(snapshot, look, left - 1, height)
    events = event_lines(snapshot, look, width - left - 2, height)
    lines = []
    for number in range(max(len(errors), len(events))):
        one = errors[number] if number < len(errors) else ()
        other = events[number] if number < len(events) else ()
        gap = Span(" " * (left - width_of(text_of(one))))
        lines.append(fit((*one, gap, Span("│", "dim"), *other), width))
    return lines


def overlay_lines(overlay: Overlay, width: int, height: int) -> list[Line]:
    """A text from its `top` on, and how much of it is not shown."""
    room = max(height - 1, 1)
    lines: Sequence[str] = overlay.lines
    if overlay.wraps:
        lines = [piece for line in lines for piece in wrap(show(line), max(width - 2, 1))]
    top = min(overlay.top, max(0, len(lines) - room))
    shown = lines[top : top + room]
    left = len(lines) - top - len(shown)
    more = f"{len(lines)} lines" if not (top or left) else f"↑ {top}  ↓ {left}"
    head = spread((Span(f" {show(overlay.title, 100)}", "bold"),), (Span(f"{more} ", "dim"),), width)
    return [head, *(fit((Span(f" {show(line, 400)}"),), width) for line in shown)]


def help_lines(width: int) -> list[Line]:
    # Without headings, so that all of it fits on 24 lines.
    lines: list[Line] = [(Span(f"   {key:14}", "bold"), Span(what)) for key, what in KEYS]
    lines.append(())
    words = {
        Health.OK: "as many processes run as the manifest wants",
        Health.FAILING: "a process that does not stay up, buried jobs, or no queue",
        Health.SLOW: "jobs wait longer than the manifest allows, or one is slow",
        Health.STALE: "a worker is silent, or leases ran out",
        Health.UNKNOWN: "supervisord does not answer",
        Health.STARTING: "on its way up; draining: on its way down",
        Health.PAUSED: "hands out no jobs for a while",
        Health.STOPPED: "stopped by hand, or not applied yet",
    }
    for health, what in words.items():
        icon = Span(f"   {ICONS[health]} ", STYLES[health])
        lines.append((icon, Span(f"{health.value:12}", WORDS[health]), Span(what)))
    return [fit(line, width) for line in lines]


def footer(look: Look, width: int) -> Line:
    """What can be pressed; or the command that waits for enter; or what came of the last one."""
    if look.typing:
        return fit(
            (Span(f" / {show(look.filter, 40)}▏", "bold"), Span("   enter keep   esc clear", "dim")), width
        )
    if look.command is not None:
        text = show(command_text(look.command), max(width - 30, 10))
        cursor = "▏" if look.number else ""
        keys = f"   {_enter(look)} run · esc cancel"
        return fit((Span(f" {text}{cursor}", "reverse"), Span(keys, "bold")), width)
    if look.note:
        return fit((Span(f" {show(look.note, 400)}", "bold"),), width)
    right = "read-only " if look.read_only else ""
    right = (f"/{show(look.filter, 20)} " if look.filter else "") + right
    right += f"sort: {look.sort} " if look.sort != SORTS[0] else ""
    right += f"over {WINDOW_NAMES[look.window]} " if look.window != WINDOW else ""
    hints = _OVERLAY_HINTS if look.overlay else _hints(look)
    spans: list[Span] = []
    used = width_of(right) - (not right)  # the last blank may fall off the edge
    for key, what in hints:
        need = len(key) + len(what) + 3
        if used + need > width:
            break
        spans += [Span(f" {key}", "bold"), Span(f" {what} ", "dim")]
        used += need
    return spread(tuple(spans), (Span(right, "bold"),), width)


_OVERLAY_HINTS = [("esc", "back"), ("jk", "scroll"), ("q", "quit")]


def _enter(look: Look) -> str:
    return "enter" if look.ascii else "⏎"


def _hints(look: Look) -> list[tuple[str, str]]:
    hints = [("?", "help"), ("q", "quit"), (_enter(look), "back" if look.only else "details")]
    hints += [("tab", "pane")]
    hints += [("w", "why"), ("l", "logs"), ("e", "errors"), ("p", "pause")]
    if not look.read_only:
        hints += [("K", "kick"), ("R", "restart")]
    hints += [("/", "filter"), ("s", "sort"), ("space", "go on" if look.frozen else "freeze")]
    if not look.read_only:
        hints += ([("S", "scale")] if look.can_scale else []) + [("X", "stop")]
    return [*hints, ("123", "window"), ("jk", "select"), ("+-", "interval")]


def command_text(words: Sequence[str]) -> str:
    """The command line as a person would type it."""
    if words and words[-1].endswith("="):  # the number is yet to come
        return " ".join(["fleet", *map(quoted, words[:-1]), words[-1]])
    return " ".join(["fleet", *map(quoted, words)])


def _short_place(place: str) -> str:
    """ "reports.py:14 build" of "shop/jobs/reports.py:14 build"."""
    return place.rpartition("/")[2]
