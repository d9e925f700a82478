"""
Values as SQL literals.

PyMySQL has no prepared statements: it writes every value into the text of the
statement by itself.  Here that is done so that nothing in a value can ever be
read as SQL, whatever the connection's character set and sql_mode say about
backslashes and quotes: integers in digits, bytes and unusual text in
hexadecimal, and quotes only around characters that mean nothing to SQL.
That is what makes it safe to send several statements in one packet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Value = int | str | bytes | Sequence[int] | None

_PLAIN = re.compile(r"[A-Za-z0-9 +/;.,:@$_()-]*", re.ASCII)


def literal(value: Value) -> str:
    """
    One value as SQL text; of integers, the condition that a column is one of them.

    Raises:
        UnicodeEncodeError: a lone surrogate, which utf8mb4 cannot hold.
    """
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return f"'{value}'"
        return f"_utf8mb4 X'{value.encode().hex()}'"
    if isinstance(value, range):
        return f"BETWEEN {value[0]} AND {value[-1]}"
    return f"IN ({','.join([str(int(number)) for number in value]) or 'NULL'})"


def among(ids: list[int]) -> Sequence[int]:
    """
    Sorted *ids* as a range where none is missing: the server then walks the index instead of searching each.

    For statements with a LIMIT of as many rows: without it, they would go on
    to the next row, lock it, and wait for whoever has it.
    """
    every = range(ids[0], ids[0] + len(ids))
    return every if len(ids) > 1 and ids == list(every) else ids


def bind(statement: str, *values: Value) -> str:
    """*statement* with each %s replaced by the literal of its value."""
    return statement % tuple([literal(value) for value in values])


def like(pattern: str) -> str:
    """A pattern for ``LIKE … ESCAPE '|'`` in which only % and _ are special."""
    return pattern.replace("|", "||")
