"""
Runs in a child process: reads an include set as supervisord would, and prints it as JSON.

`parser` starts this file by its path, with any interpreter that has supervisor
installed, so it imports nothing of fleet.  It speaks JSON on both ends:

    stdin   {"main": PATH, "overlay": {PATH: TEXT or null}, "environ": {NAME: VALUE}}
    stdout  {"files": […], "groups": […], "error": TEXT or null}

The overlay shows what would be true after files were written (or, with null,
removed), so that a whole set can be tried before a byte of it changes.  Code
that the configuration names (rpc interfaces, event listeners) is not imported.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import os
import runpy
import sys
from glob import glob
from pathlib import Path
from typing import Any


def main() -> None:
    request = json.load(sys.stdin)
    # ServerOptions takes %(ENV_X)s from here: the daemon's environment, not the caller's.
    os.environ.clear()
    os.environ.update(request["environ"])
    with contextlib.redirect_stdout(sys.stderr):
        answer = read(request["main"], request["overlay"])
    json.dump(answer, sys.stdout)


def read(main_conf: str, overlay: dict[str, str | None]) -> dict[str, Any]:
    from supervisor import options

    files: list[dict[str, Any]] = []
    plain = options.UnhosedConfigParser
    linear = runpy.run_path(str(Path(__file__).with_name("linear.py")))["Parser"]

    class Parser(linear):  # type: ignore[misc, valid-type]
        """Reads through the overlay, and notes which file holds which section."""

        def read_file(self, source: Any, name: str | None = None) -> None:
            super().read_file(source, name)
            files.append(_file(main_conf, self))  # included ones come through alone()

        def alone(self, filename: str, **_: Any) -> Any:
            try:
                text = _text(filename, overlay)
            except OSError as error:
                # supervisord skips such a file without a word, and then takes its groups for removed.
                files.append(
                    {"path": filename, "sections": [], "problem": f"cannot be read: {error.strerror}"}
                )
                return None
            except UnicodeDecodeError:
                raise ValueError(f"{filename!r} is not UTF-8 text") from None
            files.append({"path": filename, "sections": [], "problem": None})  # also when it breaks below
            found = plain()
            found.read_string(text, filename)
            files[-1] = _file(filename, found)
            return found

    class Reader(options.ServerOptions):  # type: ignore[misc]
        def usage(self, message: object) -> None:
            raise ValueError(str(message))

        def exists(self, path: str) -> bool:
            return path in overlay or Path(path).exists()

        def open(self, path: str, _mode: str = "r") -> Any:
            return _Named(_text(path, overlay), path)

        def get_plugins(self, *_: Any) -> list[Any]:
            return []

        def import_spec(self, _: str) -> Any:
            return main

    class Glob:
        @staticmethod
        def glob(pattern: str) -> list[str]:
            found = {path for path in glob(pattern) if overlay.get(path, "") is not None}  # noqa: PTH207  (supervisord's own call)
            return sorted(
                found | {path for path, text in overlay.items() if text is not None and _match(path, pattern)}
            )

    options.UnhosedConfigParser = Parser  # this process lives for one reading only
    options.glob = Glob
    reader = Reader()
    try:
        reader.realize(["-c", main_conf])
    except (Exception, SystemExit) as error:
        return {"files": files, "groups": [], "error": str(error) or type(error).__name__}
    return {
        "files": files,
        "groups": [_group(group) for group in reader.process_group_configs],
        "error": None,
    }


class _Named(io.StringIO):
    """supervisord finds the folder of relative include patterns by the `name` of the open main file."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def _text(path: str, overlay: dict[str, str | None]) -> str:
    text = overlay.get(path)
    if text is not None:
        return text
    with open(path, encoding="utf-8") as source:
        return source.read()


def _match(path: str, pattern: str) -> bool:
    """As glob does: part by part, and a leading dot only by a leading dot."""
    parts, patterns = path.split("/"), os.path.normpath(pattern).split("/")
    return len(parts) == len(patterns) and all(
        fnmatch.fnmatchcase(part, wanted) and (not part.startswith(".") or wanted.startswith("."))
        for part, wanted in zip(parts, patterns, strict=True)
    )


def _file(path: str, parser: Any) -> dict[str, Any]:
    return {
        "path": path,
        "sections": parser.sections() + ["DEFAULT"] * bool(parser.defaults()),
        "problem": None,
    }


def _group(group: Any) -> dict[str, Any]:
    return {
        "name": group.name,
        "priority": group.priority,
        "processes": [_process(config) for config in group.process_configs],
    }


_PLAIN = (
    "name",
    "command",
    "directory",
    "uid",
    "umask",
    "priority",
    "autostart",
    "startsecs",
    "startretries",
    "exitcodes",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "redirect_stderr",
    "environment",
    "stdout_logfile_maxbytes",
    "stdout_logfile_backups",
    "stdout_syslog",
    "stderr_logfile_maxbytes",
    "stderr_logfile_backups",
    "stderr_syslog",
)


def _process(config: Any) -> dict[str, Any]:
    from supervisor import datatypes

    values = {name: getattr(config, name) for name in _PLAIN}
    for name in ("stdout_logfile", "stderr_logfile"):
        path = getattr(config, name)
        values[name] = "AUTO" if path is datatypes.Automatic else path
    values["stopsignal"] = int(config.stopsignal)
    values["autorestart"] = {
        datatypes.RestartUnconditionally: "true",
        datatypes.RestartWhenExitUnexpected: "unexpected",
    }.get(config.autorestart, "false")
    return values


if __name__ == "__main__":
    main()
