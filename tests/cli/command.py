"""The command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FLEET = (sys.executable, "-m", "fleet")


def fleet(
    *words: str, folder: Path | None = None, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it as a script would: no terminal, a quiet environment."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "FORCE_"))}
    return subprocess.run(
        [*FLEET, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        input=stdin,
        env={**quiet, **env},
        check=False,
    )
