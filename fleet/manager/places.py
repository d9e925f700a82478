"""Where a manifest's processes run: a private supervisord beside it, or the one that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleet.supervisor import private
from fleet.supervisor.client import DaemonState, Supervisor
from fleet.supervisor.private import Home

if TYPE_CHECKING:
    from fleet.manifest import Manifest

# Seconds for one answer of a supervisord that was found: two for the list of 2,000 processes, and several
# times as long on a busy machine.
PATIENCE = 60.0

# Distributions put supervisord.conf here, in the order in which supervisord looks.
_MAIN_CONFS = ("/etc/supervisord.conf", "/etc/supervisor/supervisord.conf", "/usr/local/etc/supervisord.conf")


class Password(Protocol):
    """A secret that is read when it is needed, and not before."""

    def read(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    A supervisord and the folder of files that it includes.

    `home` is set for a private one, which fleet starts and ends.  Of another
    one it uses the calls that concern its own groups, and no others.
    """

    url: str
    conf_dir: Path
    main_conf: Path
    home: Home | None = None
    username: str | None = None
    password: Password | None = None

    @property
    def private(self) -> bool:
        return self.home is not None

    def client(self, timeout: float = PATIENCE) -> Supervisor:
        """A client of it; *timeout* is seconds for each call."""
        password = self.password.read() if self.password is not None else None
        return Supervisor(self.url, self.username, password, timeout)

    def find(self) -> DaemonState | None:
        """
        The daemon that answers here; None when a private one does not run.

        Raises:
            SupervisorUnavailable: a supervisord that others manage does not answer.
        """
        return private.find(self.home) if self.home is not None else self.client(timeout=5.0).state()


def place_of(manifest: Manifest) -> Place:
    """The place that *manifest* asks for.  Touches nothing."""
    named = manifest.supervisor
    if named is None:
        home = private.home(manifest.state_dir)
        return Place(url=home.url, conf_dir=home.conf_dir, main_conf=home.main_conf, home=home)
    return Place(
        url=named.url,
        conf_dir=named.conf_dir,
        main_conf=next((path for path in map(Path, _MAIN_CONFS) if path.exists()), Path(_MAIN_CONFS[0])),
        username=named.username,
        password=named.password,
    )
