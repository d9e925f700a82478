"""
Where text leaves the command line: streams, colours, tables, JSON.

Data goes to stdout; notes, prompts and errors to stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from fleet.cli.context import settings
from fleet.dashboard.paint import SGR
from fleet.dashboard.text import show, width_of

if TYPE_CHECKING:
    from fleet.dashboard.lines import Line


def wants_colour(when: str, environ: Mapping[str, str], is_terminal: bool) -> bool:
    """--color, then NO_COLOR, then FORCE_COLOR, then TERM, then whether anybody looks."""
    if when != "auto":
        return when == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_terminal and environ.get("TERM", "dumb") != "dumb"


def is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def colour(stream: TextIO | None = None) -> bool:
    """Whether *stream* (default stdout) gets colour in this run."""
    stream = stream or sys.stdout
    chosen = settings()
    if chosen.json or chosen.plain:
        return False
    return wants_colour(chosen.color, os.environ, is_terminal(stream))


def plain() -> bool:
    """True when stdout is not for eyes: piped, --plain, --json, or a dumb terminal."""
    chosen = settings()
    return (
        chosen.plain or chosen.json or not is_terminal(sys.stdout) or os.environ.get("TERM", "dumb") == "dumb"
    )


def ascii_only() -> bool:
    """True when icons and lines must be ASCII: --ascii, FLEET_ASCII=1, or an encoding without them."""
    if settings().ascii:
        return True
    try:
        "●─".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return True
    return False


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """*text* in a style of space-separated words such as "bold red", if *stream* gets colour."""
    if not (text and style and colour(stream)):
        return text
    return f"\x1b[{';'.join(SGR[word] for word in style.split())}m{text}\x1b[0m"


def painted(line: Line) -> str:
    """A styled line for stdout."""
    return "".join(paint(span.text, span.style) for span in line)


def width() -> int:
    """Columns of the terminal; 80 where nobody knows."""
    return shutil.get_terminal_size().columns


def say(text: str = "") -> None:
    """One line of data on stdout."""
    if sys.stdout is not None:
        print(text)


def note(text: str) -> None:
    """One line for the person, on stderr; -q silences it."""
    if not settings().quiet and sys.stderr is not None:
        print(text, file=sys.stderr)


def warn(text: str) -> None:
    """One line of trouble on stderr; nothing silences it."""
    if sys.stderr is not None:
        print(f"{paint('warning:', 'bold yellow', sys.stderr)} {text}", file=sys.stderr)


def document(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on one line; pure ASCII, so that no byte of it can steer a terminal."""
    say(json.dumps(value, ensure_ascii=True))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], right: str = "") -> None:
    """
    Rows under upper-case heads, columns two blanks apart, nothing cut.

    *right* names the heads (space-separated) whose column is right-aligned.
    Cells are foreign text until shown otherwise: each passes `show`.
    """
    cells = [[show(str(cell)) for cell in row] for row in rows]
    widths = [max([width_of(title), *(width_of(row[i]) for row in cells)]) for i, title in enumerate(head)]
    to_the_right = set(right.split())

    def line(row: Sequence[str]) -> str:
        out = []
        for title, text, wide in zip(head, row, widths, strict=True):
            gap = " " * (wide - width_of(text))
            out.append(gap + text if title in to_the_right else text + gap)
        return "  ".join(out).rstrip()

    say(paint(line(head), "dim"))
    for row in cells:
        say(line(row))
