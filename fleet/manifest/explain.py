"""Where a setting comes from: which file and line, or a default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path as FilePath
from typing import Any

from fleet.manifest.dsn import hidden
from fleet.manifest.positions import Path
from fleet.manifest.values import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    key: str
    value: str  # as JSON
    places: tuple[str, ...]  # "fleet.toml:24:1  numprocs = 4", the one that holds first; none: a default


def explain(manifest: Manifest, key: str) -> Explanation | None:
    """What *key*, such as "pipelines.emails.numprocs", is and why; None if there is no such key."""
    path = _path(manifest, key)
    value: Any = manifest
    for part in path:
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, str(part))
        except (KeyError, AttributeError):
            return None
    if callable(value):
        return None
    return Explanation(key=key, value=hidden(_json(value)), places=_places(manifest, path))


def _path(manifest: Manifest, key: str) -> Path:
    """*key* in parts; a pipeline's name may hold dots itself."""
    for name in sorted(manifest.pipelines, key=len, reverse=True):
        start = f"pipelines.{name}"
        if key == start:
            return ("pipelines", name)
        if key.startswith(f"{start}."):
            return ("pipelines", name, *key.removeprefix(f"{start}.").split("."))
    return tuple(key.split("."))


def _places(manifest: Manifest, path: Path) -> tuple[str, ...]:
    candidates = [path]
    if path[:1] == ("pipelines",) and len(path) > 2:
        candidates.append(("defaults", *path[2:]))
    places = []
    for candidate in candidates:
        for layer in reversed(manifest.source.layers):
            span = layer.index.spans.get(candidate)
            if span is not None:
                line, column = layer.index.place(span.key)
                text = " ".join(layer.index.line(line).split())
                places.append(f"{layer.name}:{line}:{column}  {hidden(text)}")
    return tuple(places)


def _json(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, FilePath):
            return str(item)
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        return dict(item) if isinstance(item, Mapping) else str(item)

    return json.dumps(value, default=plain, ensure_ascii=False)
