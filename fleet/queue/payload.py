"""Payloads: any JSON value or raw bytes, in; bytes, stored.  Never pickle."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fleet.errors import PayloadError, PayloadTooLarge

_MAX_DEPTH = 64
_MAX_INT = 2**63 - 1
_MIN_INT = -(2**63)
_SCALARS = (str, bool, type(None))

_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


_loads = json.JSONDecoder(parse_constant=_no_constant).decode


def decode(raw: bytes) -> Any:
    """
    The JSON value of a payload.  What `encode` refuses to write is refused here too: NaN and Infinity.

    Raises:
        ValueError, RecursionError: not JSON, nested too deeply, or a number of thousands of digits.
    """
    return _loads(raw.decode(json.detect_encoding(raw), "surrogatepass"))


def encode(payload: object, limit: int) -> bytes:
    """
    The bytes that are stored: bytes as they are, everything else as compact JSON.

    Raises:
        PayloadError: a value JSON cannot hold, with the path to it; nesting
            over 64 levels; an integer beyond 64 bits; a key that is no text.
        PayloadTooLarge: over *limit* bytes.
    """
    if type(payload) is bytes:
        raw = payload
    elif isinstance(payload, bytes | bytearray | memoryview):
        _check_size(memoryview(payload).nbytes, limit)  # before there is a copy of it
        raw = bytes(payload)
    else:
        _check(payload, "", 0)
        try:
            raw = _dumps(payload).encode()
        except UnicodeEncodeError as error:
            raise PayloadError(f"payload: a lone surrogate cannot be stored ({error.reason})") from error
    _check_size(len(raw), limit)
    return raw


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLarge(
            f"payload has {size:,} bytes, and this back end takes {limit:,}. "
            "Store the data elsewhere and put a reference to it."
        )


def _check(value: object, path: str, depth: int) -> None:
    # `json` itself would turn {1: 2} into {"1": 2} and write NaN, which other languages refuse to read.
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]
            raise PayloadError(f"{path or 'payload'}: integer beyond 64 bits; put it as text")
        return
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise PayloadError(f"{path or 'payload'}: JSON has no {value}")
        return
    if depth >= _MAX_DEPTH:
        raise PayloadError(f"{path[:120]}…: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise PayloadError(f"{path or 'payload'}: key {key!r} is not text")
            if type(item) not in _SCALARS:
                _check(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if type(item) not in _SCALARS:
                _check(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str | int | float):  # subclasses, such as an IntEnum
        return
    else:
        raise PayloadError(
            f"{path or 'payload'}: {kind.__name__} is not a JSON value; put text, a number, or bytes"
        )
