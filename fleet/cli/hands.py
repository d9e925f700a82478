"""What keys of the live screen do beyond the screen: read texts, pause, and run fleet itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.cli.status import Eyes
    from fleet.manifest import Manifest

_LOG_LINES = 300
_SINCE = 3600.0
_FEW = 3  # lines that fit into one
_LONGEST = 600.0  # seconds that a command may take


class Hands:
    """`fleet.dashboard.live.Hands` for one manifest."""

    def __init__(self, manifest: Manifest, eyes: Eyes) -> None:
        self._manifest = manifest
        self._eyes = eyes

    def read(self, verb: str, name: str) -> tuple[str, list[str]]:
        return self._why(name) if verb == "why" else self._logs(name)

    def act(self, verb: str, words: tuple[str, ...]) -> tuple[str, list[str]]:
        if verb == "run":
            return self._run(words)
        from fleet.cli.queue import UNTIL_RESUMED, hold, let_go

        queue, name = self._eyes.queue, words[0]
        if queue is None:
            return "the queue does not answer: nothing was changed", []
        queue_name = self._manifest.pipelines[name].queue_name
        if verb == "pause":
            hold(self._manifest, queue, [queue_name], UNTIL_RESUMED)
            return f"paused {name} until resumed: p resumes it", []
        let_go(self._manifest, queue, [queue_name])
        return f"resumed {name}", []

    def _why(self, name: str) -> tuple[str, list[str]]:
        from fleet.cli.why import examine
        from fleet.dashboard.why import lines

        snapshot = self._eyes.look(None)
        evidence, findings = examine(self._manifest, self._eyes.queue, snapshot, name, _SINCE)
        return f"fleet why {name}", lines(evidence, findings)

    def _logs(self, name: str) -> tuple[str, list[str]]:
        from fleet.cli.logs import log_files
        from fleet.supervisor.logfile import last_lines

        files = log_files(self._manifest, [name])
        each = max(20, _LOG_LINES // max(len(files), 1))
        found = []
        for process, path in files.items():
            tail = last_lines(path, each)
            found += [f"{process}  {line}" if len(files) > 1 else line for line in reversed(tail)]
        return f"fleet logs {name}   the newest line first", found or ["no log lines yet"]

    def _run(self, words: tuple[str, ...]) -> tuple[str, list[str]]:
        """Run `fleet` with these words, as a person would; its output when it failed."""
        from fleet.dashboard.panes import command_text

        fleet = [sys.executable, "-m", "fleet", "--manifest", str(self._manifest.path), "--plain", *words]
        try:
            done = subprocess.run(
                fleet,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="backslashreplace",
                timeout=_LONGEST,
                cwd=Path.cwd(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{command_text(words)}: still not done after {_LONGEST / 60:.0f} minutes", []
        if done.returncode:
            text = (done.stdout + done.stderr).strip().splitlines()
            return f"{command_text(words)}: exit {done.returncode}", text
        text = [" ".join(line.split()) for line in done.stdout.strip().splitlines()]
        said = text if len(text) <= _FEW else text[-1:]  # of a line for each process the last is the sum
        return f"✔ {' · '.join(said) or command_text(words)}", []
