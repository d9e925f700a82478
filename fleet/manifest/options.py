"""supervisord's own options of [program:*], as `supervisor = {…}` may set them: by name, type and range."""

from __future__ import annotations

import re
from collections.abc import Callable

# What supervisord would expand, and what a raw option may therefore hold on purpose.
EXPANSION = re.compile(r"%\((?:program_name|group_name|host_node_name)\)s|%\(process_num\)(?:0?[1-9])?d")

# Options that have a key of their own: two ways to say one thing are one too many.
ELSEWHERE = {
    "command": 'it is the key command = "…"',
    "numprocs": "it is the key numprocs = 2",
    "numprocs_start": "fleet sets it",
    "user": 'it is the key user = "…"',
    "directory": 'it is the key directory = "…"',
    "environment": 'it is the table environment = { NAME = "…" }',
    "stopsignal": 'it is stop.signal = "TERM"',
    "stopwaitsecs": 'it is stop.grace = "90s"',
    "stopasgroup": "it is stop.group = true",
    "killasgroup": "it is always true: nothing of a killed worker may stay behind",
    "stdout_logfile_maxbytes": 'it is logs.max_size = "20MB"',
    "stdout_logfile_backups": "it is logs.keep = 5",
}


def check(name: str, value: object) -> str:
    """
    The option's text as supervisord reads it.

    Raises:
        KeyError: no such option, or one of ELSEWHERE.
        ValueError: the wrong type or range; the message says what is right.
    """
    return _KINDS[name](value)


def is_numbered(text: str) -> bool:
    """Whether it is another text for each process of a program."""
    return any("process_num" in found for found in EXPANSION.findall(text))


def names() -> tuple[str, ...]:
    """Every option that may be set."""
    return tuple(_KINDS)


def _flag(value: object) -> str:
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return "true"
    if text in ("false", "no", "off", "0"):
        return "false"
    raise ValueError("expected true or false")


def _restart(value: object) -> str:
    if str(value).lower() == "unexpected":
        return "unexpected"
    try:
        return _flag(value)
    except ValueError:
        raise ValueError('expected true, false or "unexpected"') from None


def _whole(low: int, high: int = 2**31 - 1) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = str(value).strip()
        if (
            isinstance(value, bool)
            or not re.fullmatch(r"-?[0-9]{1,10}", text)
            or not low <= int(text) <= high
        ):
            raise ValueError(f"expected a whole number from {low} to {high}")
        return str(int(text))

    return check


def _at_least_one_second(value: object) -> str:
    try:
        return _whole(1)(value)
    except ValueError:
        raise ValueError(
            "expected a whole number of at least 1: with 0 a program that dies at once is restarted "
            "without any delay, and supervisord answers nobody else"
        ) from None


def _exit_codes(value: object) -> str:
    codes = value if isinstance(value, list) else str(value).split(",")
    try:
        return ",".join(_whole(0, 255)(code) for code in codes)
    except ValueError:
        raise ValueError('expected exit codes from 0 to 255, such as "0,2"') from None


def _octal(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('expected octal digits in quotes, such as "027"')
    return value


def _bytes(value: object) -> str:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}([kKmMgG][bB])?", text):
        raise ValueError('expected a size as supervisord writes it, such as "50MB" or 0')
    return text


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    return value


def _log_file(value: object) -> str:
    text = _text(value)
    if text.upper() in ("AUTO", "NONE"):
        return text.upper()
    if not text.startswith("/"):
        raise ValueError('expected an absolute path, "AUTO" or "NONE"')
    return text


def _process_name(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", EXPANSION.sub("x", text)):
        raise ValueError("a process name is made of letters, digits, dots, dashes and underscores")
    return text


_KINDS: dict[str, Callable[[object], str]] = {
    "autorestart": _restart,
    "autostart": _flag,
    "exitcodes": _exit_codes,
    "priority": _whole(0),
    "process_name": _process_name,
    "redirect_stderr": _flag,
    "serverurl": _text,
    "startretries": _whole(0),
    "startsecs": _at_least_one_second,
    "stderr_capture_maxbytes": _bytes,
    "stderr_events_enabled": _flag,
    "stderr_logfile": _log_file,
    "stderr_logfile_backups": _whole(0),
    "stderr_logfile_maxbytes": _bytes,
    "stderr_syslog": _flag,
    "stdout_capture_maxbytes": _bytes,
    "stdout_events_enabled": _flag,
    "stdout_logfile": _log_file,
    "stdout_syslog": _flag,
    "umask": _octal,
}
