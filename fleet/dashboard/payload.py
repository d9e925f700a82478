"""A payload as it may be shown: decoded where it can be, secrets masked, every character safe."""

from __future__ import annotations

import base64
import json
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
        value = json.loads(payload)
    except (ValueError, RecursionError):
        try:
            return {"text": payload.decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(payload).decode()}
    return _masked(value, {key.lower() for key in redact}) if redact else value


def text_of(payload: bytes, redact: Collection[str] = (), width: int | None = None) -> str:
    """One line for a terminal, at most *width* columns."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return show(payload.decode("utf-8", "surrogateescape"), width)
    value = _masked(value, {key.lower() for key in redact}) if redact else value
    return show(json.dumps(value, ensure_ascii=False), width)


def _masked(value: Any, keys: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {k: MASK if k.lower() in keys else _masked(v, keys) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(item, keys) for item in value]
    return value
