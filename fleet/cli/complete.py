"""
What can come next on a command line, for the shells: `fleet __complete SHELL WORD…`.

A shell asks at every Tab, so this imports as little as it can: typer only for
the options of a command, and never the manifest's checks or a server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fleet.cli import options
from fleet.cli.app import COMMANDS, GROUPS, Command

Candidates = dict[str, str]  # what may be typed, and what it means

# What the arguments of a command are; a test compares it with their names in its help.
ARGUMENTS = {
    **dict.fromkeys(("status", "why", "work", "pause", "resume", "queue purge"), "pipelines"),
    **{command.name: "pipelines" for command in COMMANDS if command.name.startswith("jobs ")},
    "jobs show": "",
    **dict.fromkeys(("logs", "start", "stop", "restart"), "targets"),
    "scale": "numbers",
    "schema": "manifest status",
    "completion": "bash zsh fish",
}
# The options whose value is one of a few words.
WORDS = {"--color": "auto always never", "--state": "ready delayed reserved buried"}


def answer(words: Sequence[str]) -> int:
    """Print a line for each candidate, in the form that the shell (the first word) takes."""
    shell, *line = words or ["bash"]
    settings: dict[str, str] = {}
    found = candidates(line, settings, lambda kind: names(kind, settings))
    for value, text in found.items():
        between = {"zsh": ":", "fish": "\t"}.get(shell, "") if text else ""
        print(f"{value}{between}{text}" if between else value)
    return 0


def candidates(
    line: Sequence[str], settings: dict[str, str], known: Callable[[str], Candidates]
) -> Candidates:
    """
    What the last word of *line*, typed as far as it is, can become.

    The values of global options that stand before it go into *settings*.
    *known* gives the names of a kind: "pipelines", "targets" or "numbers".
    """
    *before, last = line or [""]
    words, open_option = _without_options(before, settings)
    command, rest = _command(words)
    if open_option:
        return _starting(dict.fromkeys(WORDS.get(open_option, "").split(), ""), last)
    if command is not None and before and _takes_value(command, before[-1]):
        return _starting(dict.fromkeys(WORDS.get(before[-1], "").split(), ""), last)
    if last.startswith("-"):
        own = {o: h for o, h, _ in _options_of(command)} if command is not None else {}
        return _starting({**own, **_global_options()}, last)
    if command is None:
        return _starting(_next_words(words), last)
    kind = ARGUMENTS.get(command.name, "")
    if kind in ("pipelines", "targets", "numbers"):
        return _starting({name: text for name, text in known(kind).items() if name not in rest}, last)
    return _starting(dict.fromkeys(kind.split(), "") if not rest else {}, last)


def names(kind: str, settings: dict[str, str]) -> Candidates:
    """Pipelines as the manifest has them, and processes as the last apply left them."""
    import tomllib

    from fleet.errors import ManifestError
    from fleet.manifest.source import find

    try:
        path = find(settings.get("--manifest") or os.environ.get("FLEET_MANIFEST"))
        tables = tomllib.loads(path.read_text("utf-8"))
        pipelines = [str(name) for name in tables.get("pipelines", {})]
    except (ManifestError, OSError, ValueError):
        return {}
    if kind == "numbers":
        return {f"{name}=": "" for name in pipelines}
    found = dict.fromkeys(pipelines, "pipeline")
    if kind == "targets":
        found |= {"all": "every pipeline", **dict.fromkeys(_processes(path, tables, pipelines), "process")}
    return found


def _processes(path: Path, tables: dict[str, Any], pipelines: Sequence[str]) -> list[str]:
    """The short names (`emails_03`) in the record that apply keeps beside supervisord's files."""
    project = tables.get("project", "")
    try:
        # Not checked by anybody yet: any of this may be of another kind.
        where = (
            tables["supervisor"].get("conf_dir", "/etc/supervisor/conf.d")
            if "supervisor" in tables
            else ".fleet/conf.d"
        )
        record = path.parent / where / f".fleet.{project or '-'}.applied.json"
        groups = json.loads(record.read_text("utf-8"))["groups"]
        found = []
        for name in pipelines:
            group = f"{project}-{name}" if project else name
            found += [name + p.removeprefix(group) for p in (groups.get(group) or {}).get("wanted", ())]
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _starting(found: Candidates, last: str) -> Candidates:
    return {value: text for value, text in found.items() if value.startswith(last)}


def _without_options(before: Sequence[str], settings: dict[str, str]) -> tuple[list[str], str]:
    """The words that are no options, and the global option whose value comes next, if one does."""
    words: list[str] = []
    waiting = ""
    for word in before:
        if waiting:
            settings[waiting], waiting = word, ""
        elif (name := options.SHORT.get(word, options.ALIASES.get(word, word))) in options.VALUES:
            waiting = name
        elif word.startswith("--") and "=" in word:
            name, _, settings[name] = word.partition("=")
        elif not word.startswith("-"):
            words.append(word)
    return words, waiting


def _command(words: Sequence[str]) -> tuple[Command | None, Sequence[str]]:
    """The command that *words* begin with, and the words after it."""
    for size in (1, 2):
        name = " ".join(words[:size])
        for command in COMMANDS:
            if command.name == name:
                return command, words[size:]
    return None, ()


def _next_words(words: Sequence[str]) -> Candidates:
    if not words:
        below = {c.name: c.summary for c in COMMANDS if " " not in c.name}
        return {**below, **GROUPS}
    prefix = f"{words[0]} " if len(words) == 1 and words[0] in GROUPS else "\0"
    return {c.name.removeprefix(prefix): c.summary for c in COMMANDS if c.name.startswith(prefix)}


def _global_options() -> Candidates:
    flags = {name: text for name, (_, text) in options.FLAGS.items()}
    return {
        **flags,
        **{name: text for name, (_, _, text) in options.VALUES.items()},
        "--help": "what it does",
    }


def _takes_value(command: Command, word: str) -> bool:
    """Whether *word* is an option of the command's own that waits for its value."""
    return word.startswith("-") and any(o == word and value for o, _, value in _options_of(command))


def _options_of(command: Command) -> Iterator[tuple[str, str, bool]]:
    """Each option of a command: as typed, its help, and whether a value follows."""
    from fleet.cli.tree import load

    for parameter in load(command).params:
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
            for name in (*parameter.opts, *parameter.secondary_opts):
                is_flag = getattr(parameter, "is_flag", False)
                yield name, getattr(parameter, "help", None) or "", not is_flag
