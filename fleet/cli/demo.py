"""fleet demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DIR = Path(".fleet/demo")


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the demo lives; the next one wipes it.")
    ] = _DIR,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SEC", min=0, max=3600, help="Spread the jobs over so long (60 on a terminal, else 0)."
        ),
    ] = None,
) -> int:
    """
    Real jobs through real workers, on SQLite and a private supervisord.

    On a terminal it opens the dashboard: q leaves it, the workers go on.
    Elsewhere it works to the end, proves every result, prints a table, stops
    all that it started, and ends with 7 if anything does not add up.

      fleet demo
      fleet demo --seconds 300
      fleet demo | cat
    """
    from fleet.cli import demo_run

    return demo_run.run(directory, seconds)
