"""
supervisord's own parser as the judge of configuration files.

A supervisord refuses everything when one value in one file is wrong, merges
sections of the same name without a word, and takes an unreadable file for a
removed one.  `read` finds all of that out before a running daemon does, in a
child process with a time limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import SupervisorError
from fleet.supervisor.transport import printable

_READER = Path(__file__).with_name("reader.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """One process as supervisord will run it: every expansion done, a field is the option of that name."""

    name: str
    command: str
    directory: str | None
    uid: int | None
    umask: int | None
    priority: int
    autostart: bool
    autorestart: str  # "true", "false" or "unexpected"
    startsecs: int
    startretries: int
    exitcodes: list[int]
    stopsignal: int
    stopwaitsecs: int
    stopasgroup: bool
    killasgroup: bool
    redirect_stderr: bool
    environment: dict[str, str]
    stdout_logfile: str | None  # a path, "AUTO", or None
    stdout_logfile_maxbytes: int
    stdout_logfile_backups: int
    stdout_syslog: bool
    stderr_logfile: str | None
    stderr_logfile_maxbytes: int
    stderr_logfile_backups: int
    stderr_syslog: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    path: Path
    sections: tuple[str, ...]
    problem: str | None = None  # why supervisord would skip it in silence


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludeSet:
    """A main file with everything it includes, as supervisord understands it."""

    files: tuple[ConfigFile, ...]
    groups: Mapping[str, tuple[ProcessConfig, ...]] = field(default_factory=dict)
    twice: frozenset[str] = frozenset()  # groups that more than one section makes
    error: str | None = None  # supervisord would refuse the whole set, with this reason

    def problems(self) -> tuple[str, ...]:
        """Everything that would go wrong, also what supervisord itself passes over in silence."""
        found = [self.error] if self.error else []
        found += [f"{file.path}: {file.problem}" for file in self.files if file.problem]
        homes: dict[str, Path] = {}
        for file in self.files:
            for section in file.sections:
                first = homes.setdefault(section, file.path)
                if section == "DEFAULT" and file is not self.files[0]:
                    found.append(f"{file.path}: [DEFAULT] would change every program of every file")
                elif first != file.path:
                    found.append(
                        f"[{section}] stands in {first} and in {file.path}; supervisord would merge the two"
                    )
        for group in sorted(self.twice):
            makers = {s: f.path for f in self.files for s in f.sections if s.partition(":")[2] == group}
            if len(makers) > 1:  # else the two sections have one name, which is told above
                told = " and ".join(f"[{section}] in {path}" for section, path in makers.items())
                found.append(
                    f"the group {group} is made twice, see {told}; supervisord would run one of them"
                )
        return tuple(found)


def read(
    main_conf: Path,
    overlay: Mapping[Path, str | None] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
    timeout: float = 30.0,
) -> IncludeSet:
    """
    Read *main_conf* and its includes with the supervisor of *python*'s environment.

    *overlay* holds the text of files that are to be, and None for files that are
    to go.  *environ* is what `%(ENV_X)s` sees, by default nothing but PATH.

    Raises:
        SupervisorError: the reading itself failed, or took longer than *timeout* seconds.
    """
    request = {
        "main": str(main_conf),
        "overlay": {str(path): text for path, text in (overlay or {}).items()},
        "environ": dict(environ) if environ is not None else {"PATH": os.environ.get("PATH", os.defpath)},
    }
    try:
        done = subprocess.run(
            # -I: nothing of the caller's folder or PYTHON… variables; utf8 as the daemon reads it.
            [python, "-I", "-X", "utf8", str(_READER)],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SupervisorError(
            f"supervisord's parser did not finish {main_conf} within {timeout:g} s. Nothing was changed."
        ) from error
    try:
        if done.returncode:
            raise ValueError
        answer = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SupervisorError(
            f"supervisord's parser could not be run on {main_conf}: {printable(last)}. Nothing was changed."
        ) from error
    return _include_set(answer, main_conf)


def _include_set(answer: dict[str, Any], main_conf: Path) -> IncludeSet:
    files = tuple(
        ConfigFile(path=Path(file["path"]), sections=tuple(file["sections"]), problem=file["problem"])
        for file in answer["files"]
    )
    error = answer["error"]
    if error is not None:
        error = printable(" ".join(error.split()))
        # Some of supervisord's texts name a section or an option only, and a broken line only its file.
        if not any(str(file.path) in error for file in files):
            home = next(
                (f.path for f in files for s in f.sections if s in error or _named(s, error)), main_conf
            )
            error = f"{home}: {error}"
    names = Counter(group["name"] for group in answer["groups"])
    return IncludeSet(
        files=files,
        twice=frozenset(name for name, count in names.items() if count > 1),
        groups={
            group["name"]: tuple(ProcessConfig(**process) for process in group["processes"])
            for group in answer["groups"]
        },
        error=error,
    )


def _named(section: str, error: str) -> bool:
    """Whether the text speaks of the program `b c` of a section [program:b c]."""
    name = section.partition(":")[2]
    return bool(name) and repr(name) in error
