"""A payload as it may be shown: decoded where it can be, secrets masked, every character safe."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection
from typing import Any

from fleet.dashboard.text import show

MASK = "***"


def value_of(payload: bytes, redact: Collection[str] = ()) -> Any:
    """
    The JSON value with the values of *redact* keys masked, at any depth and in any case.

    A payload that is not JSON becomes {"text": …} or {"base64": …}.
    """
    try:
        return _masked(_read(payload), {key.lower() for key in redact})
    except (ValueError, RecursionError):
        text = _masked_text(payload.decode("utf-8", "surrogateescape"), redact)
        try:
            text.encode()
        except UnicodeEncodeError:  # bytes that were no UTF-8
            return {"base64": base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()}
        return {"text": text}


def text_of(payload: bytes, redact: Collection[str] = (), width: int | None = None) -> str:
    """One line for a terminal, at most *width* columns."""
    try:
        value = _masked(_read(payload), {key.lower() for key in redact})
        return show(json.dumps(value, ensure_ascii=False), width)
    except (ValueError, RecursionError):
        return show(_masked_text(payload.decode("utf-8", "surrogateescape"), redact), width)


def _read(payload: bytes) -> Any:
    # Python reads NaN and Infinity, which no reader of `--json` would: they stay words.
    return json.loads(payload, parse_constant=str)


def _masked_text(text: str, keys: Collection[str]) -> str:
    """Where there are no keys to go by: the rest of a text in which a secret one is named."""
    if not keys:
        return text
    found = re.search("|".join(map(re.escape, keys)), text, re.IGNORECASE)
    return text if found is None else f"{text[: found.end()]}{MASK}"


def _masked(value: Any, keys: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {k: MASK if k.lower() in keys else _masked(v, keys) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(item, keys) for item in value]
    return value
