"""Fixtures of the manifest's tests: a file from a few lines, and its problems as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import ManifestError, Problem
from fleet.manifest import Manifest, load
from fleet.manifest.report import format_problems

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """fleet.toml (or another file) with a text, in the current folder, so that it is shown by its name."""
    monkeypatch.chdir(tmp_path)

    def made(text: str, name: str = "fleet.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return made


def loaded(path: Path, env: str | None = None, **environ: str) -> Manifest:
    return load(path, env=env, environ=environ)


def problems(path: Path, env: str | None = None, **environ: str) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        load(path, env=env, environ=environ)
    assert caught.value.exit_code == 4
    return caught.value.problems


def report(path: Path, env: str | None = None, **environ: str) -> str:
    with pytest.raises(ManifestError) as caught:
        load(path, env=env, environ=environ)
    return format_problems(caught.value)
