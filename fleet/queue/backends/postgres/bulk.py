"""Rows for COPY in PostgreSQL's binary format: no escapes, and a payload is written as it is."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TAIL = b"\xff\xff"
_START = struct.Struct(">hiq")  # nine columns; the first has eight bytes: the id
_LENGTH = struct.Struct(">i")
_PIECE = 256 * 1024  # bytes handed to the driver at once


def rows(
    pipeline: str,
    state: int,
    priority: int,
    ttr: int,
    run_at: int,
    ids: Sequence[int],
    uids: Sequence[bytes],
    payloads: Sequence[bytes],
) -> Iterable[bytes]:
    """
    The columns id, pipeline, state, priority, ttr, run_at, late, uid, payload in pieces.

    *ttr* and *run_at* are microseconds; uids have 16 bytes each.
    """
    start, length = _START.pack, _LENGTH.pack
    name = pipeline.encode()
    # What is the same in every row: from the pipeline's length to the uid's.
    middle = (
        length(len(name))
        + name
        + struct.pack(">ihiqiqiqi?i", 2, state, 8, priority, 8, ttr, 8, run_at, 1, state == 1, 16)
    )
    pieces, size = [_HEAD], 0
    for id_, uid, payload in zip(ids, uids, payloads, strict=True):
        pieces.append(start(9, 8, id_) + middle + uid + length(len(payload)) + payload)
        size += len(payload) + 128
        if size > _PIECE:
            yield b"".join(pieces)
            pieces, size = [], 0
    pieces.append(_TAIL)
    yield b"".join(pieces)
