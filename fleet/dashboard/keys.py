"""Keys: from bytes to names, and what each does to the reader's `Look`.  Pure."""

from __future__ import annotations

from dataclasses import replace

from fleet.dashboard.facts import Snapshot
from fleet.dashboard.view import SORTS, Look, key_of, pipeline_rows, process_rows

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
    if look.typing:
        return _type(look, key)
    if look.help and key != "q":
        return replace(look, help=False)
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
            return replace(look, pane="processes" if look.pane == "pipelines" else "pipelines")
        case "enter":
            return _enter(look, snapshot)
        case "/":
            return replace(look, typing=True)
        case "s":
            return replace(look, sort=SORTS[(SORTS.index(look.sort) + 1) % len(SORTS)])
        case " ":
            return replace(look, frozen=not look.frozen)
        case "+" | "=":
            return replace(look, interval=_next(look.interval, -1))
        case "-":
            return replace(look, interval=_next(look.interval, 1))
        case "esc":
            return replace(look, filter="", only=None, pipeline=None, process=None)
    return look


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
    rows = pipeline_rows(snapshot, look) if look.pane == "pipelines" else process_rows(snapshot, look)
    keys = [key_of(row) for row in rows]
    if not keys:
        return look
    selected = look.pipeline if look.pane == "pipelines" else look.process
    if selected in keys:
        selected = keys[min(max(keys.index(selected) + step, 0), len(keys) - 1)]
    else:
        selected = keys[0] if step > 0 else keys[-1]
    if look.pane == "pipelines":
        # While the selection moves, the processes below follow it only if they did before.
        return replace(look, pipeline=selected, only=selected if look.only else None)
    return replace(look, process=selected)


def _enter(look: Look, snapshot: Snapshot) -> Look:
    if look.only is not None:
        return replace(look, only=None)
    chosen = look.pipeline
    if look.pane == "processes":
        chosen = next((row.pipeline for row in snapshot.processes if key_of(row) == look.process), None)
    return replace(look, only=chosen)


def _next(interval: float, step: int) -> float:
    near = min(range(len(INTERVALS)), key=lambda i: abs(INTERVALS[i] - interval))
    return INTERVALS[min(max(near + step, 0), len(INTERVALS) - 1)]
