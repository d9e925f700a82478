"""
Versions of the libraries that fleet stands on which have a hole that matters here.

A short list, kept by hand; it is no substitute for an audit of the environment
(pip-audit), which also knows what came out since.  pyproject.toml asks for newer
versions, but an environment of system packages or of --no-deps may lie below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    library: str  # as pip calls it
    fixed: str  # the first version without it
    what: str
    source: str


KNOWN = (
    Hole(
        library="supervisor",
        fixed="3.3.3",
        what="whoever may log in may run anything",
        source="CVE-2017-11610",
    ),
    Hole(
        library="jinja2",
        fixed="3.1.6",
        what="a template can leave the sandbox",
        source="CVE-2025-27516",
    ),
    Hole(
        library="pymysql",
        fixed="1.1.1",
        what="keys of a dict are not escaped in SQL",
        source="CVE-2024-36039",
    ),
    Hole(
        library="pymysql",
        fixed="1.2.0",
        what="with ssl_ca, a server that offers no TLS is spoken to without it",
        source="PyMySQL 1.2.0, #1234",
    ),
    Hole(
        library="pymysql",
        fixed="1.2.1",
        what="bytes become SQL on a connection in gbk, sjis or big5",
        source="GHSA-x4f8-9hx9-hpp9",
    ),
    Hole(
        library="pymysql",
        fixed="1.2.4",
        what="a text in a list becomes SQL where NO_BACKSLASH_ESCAPES is set",
        source="GHSA-m75w-33c4-7v8q",
    ),
    Hole(
        library="pydantic",
        fixed="2.4.0",
        what="a crafted e-mail address keeps a check busy for minutes",
        source="CVE-2024-3772",
    ),
    Hole(
        library="psutil",
        fixed="5.6.6",
        what="what the system says of its processes can end the reader",
        source="CVE-2019-18874",
    ),
)


def found(installed: Callable[[str], str] = version) -> Iterator[tuple[Hole, str]]:
    """Each known hole that is open in this environment, with the version that has it."""
    for hole in KNOWN:
        try:
            here = installed(hole.library)
        except PackageNotFoundError:
            continue
        if numbers(here) < numbers(hole.fixed):
            yield hole, here


def numbers(text: str) -> tuple[int, ...]:
    """(3, 1, 6) of "3.1.6", "3.1.6rc1" and "3.1.6.post2"; what follows the third number is left out."""
    parts = []
    for part in text.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        parts.append(int(digits or 0))
    return tuple(parts + [0] * (3 - len(parts)))
