"""The text behind a manifest: fleet.toml, its overlay, its .env, and where each key stands in them."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from fleet.errors import ManifestError, Problem
from fleet.manifest import codes

if TYPE_CHECKING:
    from fleet.manifest.positions import Index, Path, Span

NAME = "fleet.toml"
SYSTEM_WIDE = FilePath("/etc/fleet/fleet.toml")
_LARGEST = 16 * 1024 * 1024  # bytes; thousands of pipelines fit into one
_MOST = 50  # problems in one error
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True)
class Layer:
    """One TOML file, as read."""

    path: FilePath  # absolute
    name: str  # as shown to people
    text: str
    tables: dict[str, Any]
    mode: int

    @cached_property
    def index(self) -> Index:
        """Made when the first place is asked for: a good manifest is loaded without it."""
        from fleet.manifest.positions import Index

        return Index(self.text)


@dataclass(frozen=True)
class Spot:
    """A key's or value's place in one of the files; no line when it is in none."""

    file: str
    line: int = 0
    column: int = 0
    width: int = 1
    text: str = ""


@dataclass(frozen=True)
class Source:
    """The layers of a manifest, the last one on top."""

    layers: tuple[Layer, ...]
    dotenv: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Layer:
        return self.layers[0]

    def tables(self) -> dict[str, Any]:
        """All layers in one: tables merge key by key, arrays and secrets replace."""
        merged = self.base.tables
        for layer in self.layers[1:]:
            merged = _merge(merged, layer.tables)
        return merged

    def raw(self, path: Path) -> object:
        """What is written at *path*, before anything was put in; None if nothing is."""
        found = self._find(path)
        value: Any = found[0].tables if found else None
        for part in path if found else ():
            value = value[part]
        return value

    def spot(self, path: Path, at: str = "value") -> Spot:
        """
        Where *path* stands, or the nearest table around it.

        A key that a pipeline takes from [defaults] stands there.  *at* is "key" or "value".
        """
        for candidate in self._candidates(path):
            if found := self._find(candidate):
                layer, span = found
                exact = candidate == path or candidate[:1] == ("defaults",)
                return _spot(layer, span, at if exact else "key")
        return Spot(self.base.name)

    def has(self, path: Path) -> bool:
        return self._find(path) is not None

    def problem(self, code: str, path: Path, message: str, hint: str = "", at: str = "value") -> Problem:
        spot = self.spot(path, at)
        return Problem(
            code=code,
            message=message,
            key=".".join(str(part) for part in path),
            hint=hint,
            file=spot.file,
            line=spot.line,
            column=spot.column,
            width=spot.width,
            text=spot.text,
        )

    def error(self, problems: Iterable[Problem]) -> ManifestError:
        """The error with all of *problems*, each place once, in the order of the files."""
        return ManifestError(self.base.name, ordered(problems, self)[:_MOST])

    def _find(self, path: Path) -> tuple[Layer, Span] | None:
        for layer in reversed(self.layers):
            if span := layer.index.spans.get(path):
                return layer, span
        return None

    def _candidates(self, path: Path) -> Iterable[Path]:
        yield path
        if path[:1] == ("pipelines",) and len(path) > 2:
            for end in range(len(path), 2, -1):
                yield path[:end]
                yield ("defaults", *path[2:end])
        for end in range(len(path) - 1, 0, -1):
            yield path[:end]


def ordered(problems: Iterable[Problem], source: Source) -> tuple[Problem, ...]:
    """Sorted by file and line; what [defaults] does to many pipelines is told once."""
    rank = {layer.name: i for i, layer in enumerate(source.layers)}
    unique = {
        (p.code, p.file, p.line, p.column, "" if p.line else p.message): p for p in reversed([*problems])
    }
    return tuple(sorted(unique.values(), key=lambda p: (rank.get(p.file, 0), p.line, p.column, p.code)))


def find(chosen: str | None) -> FilePath:
    """
    The manifest: *chosen*, or the nearest fleet.toml upward to the repository's root, or the system's.

    Raises:
        ManifestError: there is none (E001).
    """
    if chosen is not None:
        path = FilePath(chosen).absolute()
        path = path / NAME if path.is_dir() else path
        if not path.exists():
            raise _unreadable(path, f"{shown(path)} does not exist. Create it with `fleet init`.")
        return path
    here = FilePath.cwd()
    for folder in (here, *here.parents):
        if (folder / NAME).is_file():
            return folder / NAME
        if (folder / ".git").exists():
            break
    if SYSTEM_WIDE.is_file():
        return SYSTEM_WIDE
    raise _unreadable(
        here / NAME,
        f"no {NAME} in {here}, in a folder above it, or in {SYSTEM_WIDE.parent}. "
        "Create one with `fleet init`, or name it with --manifest FILE.",
    )


def read(path: FilePath, env: str | None) -> Source:
    """
    The files of the manifest at *path*.

    Raises:
        ManifestError: one cannot be read (E001) or is no TOML (E002).
    """
    path = path.absolute()
    layers = [_read_layer(path)]
    if env:
        overlay = path.parent / f"{path.stem}.{env.replace('/', '_')}{path.suffix}"
        if not overlay.exists():
            raise _unreadable(overlay, f"{shown(overlay)} does not exist, and --env {env} asks for it.")
        layers.append(_read_layer(overlay))
    return Source(tuple(layers), _read_dotenv(path.with_name(".env")))


def _read_layer(path: FilePath) -> Layer:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LARGEST + 1)
    except OSError as error:
        who = " Run fleet as a user who may read it." if isinstance(error, PermissionError) else ""
        raise _unreadable(path, f"cannot be read: {error.strerror}{_owner(path)}.{who}") from error
    name = shown(path)
    if len(data) > _LARGEST:
        raise _unreadable(path, "is larger than 16 MiB. Is it the right file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}. Save the file as UTF-8."
        raise ManifestError(
            name, [Problem(code=codes.SYNTAX, message=message, file=name, line=line, column=1)]
        ) from None
    if text.startswith("\ufeff"):
        text = text[1:]  # editors of another system write it; it means nothing
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(name, [_syntax(name, text, str(error))]) from None
    except (RecursionError, ValueError) as error:
        # Python converts no number of more than 4300 digits, and tomllib lets that out as it is.
        what = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise ManifestError(name, [Problem(code=codes.SYNTAX, message=what, file=name)]) from None
    return Layer(path, name, text, tables, stat.S_IMODE(status.st_mode))


def _syntax(name: str, text: str, message: str) -> Problem:
    found = _AT.search(message)
    what = message[: found.start()] if found else message
    lines = text.split("\n")
    line, column = int(found[1] or len(lines)) if found else 1, int(found[2] or 1) if found else 1
    written = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
    hint = ""
    if "Cannot overwrite" in what or "Cannot declare" in what or "Cannot mutate" in what:
        line, written, before = _first_writing(lines, line)
        column = len(written) - len(written.lstrip()) + 1
        what = f"{written.strip()[:60]} is here for the second time" + (
            f"; the first is in line {before}" if before else ""
        )
        hint = "keep one of them"
    elif re.match(r"\s*[\w.-]+\s*:\s", written):
        hint = "TOML says key = value"
    elif "Invalid value" in what and re.search(r"=\s*[A-Za-z]", written):
        hint = "put text in quotes"
    message = f"not TOML: {what[:1].lower()}{what[1:]}"
    return Problem(
        code=codes.SYNTAX, message=message, hint=hint, file=name, line=line, column=column, text=written
    )


def _first_writing(lines: list[str], line: int) -> tuple[int, str, int | None]:
    """
    The repeated line and the line it repeats, for a key or table that is there twice.

    tomllib stops behind the statement; a header repeats anywhere, a key only in its own table.
    """
    while line > 1 and not lines[line - 1].strip():
        line -= 1
    written = lines[line - 1].rstrip("\r")
    is_header = written.lstrip().startswith("[")
    mine = _statement(written)
    for number in range(line - 1, 0, -1):
        other = lines[number - 1]
        if _statement(other) == mine:
            return line, written, number
        if not is_header and other.lstrip().startswith("["):
            break
    return line, written, None


def _statement(line: str) -> str:
    line = line.strip()
    return line.split("]")[0].replace(" ", "") if line.startswith("[") else line.split("=")[0].strip()


def _read_dotenv(path: FilePath) -> dict[str, str]:
    from fleet.manifest.interpolate import read_dotenv

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise _unreadable(path, "is larger than 16 MiB. Is it the right file?")
        return read_dotenv(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}{_owner(path)}.") from error
    except UnicodeDecodeError:
        raise _unreadable(path, "is not UTF-8.", codes.SYNTAX) from None
    except ValueError as error:
        raise _unreadable(path, f"{error}.", codes.SYNTAX) from None


def _unreadable(path: FilePath, message: str, code: str = codes.NOT_FOUND) -> ManifestError:
    name = shown(path)
    return ManifestError(name, [Problem(code=code, message=message, file=name)])


def _owner(path: FilePath) -> str:
    """Who may read it, for a message about somebody who may not."""
    try:
        status = path.stat()
    except OSError:
        return ""
    import pwd

    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    return f" (owner {owner}, mode {stat.S_IMODE(status.st_mode):04o})"


def shown(path: FilePath) -> str:
    """A path as people call it: from here if it is below, else in full."""
    try:
        return str(path.relative_to(FilePath.cwd()))
    except (ValueError, OSError):
        return str(path)


def _merge(below: dict[str, Any], above: dict[str, Any], name: str = "") -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        # A secret has one source: { env = … } over { file = … } is not both.
        is_secret = name == "secrets" or key == "password"
        if isinstance(old, dict) and isinstance(value, dict) and not is_secret:
            value = _merge(old, value, key)
        merged[key] = value
    return merged


def _spot(layer: Layer, span: Span, at: str) -> Spot:
    start, end = (
        (span.value, span.value_end) if at == "value" and span.value >= 0 else (span.key, span.key_end)
    )
    line, column = layer.index.place(start)
    text = layer.index.line(line)
    width = min(end - start, len(text) - column + 1)
    return Spot(layer.name, line, column, max(width, 1), text)
