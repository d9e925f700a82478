"""A Pulse as the text that SQL back ends keep and the run directory holds."""

from __future__ import annotations

import json
import os
from dataclasses import fields

from fleet.queue.job import Pulse

PULSES_SHOWN = 3600  # seconds: whoever is silent longer is gone
PULSES_KEPT = 24 * 3600
_ONE_IN = 64  # publications that also prune: about once in two minutes for each process

_FIELDS = tuple(field.name for field in fields(Pulse) if field.name != "age")


def pulse_to_text(pulse: Pulse) -> str:
    return json.dumps({name: getattr(pulse, name) for name in _FIELDS}, separators=(",", ":"))


def pulse_from_text(text: str, *, age: float) -> Pulse:
    """Read a pulse back; keys of a newer fleet are ignored, so that two versions run side by side."""
    values = json.loads(text)
    return Pulse(age=age, **{name: values[name] for name in _FIELDS if name in values})


def is_time_to_prune() -> bool:
    """Now and then, by chance, so that many processes neither forget it nor do it all at once."""
    return os.urandom(1)[0] % _ONE_IN == 0
