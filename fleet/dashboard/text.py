"""
The one filter that foreign text passes before it reaches a terminal.

Foreign is every character that did not originate in fleet's own source: log
lines, payloads, names, fault strings, server errors.  After `show` such text
cannot move the cursor, set a title, reverse the reading direction, hide, or
take more columns than it was given.
"""

from __future__ import annotations

import re
import shlex
from unicodedata import category, east_asian_width

ELLIPSIS = "…"

# Invisible although Unicode calls them letters, marks or symbols.
_BLANK = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)).union(
    range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)
)
# Cc controls, Cf format (bidi, zero-width, tags), Cs surrogates, Co private use,
# Cn unassigned (no terminal agrees on their width), Zl and Zp separators.
_UNSAFE = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
# fleet's own signs, and letters of Latin: a column each, which need not be looked up one by one.
_ONE_COLUMN = re.compile("[ -~\u00a1-\u017f–…│─▁-█▏●○◌◐▲▼▸✖↑↓↻⏎≥]*")
_MOST_MARKS = 3  # combining marks on one letter; more would climb into other lines


def show(text: object, width: int | None = None) -> str:
    """
    *text* safe for a terminal: one line, at most *width* columns, escapes made visible.

    ESC becomes the four characters `\\x1b`; a byte that was not UTF-8 becomes
    `\\xNN`.  What is cut ends in "…".
    """
    plain = str(text)
    if width is not None:
        # No character takes less than a column except marks, which are limited below.
        plain = plain[: (_MOST_MARKS + 1) * (max(width, 0) + 1)]
    if _PRINTABLE_ASCII.fullmatch(plain):
        return plain if width is None else cut(plain, width)
    out: list[str] = []
    marks = 0
    for char in plain:
        kind = category(char)
        if kind in ("Mn", "Me") and ord(char) not in _BLANK:
            marks += 1
            # A mark needs a letter before it, or it would join fleet's own text.
            out.append(char if out and marks <= _MOST_MARKS else _escape(char))
            continue
        marks = 0
        out.append(_escape(char) if kind in _UNSAFE or ord(char) in _BLANK else char)
    safe = "".join(out)
    return safe if width is None else cut(safe, width)


def cut(text: str, width: int) -> str:
    """*text*, already safe, in at most *width* columns; what is cut ends in "…"."""
    if width_of(text) <= width:
        return text
    if width <= 0:
        return ""
    room, end = width - 1, 0
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        end += 1
    return text[:end] + ELLIPSIS


def width_of(text: str) -> int:
    """Columns that *text*, already safe, takes in a terminal."""
    if text.isascii() or _ONE_COLUMN.fullmatch(text):
        return len(text)
    return sum(map(_columns, text))


def wrap(text: str, width: int) -> list[str]:
    """*text*, already safe, in pieces of at most *width* columns, broken anywhere: a copy of it is whole."""
    pieces, piece, room = [], "", width
    for char in text:
        room -= _columns(char)
        if room < 0:
            pieces.append(piece)
            piece, room = "", width - _columns(char)
        piece += char
    return [*pieces, piece]


def pad(text: str, width: int, right: bool = False) -> str:
    """*text*, already safe, cut or filled with blanks to exactly *width* columns."""
    gap = width - width_of(text)
    if gap < 0:
        text = cut(text, width)
        gap = width - width_of(text)
    return " " * gap + text if right else text + " " * gap


def _columns(char: str) -> int:
    if char < "\x7f":
        return 1
    if category(char) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def _escape(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if 0xDC80 <= code <= 0xDCFF:  # a raw byte, as Python carries it through str
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(text: str) -> str:
    """As a word of a shell command: "KeyError: 'TZ'" as a person would type it."""
    if "'" in text and not any(char in text for char in '"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text)
