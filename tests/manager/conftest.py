"""Fixtures of the manager's tests: both supervisords' parsers, and manifests made from a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.manager.plan import Group, programs
from fleet.manager.render import render
from fleet.manifest import Manifest, load
from tests.manager.reading import Reader
from tests.supervisord import VERSIONS

Make = Callable[..., Manifest]


@pytest.fixture(scope="session", params=VERSIONS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """supervisord's own parser, each of the supported versions in turn."""
    made = Reader(request.param, tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A manifest from TOML text, in an empty folder that has a place for logs."""

    def made(text: str, **environ: str) -> Manifest:
        (tmp_path / "logs").mkdir(exist_ok=True)
        path = tmp_path / "fleet.toml"
        path.write_text('[defaults]\nlogs = { dir = "logs" }\n' + text)
        return load(path, environ=environ)

    return made


def planned(manifest: Manifest) -> tuple[Group, ...]:
    return programs(manifest, conf_dir=Path("/etc/conf.d"), worker="/opt/bin/fleet-worker")


def rendered(manifest: Manifest) -> dict[str, str]:
    return render(planned(manifest), manifest)


def confs(manifest: Manifest) -> list[str]:
    return [text for name, text in rendered(manifest).items() if name.endswith(".conf")]
