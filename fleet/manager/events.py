"""
What was done here, and when: one JSON object a line in `.fleet/events.jsonl`.

The dashboard shows it as marks on the time line, and `fleet why` asks what had
changed before the trouble began.  It is a help, never a condition: a file that
cannot be written or read stops nobody.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "events.jsonl"
MAX_LINE = 4096  # bytes: one write of that size is never mixed with another's
_MAX_FILE = 1024 * 1024  # then it becomes events.jsonl.1
_TAIL = 64 * 1024  # bytes that are read
DEPLOYS = frozenset(["up", "apply", "restart", "rollback"])  # after these other code may run


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: float  # Unix time
    kind: str  # up down start stop restart …
    text: str  # one line for people
    pipelines: tuple[str, ...] = ()  # those concerned; none means all
    by: str = ""  # who
    revision: str = ""  # of the code, where it lies in a git checkout

    @property
    def is_deploy(self) -> bool:
        return self.kind in DEPLOYS

    def concerns(self, pipeline: str) -> bool:
        return not self.pipelines or pipeline in self.pipelines


def tell(
    folder: Path, kind: str, text: str, pipelines: Sequence[str] = (), *, root: Path | None = None
) -> None:
    """Add an event that happens now; *root* is where the code lies."""
    event = Event(
        at=round(time.time(), 3),
        kind=kind,
        text=text,
        pipelines=tuple(pipelines),
        by=user(),
        revision=revision(root) if root is not None else "",
    )
    append(folder, event)


def append(folder: Path, event: Event) -> None:
    """One line, whole or not at all; nothing is raised."""
    line = json.dumps(asdict(event)) + "\n"
    if len(line) > MAX_LINE:
        line = json.dumps({**asdict(event), "text": event.text[:400], "pipelines": ()}) + "\n"
    path = folder / FILE
    with suppress(OSError), _opened_folder(folder) as handle:
        if path.exists() and path.stat().st_size > _MAX_FILE:
            path.replace(path.with_suffix(".jsonl.1"))
        number = _opened(FILE, handle)
        try:
            os.write(number, line.encode())
        finally:
            os.close(number)


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    """
    The state folder as a descriptor.

    Where supervisord is not fleet's own nobody has made it yet: a new one is
    whose the folder above is, for the workers may run as that user.
    """
    is_new = not folder.exists()
    if is_new:
        folder.mkdir(mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if is_new:
            above = folder.parent.stat()
            if os.geteuid() == 0:
                os.fchown(handle, above.st_uid, above.st_gid)
            with open(_opened(".gitignore", handle), "w", encoding="utf-8") as ignore:
                ignore.write("*\n")
            os.fchmod(handle, stat.S_IMODE(above.st_mode) & 0o777)
        yield handle
    finally:
        os.close(handle)


def _opened(name: str, folder: int) -> int:
    """A file for appending; a new one belongs to whom the folder does, also when root makes it."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        number = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
    except FileExistsError:
        return os.open(name, flags, dir_fd=folder)
    if os.geteuid() == 0:
        owner = os.fstat(folder)
        os.fchown(number, owner.st_uid, owner.st_gid)
    return number


def read(folder: Path, *, limit: int = 100) -> list[Event]:
    """The last *limit* events, oldest first; a line that cannot be read is left out."""
    try:
        with open(folder / FILE, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(line)
            events.append(
                Event(
                    at=float(found["at"]),
                    kind=str(found["kind"]),
                    text=str(found["text"]),
                    pipelines=tuple(map(str, found.get("pipelines", ()))),
                    by=str(found.get("by", "")),
                    revision=str(found.get("revision", "")),
                )
            )
    return events[-limit:]


def user() -> str:
    """Who acts: the person behind sudo, else the user of this process."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's number without a name
        return str(os.getuid())


def revision(root: Path) -> str:
    """The short commit that is checked out at *root* or above; "" where there is none.  Runs no git."""
    for folder in (root, *root.parents):
        git = folder / ".git"
        with suppress(OSError, ValueError):
            if git.is_file():  # a worktree or submodule: "gitdir: PATH"
                git = folder / git.read_text().partition(":")[2].strip()
            if git.is_dir():
                return _commit(git)[:7]
    return ""


def _commit(git: Path) -> str:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    ref = head[4:].strip()
    common = git / "commondir"
    base = git / common.read_text().strip() if common.exists() else git
    for place in (git, base):
        if (place / ref).is_file():
            return (place / ref).read_text().strip()
    packed = (base / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), "")
