"""
fleet.toml to a Manifest, or every problem at once with line and column.

`load` brings pydantic into memory, and only when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fleet.manifest.source import find
from fleet.manifest.values import Manifest, Pipeline

__all__ = ["Manifest", "Pipeline", "find", "load"]


def load(
    path: str | Path,
    env: str | None = None,
    environ: Mapping[str, str] = os.environ,
    host: str | None = None,
) -> Manifest:
    """
    Read the manifest at *path*, with the overlay of *env* over it.

    Raises:
        ManifestError: with every problem found.
    """
    from fleet.manifest.loading import load as load_now

    return load_now(path, env, environ, host)
