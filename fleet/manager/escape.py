"""
Text to supervisord's INI files, with two outcomes: it arrives unchanged, or RenderError.

supervisord cuts comments (a ; or # behind a blank, no escape), strips lines,
replaces "%(here)s" as plain text, and only then expands %.  So a "%" is
doubled, and an expansion that prints nothing, `%(program_name).0s`, stands
wherever the first three would do harm: it survives them, and then disappears.
A carriage return and a NUL cannot be written at all.

`environment=` is split by another parser, which differs between versions: 4.2
and 4.3 know no escape inside quotes and strip quotes from both ends, later
ones read backslashes between double quotes.  What not all of them read alike
is refused here; `plan` gives it to the worker in its spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.errors import RenderError
from fleet.manager.program import Live, Text

GUARD = "%(program_name).0s"
SECTION_GUARD = "%(here).0s"  # the same outside of [program:*]
CARRIAGE_RETURN = "a carriage return"
_LONGEST = 1024 * 1024  # characters; the kernel takes 128 KiB a word
_COMMENT = re.compile(r"(?<=\s)(?=[;#])")
_WORD = re.compile(r"[A-Za-z0-9_.,~-]*")  # ~ is in the names of temporary groups
_HERE = re.compile(r"(?<=%)(?=\(here\)s)")


@dataclass(frozen=True, slots=True)
class Safe:
    """Text that passed a filter of this module: the only thing that a template may print."""

    text: str

    def __str__(self) -> str:
        return self.text


def value(text: Text, *, times: int = 1, guard: str = GUARD) -> Safe:
    """
    *text* as the value of an option that supervisord expands *times* times.

    Raises:
        RenderError: it holds a character that the file cannot carry.
    """
    pieces = (text,) if isinstance(text, str) else text
    joined = "".join(_piece(piece, times, guard) for piece in pieces)
    return Safe(_ends(joined, guard))


def log_file(text: Text) -> Safe:
    """The value of stdout_logfile or stderr_logfile, which supervisord expands twice."""
    return value(text, times=2)


def environment(variables: Mapping[str, Text]) -> Safe:
    """
    The value of `environment=`.

    Raises:
        RenderError: a value that not every supervisord reads alike.
    """
    pairs = []
    for name, text in variables.items():
        quote = quote_for(text)
        if quote is None:
            raise RenderError(f"{name}: environment= of supervisord cannot carry {fault(text)}")
        pieces = (text,) if isinstance(text, str) else text
        pairs.append(f"{name}={quote}{''.join(_piece(piece, 1, GUARD) for piece in pieces)}{quote}")
    return Safe(_ends(",".join(pairs), GUARD))


def quote_for(text: Text) -> str | None:
    """The quote that every version takes around *text* in `environment=`; None if there is none."""
    plain = text if isinstance(text, str) else "".join(p for p in text if isinstance(p, str))
    if fault(text):
        return None
    if plain[:1] in ("'", '"') or plain[-1:] in ("'", '"'):
        return None  # 4.2 and 4.3 strip quotes of both kinds from both ends
    if '"' not in plain and "\\" not in plain:
        return '"'
    return None if "'" in plain else "'"


def fault(text: Text) -> str:
    """What in *text* no file of supervisord can carry, or "" """
    plain = text if isinstance(text, str) else "".join(p for p in text if isinstance(p, str))
    if "\r" in plain:
        return CARRIAGE_RETURN
    if "\0" in plain:
        return "a NUL character"
    if any("\ud800" <= c <= "\udfff" for c in plain):
        return "bytes that are not UTF-8"
    if len(plain) > _LONGEST:
        return "more than a million characters"
    return ""


def _piece(piece: str | Live, times: int, guard: str) -> str:
    if isinstance(piece, Live):
        return piece.expansion
    if problem := fault(piece):
        raise RenderError(f"supervisord's files cannot carry {problem}")
    text = piece.replace("%", "%%" * times)
    text = _HERE.sub(guard, text)
    text = _COMMENT.sub(guard, text)
    # A line that starts with a blank continues the option; the guards keep blanks and empty lines alive.
    return text.replace("\n", f"{guard}\n\t{guard}")


def _ends(text: str, guard: str) -> str:
    """Keep blanks at both ends, where the parser would strip them."""
    start = guard if text[:1].isspace() else ""
    end = guard if text[-1:].isspace() else ""
    return f"{start}{text}{end}"


def word(text: str) -> Safe:
    """
    *text* as it is: names, numbers and lists of them, which need no escape.

    Raises:
        RenderError: it holds anything else.
    """
    if _WORD.fullmatch(text):
        return Safe(text)
    raise RenderError(f"expected a plain word, got {text[:60]!r}")
