"""
The single values of fleet.toml: each checks itself and says in one sentence what it expects.

A check takes what tomllib read and returns the value, or refuses it with one
of the codes.  Ranges and types are told to editors by the schema beside it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from fleet.manifest import codes, options
from fleet.units import parse_duration, parse_size

MOST_PROCESSES = 1000
# Linux takes no longer string than MAX_ARG_STRLEN in a process's environment.
LONGEST_VARIABLE = 128 * 1024 - 256  # room for its name
# The tube names of beanstalkd's protocol, which every back end takes.
_QUEUE_NAME = re.compile(r"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{0,199}")
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL")
_DURATION = 'a duration such as "90s" or "5m30s"'
_SIZE = 'a size such as "300MB" or "1GiB"'


@dataclass(frozen=True, slots=True)
class Leaf:
    """A check of one value, and the JSON schema that tells it to editors."""

    check: Callable[[Any], Any]
    schema: dict[str, Any]


class Refused(Exception):
    """A value is not what its key expects; `models.py` finds the place and all the others."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def refuse(text: str, code: str = codes.WRONG_VALUE) -> NoReturn:
    raise Refused(text, code)


def got(value: object) -> str:
    """A value as the manifest writes it, cut to a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value[:57]}…"' if len(value) > 58 else f'"{value}"'
    if isinstance(value, int | float):
        return str(value)[:40]
    if isinstance(value, dict):
        return "a table"
    return "an array" if isinstance(value, list) else "a date or time"


def _expected(what: str, value: object) -> NoReturn:
    fix = ""
    if what == "text" and isinstance(value, int | float):
        fix = f'. Put it in quotes: "{got(value)}"'
    elif isinstance(value, str) and what.startswith(("a whole", "a number", "true")):
        bare = value.strip().lower()
        if re.fullmatch(r"-?\d+(\.\d+)?|true|false", bare):
            fix = f". Take off the quotes: {bare}"
    refuse(f"expected {what}, got {got(value)}{fix}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        _expected("text", value)
    if not value.strip():
        refuse("expected text, got nothing")
    if "\0" in value:
        refuse("a NUL character cannot be given to a process")
    return value


def _any_text(value: object) -> str:
    return value if isinstance(value, str) else _expected("text", value)


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else _expected("true or false", value)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        _expected(_SIZE, value)
    try:
        return parse_size(value)
    except ValueError as error:
        refuse(str(error))


def _signal(value: object) -> str:
    if isinstance(value, str) and value.upper().removeprefix("SIG") in _SIGNALS:
        return value.upper().removeprefix("SIG")
    return _expected("one of " + ", ".join(f'"{word}"' for word in _SIGNALS), value)


def _handler(value: object) -> str:
    text = _text(value)
    if not _IMPORT_PATH.fullmatch(text):
        module, dot, name = text.rpartition(".")
        guess = f"{module}:{name}"
        fix = f'. Write "{guess}"' if dot and _IMPORT_PATH.fullmatch(guess) else ""
        refuse(f'expected an import path such as "shop.jobs.email:send", got {got(value)}{fix}')
    return text


def _hooks(value: object) -> list[str]:
    return [_handler(path) for path in _texts(value)]


def _command(value: object) -> str:
    text = _text(value)
    try:
        words = shlex.split(text)
    except ValueError as error:
        refuse(f"supervisord cannot split it into words: {str(error).lower()}")
    if not words or not words[0].strip():
        refuse("names no program")
    return text


def _queue_name(value: object) -> str:
    text = _text(value)
    if not _QUEUE_NAME.fullmatch(text):
        refuse(f'expected 1 to 200 of A-Z a-z 0-9 - + / ; . $ _ ( ), not starting with "-", got {got(value)}')
    return text


def _python(value: object) -> str:
    text = _text(value)
    if "/" not in text:
        refuse(f'expected the path of an interpreter, such as "venv/bin/python", got {got(value)}')
    return text


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        _expected('an array such as ["a", "b"]', value)
    return [_text(item) for item in value]


def _version(value: object) -> int:
    if type(value) is not int or value != 1:
        refuse(f"this fleet reads version 1 of the manifest, got {got(value)}")
    return value


def _numprocs(value: object) -> int | dict[str, int]:
    if isinstance(value, dict):
        for host, number in value.items():
            if type(number) is not int or not 1 <= number <= MOST_PROCESSES:
                refuse(f"{host}: expected a whole number from 1 to {MOST_PROCESSES}, got {got(number)}")
        return value
    if value == 0 and type(value) is int:  # supervisord would make an empty group without a word
        refuse(
            "expected a whole number of at least 1, got 0. "
            "Set it to 1, or remove the table to retire the pipeline"
        )
    if type(value) is not int or not 1 <= value <= MOST_PROCESSES:
        _expected(f"a whole number from 1 to {MOST_PROCESSES}", value)
    return value


def variable_fault(name: str) -> str:
    """Why no variable of the manifest can have this name; "" if one can."""
    if not _VARIABLE.fullmatch(name):
        return f'"{name[:40]}" is no name for a variable: use letters, digits and _'
    if name.startswith(("SUPERVISOR_", "FLEET_")):
        return f"{name}: variables that begin with SUPERVISOR_ and FLEET_ are set for you"
    return ""


def variable_value_fault(value: object) -> str:
    """Why no process can be given this value; "" if it can."""
    if not isinstance(value, str):
        fix = f'. Put it in quotes: "{got(value)}"' if isinstance(value, int | float) else ""
        return f"expected text, got {got(value)}{fix}"
    if "\0" in value:
        return "a NUL character ends a variable; no process can be given one"
    if len(value.encode(errors="surrogateescape")) > LONGEST_VARIABLE:
        return "longer than 128 KiB, which no process can be given"
    return ""


def table(example: str) -> Leaf:
    """A table whose items are checked one by one in `rules.py`, to underline the right one."""

    def check(value: object) -> dict[str, Any]:
        # A copy: the rules take bad items out.
        return dict(value) if isinstance(value, dict) else _expected(f"a table such as {example}", value)

    return Leaf(check, {"type": "object"})


def whole(low: int, high: int = 10**12) -> Leaf:
    what = f"a whole number from {low} to {high}" if high < 10**12 else f"a whole number of at least {low}"

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            _expected(what, value)
        return value

    return Leaf(check, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float) -> Leaf:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            _expected(f"a number from {low:g} to {high:g}", value)
        return float(value)

    return Leaf(check, {"type": "number", "minimum": low, "maximum": high})


def duration(low: float = 0) -> Leaf:
    """Seconds, at least *low*."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            _expected(_DURATION, value)
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            refuse(str(error).replace(repr(value), got(value)))
        if seconds < low:
            refuse(f"expected at least {low:g} seconds, got {got(value)}")
        return seconds

    pattern = r"^\s*(\d+(\.\d+)?(ms|s|m|h|d|w)?)+\s*$|\$\{"
    return Leaf(
        check, {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "number", "minimum": low}]}
    )


def choice(*words: str) -> Leaf:
    def check(value: object) -> object:
        if not isinstance(value, str) or value not in words:
            _expected("one of " + ", ".join(f'"{word}"' for word in words), value)
        return value

    return Leaf(check, {"enum": list(words)})


_IMPORT_PATH_PATTERN = r"^[^:\s]+:[^:\s]+$|\$\{"

ANYTHING = Leaf(lambda value: value, {})
VERSION = Leaf(_version, {"enum": [1]})
TEXT = Leaf(_text, {"type": "string", "minLength": 1})
ANY_TEXT = Leaf(_any_text, {"type": "string"})
FLAG = Leaf(_flag, {"type": "boolean"})
SIZE = Leaf(_size, {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]})
SIGNAL = Leaf(_signal, {"enum": list(_SIGNALS)})
HANDLER = Leaf(_handler, {"type": "string", "pattern": _IMPORT_PATH_PATTERN})
COMMAND = Leaf(_command, {"type": "string", "minLength": 1})
QUEUE_NAME = Leaf(_queue_name, {"type": "string", "maxLength": 200})
PYTHON = Leaf(_python, {"type": "string", "pattern": "/"})
HOOKS = Leaf(_hooks, {"type": "array", "items": {"type": "string", "pattern": _IMPORT_PATH_PATTERN}})
TEXTS = Leaf(_texts, {"type": "array", "items": {"type": "string"}})
ENVIRONMENT = Leaf(
    table('{ LANG = "C.UTF-8" }').check, {"type": "object", "additionalProperties": {"type": "string"}}
)
OPTIONS = Leaf(
    table("{ startsecs = 3 }").check,
    {"type": "object", "properties": {name: {} for name in options.names()}, "additionalProperties": False},
)
NUMPROCS = Leaf(
    _numprocs,
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST_PROCESSES},
            {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        ]
    },
)
