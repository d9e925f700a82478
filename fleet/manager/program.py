"""A [program:*] section as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Live:
    """A piece of a text that supervisord expands, such as "%(process_num)02d"."""

    expansion: str

    def value(self, program: str, group: str, number: int) -> str:
        """What it becomes in one process; the host's name stays as it is."""
        if "host_node_name" in self.expansion:
            return self.expansion
        return self.expansion % {"program_name": program, "group_name": group, "process_num": number}


# Text that arrives in the process as it is here, but for its live pieces.
Text = str | tuple[str | Live, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """
    One [program:*] section.

    A field is the conf option it becomes; times are whole seconds, sizes are
    bytes.  `extra` holds raw options of the manifest that have no field here.
    """

    name: str
    group: str  # the group that it belongs to; the program's own name if there is no [group:*]
    command: Text
    process_name: Text
    numprocs: int
    numprocs_start: int = 0
    directory: str
    user: str | None = None
    environment: Mapping[str, Text] = field(default_factory=dict)
    autostart: str = "true"
    autorestart: str = "true"
    startsecs: int = 1
    startretries: int = 10
    exitcodes: str = "0"
    stopsignal: str = "TERM"
    stopwaitsecs: int
    stopasgroup: bool = False
    killasgroup: bool = True
    redirect_stderr: str = "true"
    stdout_logfile: Text
    stdout_logfile_maxbytes: int
    stdout_logfile_backups: int
    extra: Mapping[str, Text] = field(default_factory=dict)

    def numbers(self) -> range:
        """The process numbers of this program."""
        return range(self.numprocs_start, self.numprocs_start + self.numprocs)

    def text(self, value: Text, number: int) -> str:
        """A text as process *number* gets it."""
        pieces = (value,) if isinstance(value, str) else value
        return "".join(p if isinstance(p, str) else p.value(self.name, self.group, number) for p in pieces)

    def log_files(self) -> tuple[str, ...]:
        """Every log file that its processes write; supervisord wants their folders to exist."""
        chosen = [self.stdout_logfile, self.extra.get("stderr_logfile", "")]
        files = (self.text(value, number) for number in self.numbers() for value in chosen)
        return tuple(dict.fromkeys(file for file in files if file.startswith("/")))
