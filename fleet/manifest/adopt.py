"""Programs that run already, read from supervisord's files or a Procfile, as drafts of pipelines.  Pure."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from fleet.errors import RenderError
from fleet.manifest.draft import Draft
from fleet.units import format_duration

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXPANSION = re.compile(r"%\((\w+)\)([0-9]*[sd])|%%")
_SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|DSN|CREDENTIAL", re.IGNORECASE)
_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(.+)$")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SHELL = re.compile(r"[$`&|;<>*?(){}~\\]")
# Words, quoted or not, and then a # that begins a word outside of quotes.
_COMMENT = re.compile(r"""((?:\\.#*|'[^']*'|"(?:\\.|[^"\\])*"|(?<=[^\s;&|()])#|[^\\'"#])*+)(#.*)""")
# What has a key of its own in the manifest, or none at all.
_RAW = ("priority", "umask", "serverurl", "stdout_capture_maxbytes", "stdout_events_enabled", "stdout_syslog")
_NEW_NAMES = ("process_name", "numprocs_start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    drafts: tuple[Draft, ...]
    left: tuple[str, ...] = ()  # sections that were not taken, each with the reason


def from_supervisor(path: Path, text: str) -> Adopted:
    """
    The [program:*] sections of one of supervisord's files.

    Raises:
        RenderError: it is not such a file.
    """
    parser = configparser.RawConfigParser(
        strict=False, inline_comment_prefixes=(";", "#"), interpolation=None
    )
    try:
        parser.read_string(text, str(path))
    except configparser.Error as error:
        raise RenderError(f"{path} is not a file of supervisord: {str(error).splitlines()[0]}") from error
    drafts, left = [], []
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind == "program" and parser.get(section, "command", fallback="").strip():
            drafts.append(_program(name.strip(), dict(parser.items(section)), path))
        elif kind == "program":
            left.append(f"[{section}] has no command")
        elif kind in ("group", "eventlistener", "fcgi-program"):
            left.append(f"[{section}] has no counterpart here")
    return Adopted(drafts=tuple(drafts), left=tuple(left))


def from_procfile(text: str) -> Adopted:
    """Each `name: command` of a Procfile, whose commands a shell would read."""
    drafts, left = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line.strip())
        if found is None:
            left.append(f"line {number} is not NAME: COMMAND")
            continue
        command, comment = _without_comment(found[2].strip())
        if command:
            drafts.append(_process(found[1], command, comment))
        else:
            left.append(f"line {number} has no command, only a comment")
    return Adopted(drafts=tuple(drafts), left=tuple(left))


def _program(name: str, options: Mapping[str, str], path: Path) -> Draft:
    guesses: list[str] = []
    plain = _plain_name(name, guesses)

    def value(option: str) -> str | None:
        found = options.get(option)
        return None if found is None else _expanded(found.strip(), name, path, guesses)

    keys: dict[str, Any] = {"command": value("command")}
    numprocs = _number(options.get("numprocs", "1"), 1)
    keys["numprocs"] = max(numprocs, 1)
    for option in ("user", "directory"):
        if found := value(option):
            keys[option] = found
    keys |= _stopping(options, guesses)
    if logs := _logs(options, value("stdout_logfile"), guesses):
        keys["logs"] = logs
    if raw := _raw(options, guesses):
        keys["supervisor"] = raw
    if any(option in options for option in _NEW_NAMES):
        guesses.append(f"processes are called {plain}_00, {plain}_01 … from now on")
    if "stderr_logfile" in options and options.get("redirect_stderr", "false").strip().lower() != "true":
        guesses.append("stderr goes to the same file as stdout")
    environment = _environment(value("environment") or "", guesses)
    return Draft(name=plain, keys=keys, environment=environment, guesses=tuple(dict.fromkeys(guesses)))


def _stopping(options: Mapping[str, str], guesses: list[str]) -> dict[str, Any]:
    """stop and timeout: the longest job must fit into the time before SIGKILL."""
    stop: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    signal = options.get("stopsignal", "TERM").strip().upper().removeprefix("SIG")
    if signal != "TERM":
        stop["signal"] = signal
    if options.get("stopasgroup", "false").strip().lower() in ("true", "yes", "on", "1"):
        stop["group"] = True
    if "stopwaitsecs" in options:
        grace = max(_number(options["stopwaitsecs"], 10), 1)
        stop["grace"] = format_duration(grace)
        keys["timeout"] = format_duration(grace)
        guesses.append(f"no job takes longer than stopwaitsecs ({grace} s); set timeout and stop.grace")
    else:
        guesses.append("timeout is 60s and stop.grace 90s, where supervisord killed after 10 s")
    if stop:
        keys["stop"] = stop
    return keys


def _logs(options: Mapping[str, str], file: str | None, guesses: list[str]) -> dict[str, Any]:
    logs: dict[str, Any] = {}
    if file and file.startswith("/"):
        folder = str(Path(file).parent)
        if "{process}" not in folder:
            logs["dir"] = folder
            guesses.append(f"each process has a log file of its own in {folder}")
    size = options.get("stdout_logfile_maxbytes", "").strip()
    if match := re.fullmatch(r"(\d+)(KB|MB|GB)?", size, re.IGNORECASE):
        factor = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}.get((match[2] or "").upper(), 1)
        if int(match[1]):
            logs["max_size"] = int(match[1]) * factor
    if "stdout_logfile_backups" in options:
        logs["keep"] = _number(options["stdout_logfile_backups"], 5)
    return logs


def _raw(options: Mapping[str, str], guesses: list[str]) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for option in ("autostart", "autorestart", "exitcodes", "startretries", "startsecs", *_RAW):
        if option in options:
            raw[option] = options[option].strip()
    if "startsecs" in raw and _number(raw["startsecs"], 1) < 1:
        raw["startsecs"] = "1"
        guesses.append("startsecs is 1: with 0 a program that dies at once is restarted without a pause")
    if "startsecs" in raw:
        raw["startsecs"] = _number(raw["startsecs"], 1)
    # supervisord's own default is "unexpected", and fleet's is true.
    raw["autorestart"] = raw.get("autorestart", "unexpected").lower()
    for option in ("autostart", "autorestart"):
        if raw.get(option, "").lower() == "true":
            del raw[option]
    return raw


def _environment(text: str, guesses: list[str]) -> dict[str, str]:
    """KEY="value",KEY2=value2, as supervisord splits it."""
    lexer = shlex.shlex(text, posix=False)
    lexer.wordchars += "/.+-():"
    try:
        tokens = list(lexer)
    except ValueError:
        guesses.append("environment could not be read: add it by hand")
        return {}
    found = {}
    for i in range(0, len(tokens) - 2, 4):
        if tokens[i + 1] != "=":
            guesses.append("environment could not be read: add it by hand")
            return {}
        found[tokens[i]] = tokens[i + 2].strip("'\"")
    for name in found:
        if _SECRET.search(name):
            guesses.append(f"{name} looks like a secret: move it to [pipelines.….secrets], out of this file")
    return found


def _without_comment(line: str) -> tuple[str, str]:
    """
    A command and the comment behind it, as the shell that foreman and honcho call would part them.

    A line with a substitution stays whole: quotes nest in it, and a shell is to read it anyway.
    """
    if "$(" in line or "`" in line:
        return line, ""
    found = _COMMENT.fullmatch(line)
    return (found[1].rstrip(), found[2]) if found else (line, "")


def _process(name: str, command: str, comment: str) -> Draft:
    guesses: list[str] = []
    if comment:
        guesses.append(f"the comment at the end of its line is left out: {comment}")
    plain = _plain_name(name, guesses)
    environment: dict[str, str] = {}
    while (word := command.partition(" ")[0]) and (found := _ASSIGNMENT.fullmatch(word)):
        if _SHELL.search(found[2]) or "'" in word or '"' in word:
            break
        environment[found[1]] = found[2]
        command = command.partition(" ")[2].lstrip()
    if _SHELL.search(command):
        # exec, so that a signal reaches the program and not a shell that stands around it.
        simple = not re.search(r"&&|\|\||[;|&]", command)
        command = f"sh -c {shlex.quote(f'exec {command}' if simple else command)}"
        guesses.append(
            "a shell reads the command and becomes it"
            if simple
            else "a shell stands around the command: end it in `exec …`, or no signal reaches the program"
        )
    if name == "web" or "$PORT" in command:
        guesses.append("it looks like a server and no worker; PORT is not given to it")
    keys: dict[str, Any] = {"command": _literal(command), "numprocs": 1}
    return Draft(
        name=plain,
        keys=keys,
        environment={key: _literal(text) for key, text in environment.items()},
        guesses=tuple(guesses),
    )


def _plain_name(name: str, guesses: list[str]) -> str:
    if _NAME.fullmatch(name) and name != "all":
        return name
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._") or "program"
    plain = f"{plain}-1" if plain == "all" else plain
    guesses.append(f"the name was {name!r}")
    return plain


def _expanded(text: str, name: str, path: Path, guesses: list[str]) -> str:
    """supervisord's expansions in the manifest's words."""

    def word(found: re.Match[str]) -> str:
        key = found[1]
        if key is None:
            return "%"
        if key in ("program_name", "group_name"):
            return _literal(name)
        if key == "here":
            return _literal(str(path.parent))
        if key == "host_node_name":
            return "{host}"
        if key == "process_num":
            if found[2] != "02d":
                guesses.append("the number of a process has two digits")
            return "{process}"
        if key.startswith("ENV_"):
            return f"${{{key[4:]}}}"
        guesses.append(f"%({key}) stood here, and has no counterpart")
        return ""

    pieces, end = [], 0
    for found in _EXPANSION.finditer(text):
        pieces += [_literal(text[end : found.start()]), word(found)]
        end = found.end()
    return "".join([*pieces, _literal(text[end:])])


def _literal(text: str) -> str:
    """Text whose dollar signs and braces are its own."""
    return re.sub(r"\{(project|pipeline|host|process)\}", r"{{\1}}", text.replace("$", "$$"))


def _number(text: str, default: int) -> int:
    try:
        return int(text.strip())
    except ValueError:
        return default


def all_names(drafts: Iterable[Draft]) -> tuple[Draft, ...]:
    """Drafts whose names differ, also without case: the second of a name gets a number that is free."""
    listed = tuple(drafts)
    taken = {draft.name.casefold() for draft in listed}
    seen: set[str] = set()
    out = []
    for draft in listed:
        name = draft.name
        if name.casefold() in seen:
            name = next(new for n in count(2) if (new := f"{draft.name}-{n}").casefold() not in taken)
            draft = replace(draft, name=name, guesses=(*draft.guesses, "another program has the same name"))
        taken.add(name.casefold())
        seen.add(name.casefold())
        out.append(draft)
    return tuple(out)
