"""The rules of [[schedules]]: which pipeline, when, by whose clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from fleet.errors import Problem
from fleet.manifest import codes
from fleet.manifest.positions import Path
from fleet.manifest.source import Source
from fleet.manifest.values import Manifest


def rules(manifest: Manifest, source: Source, numbers: Sequence[int], skipped: set[str]) -> Iterator[Problem]:
    """*numbers* are the schedules' places in the file; *skipped* are pipelines that exist but failed."""
    seen: set[str] = set()
    for number, schedule in zip(numbers, manifest.schedules, strict=True):
        path: Path = ("schedules", number)
        if fault := _cron_fault(schedule.cron):
            yield source.problem(codes.BAD_CRON, (*path, "cron"), f'cron "{schedule.cron[:60]}": {fault}')
        if schedule.pipeline not in manifest.pipelines and schedule.pipeline not in skipped:
            close = get_close_matches(schedule.pipeline, manifest.pipelines, n=1)
            hint = f'did you mean "{close[0]}"?' if close else ""
            message = f'no pipeline "{schedule.pipeline[:60]}"'
            yield source.problem(codes.BAD_SCHEDULE, (*path, "pipeline"), message, hint)
        if not _is_zone(schedule.timezone):
            message = f'no time zone "{schedule.timezone[:60]}"'
            hint = 'write it as "Europe/Paris" or "UTC"'
            yield source.problem(codes.BAD_SCHEDULE, (*path, "timezone"), message, hint)
        if schedule.name in seen:
            message = f'a second schedule "{schedule.name[:60]}"'
            yield source.problem(codes.COLLISION, (*path, "name"), message, "rename one of them")
        seen.add(schedule.name)


def _cron_fault(text: str) -> str:
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        return "it has five fields: minute hour day month weekday"
    try:
        next(CronSim(text, datetime.now(UTC)))
    except (CronSimError, AssertionError) as error:
        for (word, of_theirs, low, high), field in zip(_CRON_FIELDS, fields, strict=True):
            if of_theirs in str(error):
                if not field.isdecimal():
                    return f"{word} {field[:20]} means nothing"
                inside = low <= int(field[:9]) <= high
                return f"{word} {field[:20]} " + ("never comes" if inside else f"is outside {low}-{high}")
        return "it means nothing"
    except StopIteration:
        return "that never comes"
    return ""


# Our word, cronsim's word, and the numbers that it takes.
_CRON_FIELDS = (
    ("minute", "minute", 0, 59),
    ("hour", "hour", 0, 23),
    ("day", "day-of-month", 1, 31),
    ("month", "month", 1, 12),
    ("weekday", "day-of-week", 0, 7),
)


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
