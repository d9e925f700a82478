"""Real workers in a private supervisord, each the only process of a program of its name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fleet.supervisor.private import Home

_HANDLERS = Path(__file__).parent / "worker"


def add_worker(home: Home, folder: Path, name: str, handler: str, **changes: Any) -> None:
    """One of a function of tests/worker/handlers.py, on the pipeline *name* of `queue.db` in *folder*."""
    spec = {
        "schema": "fleet.worker/1",
        "pipeline": name,
        "queue_name": name,
        "queue": {"dsn": f"sqlite:///{folder}/queue.db"},
        "handler": f"handlers:{handler}",
        "directory": str(folder),
        "path": [str(_HANDLERS)],
        "startsecs": 0,
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(spec))
    (home.conf_dir / f"{name}.conf").write_text(
        f"[program:{name}]\ncommand={sys.executable} -m fleet.worker.main {folder}/{name}.json\n"
        "stopwaitsecs=20\nkillasgroup=true\nredirect_stderr=true\n"
        f"stdout_logfile={home.state_dir}/logs/{name}.log\n"
    )
