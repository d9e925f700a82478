"""A Pulse as the text that SQL back ends keep and the run directory holds."""

from __future__ import annotations

import json
from dataclasses import fields

from fleet.queue.job import Pulse

_FIELDS = tuple(field.name for field in fields(Pulse) if field.name != "age")


def pulse_to_text(pulse: Pulse) -> str:
    return json.dumps({name: getattr(pulse, name) for name in _FIELDS}, separators=(",", ":"))


def pulse_from_text(text: str, *, age: float) -> Pulse:
    """Read a pulse back; keys of a newer fleet are ignored, so that two versions run side by side."""
    values = json.loads(text)
    return Pulse(age=age, **{name: values[name] for name in _FIELDS if name in values})
