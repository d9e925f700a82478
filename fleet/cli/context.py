"""What every command needs: the global options, and the doors to manifest, queue and supervisord."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.manifest import Manifest
    from fleet.queue.queue import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The global options: flag, then FLEET_… variable, then default."""

    manifest: str | None = None
    env: str | None = None
    json: bool = False
    plain: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False
    color: str = "auto"  # auto always never
    ascii: bool = False


_settings = Settings()


def settings() -> Settings:
    return _settings


def use(new: Settings) -> None:
    """Set the options of this run; called once by the entry point."""
    global _settings
    _settings = new


def load_manifest() -> Manifest:
    """
    The manifest of this run: --manifest, $FLEET_MANIFEST, ./fleet.toml and upward, /etc/fleet/fleet.toml.

    Raises:
        ManifestError: not found, or not usable.
    """
    from fleet.manifest import find, load

    chosen = _settings.manifest or os.environ.get("FLEET_MANIFEST")
    manifest = load(find(chosen), env=_settings.env or os.environ.get("FLEET_ENV"))
    _check_dsn(manifest)
    return manifest


def _check_dsn(manifest: Manifest) -> None:
    """The queue knows its own addresses: one that nobody can open must not reach a single worker."""
    from fleet.errors import DsnError
    from fleet.manifest import codes
    from fleet.queue.backends import check_dsn

    try:
        check_dsn(manifest.queue.dsn)
    except DsnError as error:
        path = ("queue", "dsn")
        raise manifest.source.error([manifest.source.problem(codes.WRONG_VALUE, path, str(error))]) from None


def open_queue(manifest: Manifest, *, patience: int | None = None, looks: bool = False) -> Queue:
    """
    The queue that the manifest names, its password read from the secret source.

    With *patience* a server that is away, or hangs, is given up after so many seconds,
    unless the DSN has a word of its own about it.  One that *looks* makes
    nothing, be it a table, a file or a folder.

    Raises:
        NoTables: it looks, and there is nothing to look into yet.
    """
    from fleet.manifest.dsn import is_sqlite
    from fleet.manifest.secrets import dsn_with_password
    from fleet.queue import connect
    from fleet.queue.schema import migrate

    dsn = dsn_with_password(manifest)
    if patience and not is_sqlite(dsn) and "connect_timeout=" not in dsn:
        dsn += f"{'&' if '?' in dsn else '?'}connect_timeout={patience}"
    if not looks:
        make_state_dir(manifest)
        return connect(dsn)
    queue = connect(dsn, create=False)
    try:
        if queue.capabilities.tables:
            info = queue.info()
            migrate.check(info.schema_found, info.location)
    except BaseException:
        queue.close()
        raise
    return queue


def make_state_dir(manifest: Manifest) -> None:
    """The folder of the embedded queue, which may be used before the first `fleet up`."""
    if manifest.queue.dsn.startswith(f"sqlite:///{manifest.state_dir}/"):
        manifest.state_dir.mkdir(mode=0o700, exist_ok=True)
