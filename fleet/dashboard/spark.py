"""A few numbers as a line of blocks.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
CELLS = 8


def spark(values: Sequence[float | None]) -> str:
    """
    One character a value, from nothing to the highest of them.

    A blank is a value that nobody knows; a line that stays at 0 lies at the bottom.
    """
    highest = max((value for value in values if value is not None), default=0)

    def block(value: float | None) -> str:
        if value is None:
            return " "
        if value <= 0 or highest <= 0:
            return BLOCKS[0]
        return BLOCKS[min(len(BLOCKS) - 1, 1 + int(value / highest * (len(BLOCKS) - 1.001)))]

    return "".join(map(block, values))


def resample(
    points: Sequence[tuple[float, float]], now: float, span: float, cells: int = CELLS
) -> list[float | None]:
    """*points* of (time, value) as *cells* values over the last *span* seconds: the last known in each."""
    values: list[float | None] = []
    step = span / cells
    known: float | None = None
    rest = sorted(points)
    position = 0
    for cell in range(cells):
        end = now - span + (cell + 1) * step
        while position < len(rest) and rest[position][0] <= end + 1e-6:
            known = rest[position][1]
            position += 1
        values.append(known)
    return values
