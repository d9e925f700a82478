"""Fixtures of the bad inputs: one fleet at work for a whole run, which nothing here may change."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.cli.app import run
from fleet.manager.stop import down
from fleet.supervisor import private
from tests.badinput.world import World


@pytest.fixture(scope="session")
def fleet_at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fleet itself.  Tests ask for `world`, which proves that they left it alone."""
    tmp_path_factory.getbasetemp()  # made before a test moves the folder for temporary files into the world
    # A short path: the socket must lie beside the manifest, where the photograph looks for it.
    with tempfile.TemporaryDirectory(prefix="fleet-bad-") as folder:
        world = World(Path(folder))
        try:
            assert run(["-m", str(world.manifest), "-q", "up"]) == 0
            world.fill()
            yield world
        finally:
            down(private.home(world.root / ".fleet"), now=True)


@pytest.fixture
def world(fleet_at_work: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """
    The fleet at work, with its folder as the current one.

    Whatever the test does: files, pids, supervisord's configuration and the
    jobs are the same afterwards, and the manifest is the good one again.
    """
    for name in ("FLEET_MANIFEST", "FLEET_ENV", "FLEET_HOST", "FLEET_DSN", "FORCE_COLOR", "FLEET_READ_ONLY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(fleet_at_work.root)
    monkeypatch.setattr(tempfile, "tempdir", str(fleet_at_work.tmp))
    good = fleet_at_work.manifest.read_bytes()
    before = fleet_at_work.photograph()
    yield fleet_at_work
    monkeypatch.undo()
    fleet_at_work.manifest.unlink(missing_ok=True)
    fleet_at_work.manifest.write_bytes(good)
    assert before.differs_in(fleet_at_work.photograph()) == []
