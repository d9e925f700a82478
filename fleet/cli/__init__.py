"""Thin commands: arguments in, library calls, text and exit code out."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The `fleet` command: run *argv* (default: this process's own) and return the exit code."""
    from fleet.cli.app import run

    return run(argv)
