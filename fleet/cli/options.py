"""The global options: taken out of the command line before the command sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fleet.cli.context import Settings

if TYPE_CHECKING:
    import typer

# option: (field of Settings, what help says)
FLAGS = {
    "--json": ("json", "one JSON document"),
    "--plain": ("plain", "no colour, no boxes, one record a line"),
    "--quiet": ("quiet", "only data and errors"),
    "--verbose": ("verbose", "say more; print tracebacks"),
    "--yes": ("yes", "do not ask"),
    "--ascii": ("ascii", "only ASCII characters"),
}
VALUES = {
    "--manifest": ("manifest", "FILE", "instead of the nearest fleet.toml"),
    "--env": ("env", "NAME", "lay fleet.NAME.toml over it"),
    "--color": ("color", "WHEN", "auto, always or never"),
}
SHORT = {"-q": "--quiet", "-v": "--verbose", "-y": "--yes", "-m": "--manifest"}
ALIASES = {"--colour": "--color"}


def hoist(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """
    Split *argv* into the global options and the rest.

    People write `fleet --json status` and `fleet status --json`; typer takes
    only the first.  Nothing after a lone `--` is looked at.

    Raises:
        typer.BadParameter: a value is missing or not one of the choices.
    """
    found: dict[str, object] = {"ascii": environ.get("FLEET_ASCII", "") not in ("", "0")}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name, equals, value = _spell_out(word)
        if name in FLAGS and not equals:
            found[FLAGS[name][0]] = True
        elif name in VALUES:
            if not equals:
                value = next(words, "")
            if not value:
                raise _slip(f"{name} needs a value: {VALUES[name][1]}")
            found[VALUES[name][0]] = value
        else:
            rest.append(word)
    if found.get("color", "auto") not in ("auto", "always", "never"):
        raise _slip(f"--color is auto, always or never, not {found['color']!r}")
    return Settings(**found), rest  # type: ignore[arg-type]


def _slip(text: str) -> typer.BadParameter:
    import typer

    return typer.BadParameter(text)


def _spell_out(word: str) -> tuple[str, str, str]:
    """The long option, "=" if a value is attached, and that value."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return ALIASES.get(name, name), equals, value
    if word[:2] == "-m" and len(word) > 2:
        return SHORT["-m"], "=", word[2:].removeprefix("=")
    return SHORT.get(word, word), "", ""
