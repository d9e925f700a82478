"""supervisord's own parser, in a child process that a property test can ask thousands of times."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.supervisord import python_with

_CHILD = r"""
import json, sys
from supervisor import datatypes
from supervisor.options import ServerOptions

answers, sys.stdout = sys.stdout, sys.stderr

class Reader(ServerOptions):
    def usage(self, message):
        raise ValueError(str(message))

def plain(config):
    found = {}
    for name, value in vars(config).items():
        if value is datatypes.Automatic:
            value = "AUTO"
        elif value is datatypes.RestartUnconditionally:
            value = "true"
        elif value is datatypes.RestartWhenExitUnexpected:
            value = "unexpected"
        if name != "options":
            found[name] = value
    return found

for line in sys.stdin:
    try:
        reader = Reader()
        reader.realize(["-c", json.loads(line)])
        answer = {g.name: [plain(p) for p in g.process_configs] for g in reader.process_group_configs}
        names = ("minfds", "nodaemon", "strip_ansi", "logfile", "pidfile", "user")
        main = {n: getattr(reader, n) for n in names}
        servers = [{"file": c["file"], "chmod": c["chmod"]} for c in reader.server_configs]
        answer = {"groups": answer, "main": main, "servers": servers, "warnings": reader.parse_warnings}
    except BaseException as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
"""

MAIN = "[supervisord]\nlogfile={dir}/main.log\npidfile={dir}/main.pid\n[include]\nfiles=conf.d/*.conf\n"


class Reader:
    """One version of supervisord, reading conf files as its daemon would."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.folder = folder
        (folder / "conf.d").mkdir(parents=True, exist_ok=True)
        self.main = folder / "supervisord.conf"
        self.main.write_text(MAIN.format(dir=folder))
        self._child = subprocess.Popen(
            [python_with(version), "-X", "utf8", "-W", "ignore", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={"PATH": os.environ["PATH"], "SECRET": "leaked"},
        )

    def close(self) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(timeout=30)

    def read_main(self, path: Path) -> dict[str, Any]:
        """A main file and all that it includes."""
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(json.dumps(str(path)) + "\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer

    def read(self, *confs: str) -> dict[str, list[dict[str, Any]]]:
        """The processes of each group in *confs*, which lie in an included folder."""
        folder = self.folder / "conf.d"
        for old in folder.iterdir():
            old.unlink()
        for i, text in enumerate(confs):
            (folder / f"{i:04}.conf").write_text(text, encoding="utf-8", newline="")
        answer = self.read_main(self.main)
        assert "error" not in answer, f"supervisord {self.version}: {answer['error']}"
        groups: dict[str, list[dict[str, Any]]] = answer["groups"]
        return groups
