"""
fleet's files in a conf_dir: read, written whole or not at all, and never anybody else's.

A file is ours when its first line says so; that line also names the project,
so that two manifests can share a folder.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Refused
from fleet.supervisor.transport import owner_and_mode

_MARKER = re.compile(r"; managed by fleet \| project (?P<project>.*?) ?\| pipeline (?P<pipeline>.*?) ?\|")
_SPEC_SCHEMA = "fleet.worker/1"
_LARGEST = 256 * 1024 * 1024  # bytes: a revision of 5,000 pipelines with long environments, and more
# What `_temp_name` makes: a leading dot and another ending keep it out of every `*.conf` include.
_LEFT_BEHIND = re.compile(r"\.{1,2}fleet\..+\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may read a file: its mode, and the group it is given to (-1: leave it)."""

    mode: int = 0o644
    gid: int = -1


def project_of(name: str, text: str) -> str | None:
    """The project that a file says it belongs to; None when it is not fleet's."""
    if name.endswith(".conf"):
        found = _MARKER.match(text)
        return found["project"].strip() if found else None
    try:
        spec = json.loads(text)
    except ValueError:
        return None
    if not isinstance(spec, dict) or spec.get("schema") != _SPEC_SCHEMA:
        return None
    return str(spec.get("project") or "")


class Folder:
    """A conf_dir held open, so that it stays the same folder until we are done."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def names(self) -> list[str]:
        return sorted(os.listdir(self._handle))  # noqa: PTH208  (pathlib cannot list a descriptor)

    def ours(self, project: str) -> dict[str, str]:
        """Name and text of every file here that carries the mark of *project*."""
        found = {}
        for name in self.names():
            if name.startswith("fleet.") and name.endswith((".conf", ".worker.json")):
                text = self.read(name)
                if text is not None and project_of(name, text) == project:
                    found[name] = text
        return found

    def read(self, name: str) -> str | None:
        """The text of a plain file; None when there is none, or when it is no text of ours."""
        # Without O_NONBLOCK a pipe would keep us until somebody writes into it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, dir_fd=self._handle)
        except OSError:
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            os.close(handle)
            return None
        with os.fdopen(handle, "r", encoding="utf-8") as file:
            try:
                return file.read(_LARGEST)
            except UnicodeDecodeError:
                return None

    def access(self, name: str) -> Access:
        """Who may read the file as it lies there; the usual when there is none."""
        try:
            found = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return Access()
        return Access(mode=stat.S_IMODE(found.st_mode), gid=found.st_gid)

    def changed_at(self, names: Iterable[str]) -> dict[str, float]:
        """When each of these files was written last, in epoch seconds; a missing one is left out."""
        found = {}
        for name in names:
            with suppress(OSError):
                found[name] = os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mtime
        return found

    def check_may_write(self, name: str, project: str) -> None:
        """
        Only a file that is ours, or none, may be replaced.

        Raises:
            Refused: something else lies in its place.
        """
        try:
            found = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except FileNotFoundError:
            return
        path = self.path / name
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            kind = "has another hard link" if stat.S_ISREG(found.st_mode) else "is not a plain file"
            raise Refused(f"{path} {kind} ({owner_and_mode(path)}). Nothing was changed; move it away.")
        text = self.read(name)
        owner = None if text is None else project_of(name, text)
        if owner is None:
            raise Refused(
                f"{path} was not written by fleet. Nothing was changed; move it away or rename the pipeline."
            )
        if owner != project:
            raise Refused(
                f"{path} belongs to the project {owner!r}. Nothing was changed; "
                "give this manifest another project name, or another conf_dir."
            )

    def write(self, name: str, text: str, access: Access) -> None:
        """Replace *name* in one step; a reader or a crash sees the old file or the new one, never a part."""
        temp = f".{name}.{secrets.token_hex(4)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(temp, flags, 0o600, dir_fd=self._handle)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    if access.gid != -1:
                        os.fchown(handle, -1, access.gid)
                    os.fchmod(handle, access.mode)  # while it is empty, and whatever the umask is
                    file.write(text)
                    file.flush()
                    os.fsync(handle)
                os.replace(temp, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            except BaseException:
                with suppress(FileNotFoundError):  # Ctrl-C between the rename and here
                    os.unlink(temp, dir_fd=self._handle)
                raise
        except OSError as error:
            raise Refused(
                f"{self.path / name} cannot be written: {error.strerror or error}. The old file is intact."
            ) from error

    def remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._handle)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Refused(f"{self.path / name} cannot be removed: {error.strerror}.") from error

    def sync(self) -> None:
        """Make the names as durable as the contents."""
        os.fsync(self._handle)

    def sweep(self) -> None:
        """Remove what a killed `write` left behind; call it under the lock."""
        for name in self.names():
            if _LEFT_BEHIND.fullmatch(name):
                self.remove(name)


@contextmanager
def opened(path: Path, *, private: bool) -> Iterator[Folder]:
    """
    The conf_dir at *path*, checked to be in nobody else's reach.

    Raises:
        Refused: it is missing, a link, or somebody else may write in it or above it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        what = "is a symbolic link" if error.errno in (errno.ELOOP, errno.ENOTDIR) else str(error.strerror)
        raise Refused(f"conf_dir {path}: {what}. Make it, or name another one in the manifest.") from error
    try:
        # A private folder has a 0700 parent of ours, which nobody else can look into.
        for folder in [path] if private else [path, *path.resolve().parents]:
            _check_unreachable(folder)
        yield Folder(path, handle)
    finally:
        os.close(handle)


def access_to(name: str, text: str, gid: int | None, *, is_root: bool) -> Access:
    """
    Who reads a file that fleet writes.

    A conf is for everybody, as supervisord's own are.  A worker spec may hold
    environment values and says where secrets lie: it is for its worker alone.
    *gid* is the group of the user that the worker runs as, None for our own user.

    Raises:
        Refused: the worker runs as another user, and only root could hand it over.
    """
    if name.endswith(".conf"):
        return Access()
    if gid is None:
        return Access(mode=0o600)
    if is_root:
        return Access(mode=0o640, gid=gid)
    spec = json.loads(text)
    if spec.get("environment") or spec.get("secrets") or spec.get("queue", {}).get("password"):
        raise Refused(
            f"{name} holds settings for its worker's user alone: run this as root. Nothing was changed."
        )
    return Access()


def changes(
    rendered: Mapping[str, str], on_disk: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    The names to write and the names to remove.

    A spec comes before the conf that starts its workers, also when it is the
    only one that changed.
    """
    write = sorted(
        (n for n, text in rendered.items() if on_disk.get(n) != text), key=lambda n: (n.endswith(".conf"), n)
    )
    return tuple(write), tuple(sorted(on_disk.keys() - rendered.keys()))


def make_log_dir(path: Path) -> None:
    """supervisord refuses everything when the folder of one log file is missing."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the log folder {path} cannot be made: {error.strerror}. Make it, or set logs.dir."
        ) from error


def write_all(
    folder: Folder,
    texts: Mapping[str, str],
    access: Mapping[str, Access],
    write: Iterable[str],
    remove: Iterable[str],
) -> None:
    """Write and remove, in this order, and make it durable."""
    write, remove = tuple(write), tuple(remove)
    for name in write:
        folder.write(name, texts[name], access.get(name, Access()))
    for name in remove:
        folder.remove(name)
    if write or remove:
        folder.sync()


def _check_unreachable(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise Refused(
            f"{folder} belongs to somebody else ({owner_and_mode(folder)}), who could swap files in it. "
            "Run fleet as that user."
        )
    if found.st_mode & stat.S_IWOTH:
        shared = found.st_mode & stat.S_ISVTX  # as /tmp: it is meant to be everybody's
        mend = "Name a conf_dir elsewhere." if shared else f"Mend it: chmod o-w {folder}"
        raise Refused(f"everybody may write in {folder} ({owner_and_mode(folder)}). {mend}")
