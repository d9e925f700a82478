"""What supervisord is asked for: everything, or many processes by their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.dashboard.sources import ask_supervisord
from fleet.manager.places import Place, place_of
from fleet.manifest import Manifest, load
from fleet.supervisor import private
from tests.supervisord import private_home

MANIFEST = """\
version = 1
project = "shop"
[pipelines.emails]
command = "sleep 1000"
numprocs = 150
room = 100
"""

CONF = """\
[program:{group}]
command=sleep 1000
numprocs={numprocs}
process_name=%(program_name)s_%(process_num)02d
autostart=false
"""
EMAILS = CONF.format(group="shop-emails", numprocs=250)
STRANGER = "[program:redis]\ncommand=sleep 1000\nautostart=false\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    return load(tmp_path / "fleet.toml")


@pytest.fixture
def place(manifest: Manifest, tmp_path: Path) -> Iterator[Place]:
    with private_home(tmp_path, {"shop.conf": EMAILS, "redis.conf": STRANGER}) as home:
        private.start(home)
        yield place_of(manifest)


def groups(manifest: Manifest, place: Place) -> dict[str, int]:
    """How many processes of each group were told of."""
    source, asked = ask_supervisord(manifest, place, "here", 0.0, 0.0, None)
    assert source.ok, source.error
    return {group: len(found) for group, found in asked.groups.items()}


def test_many_processes_are_asked_for_by_name(manifest: Manifest, place: Place) -> None:
    """Those of others are not even listed.  Whatever is not as the manifest has it is seen all the same."""
    assert groups(manifest, place) == {"shop-emails": 250}
    conf = place.conf_dir / "shop.conf"
    for text, found in (
        (CONF.format(group="shop-emails", numprocs=251), {"shop-emails": 251, "redis": 1}),
        (CONF.format(group="shop-emails", numprocs=249), {"shop-emails": 249, "redis": 1}),
        (
            EMAILS + CONF.format(group="shop-emails~new", numprocs=2),
            {"shop-emails": 250, "shop-emails~new": 2, "redis": 1},
        ),
    ):
        conf.write_text(text)
        client = place.client()
        changes = client.reload_config()
        client.remove_groups(changes.changed)
        client.add_groups((*changes.changed, *changes.added))
        assert groups(manifest, place) == found
