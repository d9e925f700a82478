"""Durations and sizes: "90s" and "300MB" to numbers, and back to what people read."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b?)", re.IGNORECASE)
_CENTURY = 100 * 365 * 86400


def parse_duration(value: str | int | float) -> float:
    """
    Seconds of "90s", "5m30s", "1.5h", "2d", or of a plain number.

    Raises:
        ValueError: not a duration, negative, or longer than a century.
    """
    if isinstance(value, bool):
        raise ValueError(f'expected a duration such as "90s" or "5m", got {value!r}')
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        text = value.strip().lower()
        parts = _PART.findall(text)
        if text.replace(".", "", 1).isdigit():
            seconds = float(text)
        elif parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        else:
            raise ValueError(f'expected a duration such as "90s" or "5m30s", got {value!r}')
    if not 0 <= seconds <= _CENTURY:  # also refuses NaN
        raise ValueError(f"a duration must be between 0 and 100 years, got {value!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """
    The shortest exact form that `parse_duration` reads back: 90 is "1m30s".

    Fractions are kept to the millisecond.
    """
    millis = round(seconds * 1000)
    if millis == 0:
        return "0s"
    out = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            out.append(f"{count}{unit}")
    return "".join(out)


def short_duration(seconds: float) -> str:
    """At most five characters for a table cell: "0.1s", "41s", "2m31s", "2h11m", "41d"."""
    if seconds < 0:
        return "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 36000:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    if whole < 86400 * 2:
        return f"{whole // 3600}h"
    return f"{whole // 86400}d"


def parse_size(value: str | int) -> int:
    """
    Bytes of "300MB", "1GiB", "64k", or of a plain number.

    Raises:
        ValueError: not a size, or negative.
    """
    if isinstance(value, bool):
        raise ValueError(f'expected a size such as "300MB", got {value!r}')
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"a size must not be negative, got {value!r}")
        return value
    match = _SIZE.fullmatch(value.strip())
    unit = match[2].lower() if match else ""
    if unit in {"k", "m", "g", "ki", "mi", "gi"}:
        unit += "b"
    if not match or unit not in _BYTES:
        raise ValueError(f'expected a size such as "300MB" or "1GiB", got {value!r}')
    return round(float(match[1]) * _BYTES[unit])


def format_size(count: int) -> str:
    """The exact form in the largest unit that divides: 20000000 is "20MB"."""
    for unit, size in (("GB", 1000**3), ("MB", 1000**2), ("KB", 1000)):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B" if count else "0B"


def short_size(count: int) -> str:
    """At most five characters for a table cell: "48M", "1.2G"."""
    value = float(count)
    for unit in ("B", "K", "M", "G"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if unit in "BK" or value >= 9.95 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"
