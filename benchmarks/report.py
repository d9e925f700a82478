"""From results to Markdown.  Pure: no clock, no server, no file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

OURS, LIMIT = "fleet", "limit"
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Stat:
    """What one contender reached in each run."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return number(self.median)
        return f"**{number(self.median)}** ({number(min(self.values))} … {number(max(self.values))})"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no figure; "" where a contender has no such thing."""

    text: str = ""

    def __str__(self) -> str:
        return f"failed: {self.text}" if self.text else _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    A bound on our median: *factor* times the median of *versus*, or *factor* itself.

    at_least  True: more is better
    versus    a contender's name; "" for an absolute figure
    """

    factor: float
    versus: str = ""
    at_least: bool = True

    def met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {number(self.factor)}" + (f" × {self.versus}" if self.versus else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure: a cell for each contender, ours first."""

    title: str
    unit: str
    cells: dict[str, Stat | Problem]
    targets: Sequence[Target] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One back end."""

    title: str
    about: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Three digits that matter: 0.412, 5.31, 87.2, 8,310, 249,000."""
    if value == 0:
        return "0"
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def document(facts: Iterable[tuple[str, str]], sections: Iterable[Section]) -> str:
    """The whole report: the facts of the run, then a table for each back end."""
    lines = ["# Benchmarks", ""]
    lines += [f"- {name}: {value}" for name, value in facts]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.about, "", *table(section.rows)]
        lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """A line for each measure: ours, the limit, the others, and what that means for the target."""
    lines = [
        "| measure | fleet | limit | others | ratio | target | |",
        "| --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for row in rows:
        ours, limit = row.cells.get(OURS, Problem()), row.cells.get(LIMIT, Problem())
        others = [f"{name} {cell}" for name, cell in row.cells.items() if name not in (OURS, LIMIT)]
        cells = (
            f"{row.title}, {row.unit}",
            str(ours),
            str(limit),
            "<br>".join(others) or _NOTHING,
            "<br>".join(ratios(row)) or _NOTHING,
            "<br>".join(map(str, row.targets)) or _NOTHING,
            verdict(row),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def ratios(row: Row) -> list[str]:
    """Ours divided by each other contender that has a figure."""
    ours = row.cells.get(OURS)
    if not isinstance(ours, Stat):
        return []
    return [
        f"{number(ours.median / cell.median)} × {name}"
        for name, cell in row.cells.items()
        if name != OURS and isinstance(cell, Stat) and cell.median
    ]


def verdict(row: Row) -> str:
    """pass, miss, or why it cannot be told; nothing where there is no target."""
    if not row.targets:
        return ""
    outcomes = [_outcome(row, target) for target in row.targets]
    for word in ("miss", "open"):
        if word in outcomes:
            return word
    return "pass"


def _outcome(row: Row, target: Target) -> str:
    ours = row.cells.get(OURS)
    if not isinstance(ours, Stat):
        return "miss" if isinstance(ours, Problem) and ours.text else "open"
    if not target.versus:
        return "pass" if target.met(ours.median) else "miss"
    other = row.cells.get(target.versus)
    if not isinstance(other, Stat) or not other.median:
        return "open"  # who it is compared with was not measured
    return "pass" if target.met(ours.median / other.median) else "miss"
