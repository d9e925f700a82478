"""Styled lines to the bytes of a terminal, and a screen that writes only the lines that changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

from fleet.dashboard.lines import Line

# Sixteen colours and no more: the terminal's own theme decides how they look.
SGR = {
    "bold": "1",
    "dim": "2",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_WITHOUT_COLOUR = frozenset(["bold", "dim", "reverse"])  # NO_COLOR does not speak of these

# The alternate screen, no cursor, no wrapping at the right edge; and everything back.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
# A terminal that knows these shows what is between them at once; others ignore them.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"


def painted(line: Line, *, colour: bool = True) -> str:
    """The line with its styles as escape sequences."""
    out = []
    for span in line:
        start = _start(span.style, colour) if span.style and span.text else ""
        out.append(f"{start}{span.text}\x1b[0m" if start else span.text)
    return "".join(out)


@cache  # there are a dozen styles, and a thousand spans in a frame
def _start(style: str, colour: bool) -> str:
    """The sequence that begins a style."""
    words = [word for word in style.split() if colour or word in _WITHOUT_COLOUR]
    return f"\x1b[{';'.join(SGR[word] for word in words)}m" if words else ""


class Screen:
    """The alternate screen of one terminal.  A frame costs as much as what is new in it."""

    def __init__(self, fd: int, *, colour: bool, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._colour = colour
        self._encoding = encoding
        self._shown: list[str] = []
        self._size = (0, 0)
        self._inside = False

    def enter(self) -> None:
        self._shown, self._inside = [], True
        self._write(_ENTER)

    def leave(self) -> None:
        if self._inside:
            self._inside = False
            self._write(_LEAVE)

    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 x 24 where nobody knows."""
        try:
            found = os.get_terminal_size(self._fd)
        except OSError:
            return 80, 24
        return found.columns or 80, found.lines or 24

    def draw(self, lines: Sequence[Line], size: tuple[int, int]) -> None:
        """Show *lines*, from the top; raises OSError when the terminal is gone."""
        out = []
        if size != self._size:
            out.append("\x1b[2J")
            self._shown, self._size = [], size
        texts = [painted(line, colour=self._colour) for line in lines]
        for number in range(max(len(texts), len(self._shown))):
            text = texts[number] if number < len(texts) else ""
            if number >= len(self._shown) or self._shown[number] != text:
                out.append(f"\x1b[{number + 1};1H\x1b[K{text}")
        self._shown = texts
        if out:
            self._write("".join([_BEGIN, *out, _END]).encode(self._encoding, "replace"))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
