"""Styled text and tables that know their width: what a view is made of, before anything draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fleet.dashboard.text import cut, pad, width_of

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of safe text and its style: words such as "bold red", "" for none."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def text_of(line: Line) -> str:
    return "".join(span.text for span in line)


def fit(line: Line, width: int) -> Line:
    """*line* cut to at most *width* columns."""
    if width_of(text_of(line)) <= width:
        return line
    out = []
    room = width
    for span in line:
        text = cut(span.text, room)
        if text:
            out.append(Span(text, span.style))
        room -= width_of(text)
        if text != span.text:
            break
    return tuple(out)


def spread(left: Line, right: Line, width: int) -> Line:
    """*left* and *right* at the two ends of *width* columns; *right* is given up first."""
    used, wanted = width_of(text_of(left)), width_of(text_of(right))
    if used + wanted + 1 > width:
        return fit(left, width)
    return (*left, Span(" " * (width - used - wanted)), *right)


@dataclass(frozen=True, kw_only=True)  # no slots: Python 3.11 cannot build Column[Row](...) with them
class Column(Generic[Row]):
    """
    One column of a table of *Row* values.

    `drop` above 0 says that the column may be left out; the highest goes
    first.  One column of a table `grows`: it takes what is left of the width,
    or gives way down to `least`.
    """

    head: str
    cell: Callable[[Row], str]  # safe text
    style: Callable[[Row], str] = lambda _: ""
    right: bool = False
    least: int = 0  # columns it always takes, so that the layout does not jump
    grows: bool = False
    drop: int = 0


GAP = 2


def table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int | None = None
) -> tuple[Line, list[Line]]:
    """
    The head and the rows, none wider than *width*; without a width nothing is cut.

    A head never stands alone: the same columns are kept in all lines.
    """
    kept = list(columns)
    cells = {id(column): [column.cell(row) for row in rows] for column in columns}
    natural = {id(c): max([width_of(c.head), c.least, *map(width_of, cells[id(c)])]) for c in columns}

    def needed() -> int:
        return sum(c.least if c.grows else natural[id(c)] for c in kept) + GAP * (len(kept) - 1)

    if width is not None:
        for column in sorted(columns, key=lambda c: -c.drop):
            if needed() <= width or not column.drop:
                break
            kept.remove(column)
    widths = dict(natural)
    for column in kept:
        if column.grows and width is not None:
            others = sum(natural[id(c)] for c in kept if c is not column) + GAP * (len(kept) - 1)
            widths[id(column)] = max(width - others, min(column.least, width))

    def compose(texts: Sequence[str], styles: Sequence[str]) -> Line:
        spans = []
        for column, text, style in zip(kept, texts, styles, strict=True):
            wide = widths[id(column)]
            if column is not kept[-1]:
                spans.append(Span(pad(text, wide, column.right) + " " * GAP, style))
            else:  # nothing trails the last column, so that a copied line has no blanks at its end
                spans.append(Span(pad(text, wide, right=True) if column.right else cut(text, wide), style))
        return tuple(spans) if width is None else fit(tuple(spans), width)

    head = compose([column.head for column in kept], ["dim"] * len(kept))
    body = [
        compose([cells[id(c)][number] for c in kept], [c.style(row) for c in kept])
        for number, row in enumerate(rows)
    ]
    return head, body


def window(total: int, height: int, selected: int) -> tuple[int, int]:
    """Which of *total* rows to draw in *height* lines so that the selected one is among them."""
    height = max(height, 0)
    if total <= height:
        return 0, total
    start = min(max(selected - height + 1, 0), total - height)
    return start, start + height


_ASCII = {
    "─": "-",
    "·": "|",
    "–": "-",
    "…": "~",
    "▸": ">",
    "×": "x",
    "≥": ">",
    "●": "*",
    "▲": "!",
    "✖": "x",
    "◐": "~",
    "◌": "-",
    "○": "o",
    "↑": "^",
    "↓": "v",
    "▏": "_",
    "▼": "v",
    "↻": "@",
    "│": "|",
    "▁": "_",
    "▂": ".",
    "▃": ":",
    "▄": "-",
    "▅": "=",
    "▆": "+",
    "▇": "*",
    "█": "#",
}


def to_ascii(line: Line) -> Line:
    """The same columns in ASCII; a foreign character becomes as many question marks."""

    def translate(char: str) -> str:
        return char if char.isascii() else _ASCII.get(char, "?" * width_of(char))

    return tuple(Span("".join(map(translate, span.text)), span.style) for span in line)
