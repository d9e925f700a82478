"""
${VARIABLES} from the environment, and {placeholders} from the manifest itself.

One pass, no nesting, no commands: what a variable holds is not searched for variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:-|:\?)(?P<rest>[^}]*))?\}|(?P<bad>\{))"
)
_PLACEHOLDER = re.compile(r"\{\{(project|pipeline|host)\}\}|\{(project|pipeline|host)\}")
_PROCESS = re.compile(r"\{\{process\}\}|\{process\}")


class Unset(ValueError):
    """A variable has no value; the message says which and what to do."""


def expand(text: str, environ: Mapping[str, str]) -> str:
    """
    *text* with ${NAME}, ${NAME:-default}, ${NAME:?message} and $$ replaced.

    Raises:
        Unset: a variable has no value and no default.
        ValueError: "${" that begins none of these forms.
    """

    def replace(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        if found["bad"]:
            raise ValueError(
                '"${" needs a name: ${NAME}, ${NAME:-default} or ${NAME:?message}; "$${" is the text itself'
            )
        name, how, rest = found["name"], found["how"], found["rest"] or ""
        value = environ.get(name)
        if value is not None and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise Unset(f"${name} is not UTF-8 text")
        if how == ":-":
            return value or rest
        if how == ":?" and not value:
            raise Unset(f"${name} is not set: {rest or 'it is required'}")
        if value is None:
            raise Unset(f"${name} is not set")
        return value

    return _VARIABLE.sub(replace, text) if "$" in text else text


def fill(text: str, values: Mapping[str, str]) -> str:
    """{project}, {pipeline} and {host} replaced; "{{project}}" is the text "{project}"."""
    if "{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda m: values[m[2]] if m[2] else "{" + m[1] + "}", text)


def split_process(text: str) -> tuple[str, ...]:
    """
    *text* cut at every {process}: the number stands between two neighbours.

    "{{process}}" is the text "{process}".
    """
    pieces = [""]
    end = 0
    for found in _PROCESS.finditer(text):
        pieces[-1] += text[end : found.start()]
        if found[0].startswith("{{"):
            pieces[-1] += "{process}"
        else:
            pieces.append("")
        end = found.end()
    pieces[-1] += text[end:]
    return tuple(pieces)


def read_dotenv(text: str) -> dict[str, str]:
    """
    NAME=value lines of a .env file; "export " and quotes are taken off, # starts a comment line.

    Raises:
        ValueError: a line that is none of these, with its number.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"line {number} is not NAME=value")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name] = value
    return found
