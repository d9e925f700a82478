"""
Where each key and value stands in a TOML text.

tomllib tells values and no places, so this walks the same text once more.
The text must be valid: parse it with tomllib first.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass

Path = tuple[str | int, ...]  # ("pipelines", "emails", "numprocs"); array items by index

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_SCALAR = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*\'"""
    r"""|\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]+|[^\s,\]}#]+""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets into the text; a table that is only implied has no value."""

    key: int
    key_end: int
    value: int = -1
    value_end: int = -1


class Index:
    """Every key of a TOML text by its path, with lines and columns from 1."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: dict[Path, Span] = {}
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self._arrays: dict[Path, int] = {}
        self._walk()

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line, without its end."""
        return self.text[self._lines[number - 1] :].split("\n", 1)[0].rstrip("\r")

    def _walk(self) -> None:
        at = _after(_BLANK, self.text, 0)
        table: Path = ()
        while at < len(self.text):
            if self.text[at] == "[":
                at, table = self._header(at)
            else:
                at = self._pair(at, table)
            at = _after(_BLANK, self.text, at)

    def _header(self, at: int) -> tuple[int, Path]:
        array = self.text.startswith("[[", at)
        parts, at = self._dotted(at + (2 if array else 1))
        path: Path = ()
        for i, (name, start, end) in enumerate(parts):
            path += (name,)
            self.spans.setdefault(path, Span(start, end))
            last = i == len(parts) - 1
            if last and array:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:  # keys below belong to its newest item
                path += (self._arrays[path],)
                self.spans.setdefault(path, Span(start, end))
        self.spans[path] = Span(parts[-1][1], parts[-1][2])
        return self.text.index("]", at) + (2 if array else 1), path

    def _pair(self, at: int, table: Path) -> int:
        parts, at = self._dotted(at)
        at = _after(_SPACES, self.text, at + 1)
        path = table
        for name, start, end in parts:
            path += (name,)
            self.spans.setdefault(path, Span(start, end))
        end = self._value(at, path)
        self.spans[path] = Span(parts[-1][1], parts[-1][2], at, end)
        return end

    def _value(self, at: int, path: Path) -> int:
        opening = self.text[at]
        if opening not in "[{":
            return _after(_SCALAR, self.text, at)
        closing, number = {"[": "]", "{": "}"}[opening], 0
        at = _after(_BLANK, self.text, at + 1)
        while self.text[at] != closing:
            if opening == "{":
                at = self._pair(at, path)
            else:
                start, at = at, self._value(at, (*path, number))
                self.spans[*path, number] = Span(start, at, start, at)
            number += 1
            at = _after(_BLANK, self.text, at)
            if self.text[at] == ",":
                at = _after(_BLANK, self.text, at + 1)
        return at + 1

    def _dotted(self, at: int) -> tuple[list[tuple[str, int, int]], int]:
        """The parts of a dotted key, and the offset of what follows it."""
        parts = []
        while True:
            at = _after(_SPACES, self.text, at)
            found = _KEY.match(self.text, at)
            assert found  # noqa: S101  # the text is valid TOML
            parts.append((_name(found[0]), found.start(), found.end()))
            at = _after(_SPACES, self.text, found.end())
            if self.text[at] != ".":
                return parts, at
            at += 1


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """The offset behind what *pattern* matches at *at*."""
    found = pattern.match(text, at)
    assert found  # noqa: S101  # the text is valid TOML
    return found.end()


def _name(token: str) -> str:
    if token[0] == "'":
        return token[1:-1]
    if token[0] == '"':
        return str(tomllib.loads(f"k = {token}")["k"]) if "\\" in token else token[1:-1]
    return token
