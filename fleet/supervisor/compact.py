"""The short answer of fleet's plug-in: packed inside supervisord, unpacked here."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from fleet.errors import BadReply

# What `process.process` reads of a process.
_FIELDS = (
    *("group", "name", "state", "pid", "start", "stop", "now"),
    *("spawnerr", "exitstatus", "stdout_logfile"),
)
# 10,000 processes with paths of 250 bytes have 4 MB and 120,000 values.
_LARGEST = 8 * 1024**2  # bytes, packed and unpacked
_MOST_VALUES = 300_000


def pack(infos: Iterable[Mapping[str, Any]]) -> str:
    """The entries of getAllProcessInfo as text: 2 MB of XML become 30 kB."""
    rows = [[info[field] for field in _FIELDS] for info in infos]
    text = json.dumps({"fields": _FIELDS, "rows": rows})
    return base64.b64encode(zlib.compress(text.encode(), 1)).decode("ascii")


def unpack(answer: object) -> list[dict[str, Any]]:
    """
    The entries again, with the fields that were packed; `process.process` looks at their values.

    Raises:
        BadReply: it is something else, or too large.
    """
    try:
        if not isinstance(answer, str) or len(answer) > _LARGEST:
            raise TypeError
        opened = zlib.decompressobj()
        text = opened.decompress(base64.b64decode(answer, validate=True), _LARGEST).decode("ascii")
        # Each value stands behind one of these; 8 MB of "[],[]" would become 400 MB of lists.
        if not opened.eof or sum(map(text.count, ",[{")) > _MOST_VALUES:
            raise ValueError
        value = json.loads(text)
        fields, rows = value["fields"], value["rows"]
        return [dict(zip(fields, row, strict=True)) for row in rows]
    except (ValueError, TypeError, LookupError, RecursionError, zlib.error) as error:
        raise BadReply(
            "supervisord answers fleet.processes in another form. "
            "Take [rpcinterface:fleet] out of its configuration, or start it again with this fleet's."
        ) from error
