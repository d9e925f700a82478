"""Keys: from bytes to names, and what each does to the reader's `Look`.  Pure."""

from __future__ import annotations

from dataclasses import replace

from fleet.dashboard.details import about_cause, about_process
from fleet.dashboard.facts import PipelineRow, Snapshot
from fleet.dashboard.look import (
    PANES,
    SORTS,
    WINDOWS,
    Look,
    Overlay,
    Wish,
    key_of,
    pipeline_rows,
    rows_of,
    selected,
)
from fleet.queue.causes import pattern

INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b[Z": "tab",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
}
_NAMED = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x1b": "esc",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "quit",
}
PAGE = 10


def decode(data: bytes) -> list[str]:
    """
    Names of the keys in one read from a terminal: "up", "enter", "q".

    A terminal sends an arrow as three bytes in one piece; a sequence that we
    do not know is dropped whole, so that its letters do nothing.
    """
    keys = []
    while data:
        if data[:1] == b"\x1b" and data[1:2] in (b"[", b"O"):
            end = 2
            while end < len(data) and not 0x40 <= data[end] <= 0x7E:
                end += 1
            name = _SEQUENCES.get(data[: end + 1])
            keys += [name] if name else []
            data = data[end + 1 :]
            continue
        size = 1 if data[0] < 0xC0 else 2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4
        char = data[:size].decode("utf-8", "replace")
        data = data[size:]
        name = _NAMED.get(char)
        if name or char.isprintable():
            keys.append(name or char)
    return keys


def press(look: Look, key: str, snapshot: Snapshot) -> Look | None:
    """The look after one key; None means that the reader wants to leave."""
    if look.note:
        look = replace(look, note="")
    if look.command is not None:
        return _confirm(look, key)
    if look.typing:
        return _type(look, key)
    if look.help and key not in ("q", "quit"):
        return replace(look, help=False)
    if look.overlay is not None and key not in ("q", "quit"):
        return _read(look, look.overlay, key)
    match key:
        case "q" | "quit":
            return None
        case "?":
            return replace(look, help=True)
        case "up" | "k":
            return _move(look, snapshot, -1)
        case "down" | "j":
            return _move(look, snapshot, 1)
        case "page up":
            return _move(look, snapshot, -PAGE)
        case "page down":
            return _move(look, snapshot, PAGE)
        case "tab":
            return replace(look, pane=PANES[(PANES.index(look.pane) + 1) % len(PANES)])
        case "enter":
            return _enter(look, snapshot)
        case "/":
            return replace(look, typing=True)
        case "s":
            return replace(look, sort=SORTS[(SORTS.index(look.sort) + 1) % len(SORTS)])
        case " ":
            return replace(look, frozen=not look.frozen)
        case "1" | "2" | "3":
            return replace(look, window=WINDOWS[key])
        case "+" | "=":
            return replace(look, interval=_next(look.interval, -1))
        case "-":
            return replace(look, interval=_next(look.interval, 1))
        case "esc":
            return replace(look, filter="", only=None, pane=PANES[0], pipeline=None, process=None, cause=None)
        case "e":
            return replace(look, pane="errors", only=look.only or pipeline_of(look, snapshot))
        case "w" | "l" | "p" | "S" | "K" | "R" | "X":
            return _act(look, key, snapshot)
    return look


def _act(look: Look, key: str, snapshot: Snapshot) -> Look:
    """Keys that need the world outside: the screen carries out the wish."""
    name = pipeline_of(look, snapshot)
    row = next((row for row in snapshot.pipelines if row.name == name), None)
    if row is None:
        return replace(look, note="select a row first: j, k")
    process = next((p for p in snapshot.processes if key_of(p) == look.process), None)
    one = process.name if process is not None and look.pane == "processes" else row.name
    if key == "w":
        return replace(look, wish=Wish(verb="why", words=(row.name,)))
    if key == "l":
        return replace(look, wish=Wish(verb="logs", words=(one,)))
    if look.read_only:
        return replace(look, note="read-only: nothing was changed")
    if key == "p":
        return replace(look, wish=Wish(verb="resume" if row.paused > 0 else "pause", words=(row.name,)))
    if key == "K":
        cause = next((c for c in snapshot.causes if key_of(c) == look.cause), None)
        which = ("--error", pattern(cause.cause)) if cause and look.pane == "errors" else ("--all",)
        return replace(look, command=("jobs", "kick", row.name, *which, "--yes"))
    if key == "R":
        # A whole pipeline one by one, so that somebody is always at work.
        rolling = ("--rolling",) if one == row.name else ()
        return replace(look, command=("restart", one, *rolling, "--yes"))
    if key == "X":
        return replace(look, command=("stop", one, "--yes"))
    if not look.can_scale:
        return replace(look, note="this fleet has no scale command")
    return replace(look, command=("scale", f"{row.name}="), number=True)


def pipeline_of(look: Look, snapshot: Snapshot) -> str | None:
    """The pipeline that the selected row belongs to; the first one where nothing is selected."""
    if look.only is not None:
        return look.only
    rows = {key_of(row): row for row in rows_of(snapshot, look)}
    chosen = rows.get(selected(look) or "")
    if chosen is not None:
        return chosen.name if isinstance(chosen, PipelineRow) else chosen.pipeline
    first = next(iter(pipeline_rows(snapshot, look)), None)
    return look.pipeline or (first.name if first and look.pane == "pipelines" else None)


def _confirm(look: Look, key: str) -> Look | None:
    """A command waits: enter runs it, digits go into its number, anything else cancels."""
    words = look.command or ()
    if key == "quit":
        return None
    if look.number and key.isdigit() and len(words[-1].partition("=")[2]) < 4:
        return replace(look, command=(*words[:-1], words[-1] + key))
    if look.number and key == "backspace":
        shorter = words[-1] if words[-1].endswith("=") else words[-1][:-1]
        return replace(look, command=(*words[:-1], shorter))
    done = replace(look, command=None, number=False)
    if key != "enter":
        return replace(done, note="cancelled: nothing was changed")
    if words[-1].endswith("="):
        return look
    return replace(done, wish=Wish(verb="run", words=words), note="running …")


def _read(look: Look, overlay: Overlay, key: str) -> Look:
    """Scroll a text, or leave it."""
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE, " ": PAGE}
    if key in steps:
        top = min(max(0, overlay.top + steps[key]), max(0, len(overlay.lines) - 1))
        return replace(look, overlay=replace(overlay, top=top))
    return replace(look, overlay=None)


def _type(look: Look, key: str) -> Look | None:
    match key:
        case "quit":
            return None
        case "enter":
            return replace(look, typing=False)
        case "esc":
            return replace(look, typing=False, filter="")
        case "backspace":
            return replace(look, filter=look.filter[:-1])
    return replace(look, filter=look.filter + key) if len(key) == 1 else look


def _move(look: Look, snapshot: Snapshot, step: int) -> Look:
    """Select the row *step* further in the pane; the first press selects the first row."""
    keys = [key_of(row) for row in rows_of(snapshot, look)]
    if not keys:
        return look
    chosen = selected(look)
    if chosen in keys:
        chosen = keys[min(max(keys.index(chosen) + step, 0), len(keys) - 1)]
    else:
        chosen = keys[0] if step > 0 else keys[-1]
    if look.pane == "pipelines":
        # While the selection moves, the rows below follow it only if they did before.
        return replace(look, pipeline=chosen, only=chosen if look.only else None)
    return replace(look, **{"process" if look.pane == "processes" else "cause": chosen})  # type: ignore[arg-type]


def _enter(look: Look, snapshot: Snapshot) -> Look:
    if look.pane == "errors":
        cause = next((c for c in snapshot.causes if key_of(c) == look.cause), None)
        return look if cause is None else replace(look, overlay=about_cause(cause, look))
    if look.pane == "processes":
        row = next((p for p in snapshot.processes if key_of(p) == look.process), None)
        return look if row is None else replace(look, overlay=about_process(row))
    return replace(look, only=None if look.only is not None else look.pipeline)


def _next(interval: float, step: int) -> float:
    near = min(range(len(INTERVALS)), key=lambda i: abs(INTERVALS[i] - interval))
    return INTERVALS[min(max(near + step, 0), len(INTERVALS) - 1)]
