"""What changed between two renderings of one group, in the manifest's words.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.manifest.values import STOP_MARGIN
from fleet.units import format_duration, format_size

_REVISION = re.compile(r'FLEET_REVISION="[^"]*",?')
# conf option: key of the manifest.  What a spec tells better, and what follows from other keys, is not here.
_WORDS = {
    "numprocs": "numprocs",
    "user": "user",
    "directory": "directory",
    "autostart": "autostart",
    "autorestart": "autorestart",
    "startsecs": "startsecs",
    "startretries": "startretries",
    "exitcodes": "exitcodes",
    "stopsignal": "stop.signal",
    "stopwaitsecs": "stop.grace",
    "stopasgroup": "stop.group",
    "stdout_logfile": "log file",
    "stdout_logfile_maxbytes": "logs.max_size",
    "stdout_logfile_backups": "logs.keep",
}
_TIMES = frozenset({"timeout", "ttr", "retries.first", "retries.cap", "recycle.age", "grace"})
# In every spec, and told elsewhere or nobody's concern.
_SILENT = frozenset({"revision", "command", "directory", "path", "grace", "startsecs", "schema", "run_dir"})


def differences(group: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Each difference of the files of *group* that a person would name, such as "numprocs 4 → 6"."""
    conf, spec = f"fleet.{group}.conf", f"fleet.{group}.worker.json"
    if old.get(conf) != new.get(conf):
        yield from _of_confs(_sections(old.get(conf, "")), _sections(new.get(conf, "")), spec in new)
    before, after = _spec(old.get(spec)), _spec(new.get(spec))
    if before and after:
        yield from _of_specs(before, after)


def _of_confs(old: list[dict[str, str]], new: list[dict[str, str]], has_spec: bool) -> Iterator[str]:
    if not old or not new:
        return
    was, now = old[0], new[0]
    for option, word in _WORDS.items():
        # For a handler, the spec tells: there it stands beside the timeout that it usually follows.
        if was.get(option) != now.get(option) and not (has_spec and option == "stopwaitsecs"):
            yield f"{word} {_value(option, was.get(option))} → {_value(option, now.get(option))}"
    rooms = [sections[1].get("numprocs", "0") if len(sections) > 1 else "0" for sections in (old, new)]
    # A split that moved within the same number of processes is told by numprocs alone.
    totals = [int(s[0].get("numprocs", "0")) + int(room) for s, room in zip((old, new), rooms, strict=True)]
    follows = totals[0] == 2 * int(was.get("numprocs", "0")) and totals[1] == 2 * int(
        now.get("numprocs", "0")
    )
    is_told = totals[0] == totals[1] or (follows and was.get("numprocs") != now.get("numprocs"))
    if rooms[0] != rooms[1] and not is_told:
        yield f"room {rooms[0]} → {rooms[1]}"
    if was.get("command") != now.get("command"):
        yield "command" if has_spec else f"command {now.get('command', '')}"
    if _REVISION.sub("", was.get("environment", "")) != _REVISION.sub("", now.get("environment", "")):
        yield "environment"
    known = {*_WORDS, "command", "environment", "process_name", "numprocs_start"}
    for option in sorted({*was, *now} - known):
        if was.get(option) != now.get(option):
            yield f"{option} {was.get(option, '–')} → {now.get(option, '–')}"


def _of_specs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = _flat(old), _flat(new)
    hidden = set()
    if before.get("grace") != after.get("grace") and _margin(before) != _margin(after):
        was, now = (_spec_value("grace", spec.get("grace")) for spec in (before, after))
        yield f"stop.grace {was} → {now}"
    for key in sorted({*before, *after}):
        if before.get(key) == after.get(key) or key in _SILENT:
            continue
        head = key.partition(".")[0]
        if head in ("secrets", "environment", "redact", "queue"):
            hidden.add(head)  # names and places, never values
        else:
            yield f"{key} {_spec_value(key, before.get(key))} → {_spec_value(key, after.get(key))}"
    yield from sorted(hidden)


def _margin(spec: Mapping[str, Any]) -> float:
    """How much longer than a job a stop may take; the default follows the timeout."""
    return float(spec.get("grace") or 0) - float(spec.get("timeout") or 0)


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            found |= _flat(item, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = item
    return found


def _value(option: str, text: str | None) -> str:
    if text is None:
        return "–"
    if option == "stopwaitsecs" and text.isdigit():
        return format_duration(max(0.0, int(text) - STOP_MARGIN))
    if option == "stdout_logfile_maxbytes" and text.isdigit():
        return format_size(int(text))
    return text


def _spec_value(key: str, value: Any) -> str:
    if value is None or value == {} or value == []:
        return "–"
    if key in _TIMES and isinstance(value, int | float):
        return format_duration(value)
    if key == "recycle.memory" and isinstance(value, int):
        return format_size(value)
    return json.dumps(value) if not isinstance(value, str) else value


def _sections(conf: str) -> list[dict[str, str]]:
    """The options of each [program:*], in order; fleet writes each on one line."""
    found: list[dict[str, str]] = []
    for line in conf.splitlines():
        if line.startswith("["):
            if line.startswith("[program:"):
                found.append({})
            continue
        option, equals, value = line.partition("=")
        if equals and found and not line.startswith(";"):
            found[-1][option] = value
    return found


def _spec(text: str | None) -> Mapping[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
