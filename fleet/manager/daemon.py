"""What apply needs to know of a supervisord, and of the files that it starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from fleet.errors import RenderError
from fleet.manager import files
from fleet.manager.actions import Shape, shape
from fleet.manager.desired import Desired
from fleet.manager.files import Access
from fleet.manager.places import Place
from fleet.supervisor import pids, private
from fleet.supervisor.client import DaemonState
from fleet.supervisor.parser import IncludeSet
from fleet.supervisor.private import Home


def check(found: IncludeSet, place: Place, desired: Desired) -> dict[str, Shape]:
    """The shape of each group that is asked for, or why the set cannot be used."""
    problems = list(found.problems())
    missing = [group for group in desired.groups if group not in found.groups]
    if not problems and missing:
        problems.append(
            f"{found.files[0].path} does not include {place.conf_dir}: "
            f"add {place.conf_dir}/*.conf to [include] files there, and restart that supervisord once"
        )
    if problems:
        raise refused(problems)
    return {group: shape(found.groups[group]) for group in desired.groups}


def refused(problems: Iterable[str]) -> RenderError:
    return RenderError(
        "supervisord would not take these files:\n" + "\n".join(problems) + "\nNothing was changed."
    )


def environ(place: Place, running: DaemonState | None) -> Mapping[str, str] | None:
    """What %(ENV_X)s means to the daemon; with one that we cannot look into, what it means to us."""
    if place.private:
        return private.clean_environ()
    return (pids.environ(running.pid) if running and running.pid else None) or None


def write_main_conf(home: Home, text: str) -> str | None:
    """Write it if it differs; returns what was there before then."""
    with files.opened(home.state_dir, private=True) as folder:
        before = folder.read(home.main_conf.name)
        if before == text:
            return None
        folder.write(home.main_conf.name, text, Access(mode=0o600))
        folder.sync()
        return before


@contextmanager
def without_groups(home: Home) -> Iterator[None]:
    """A supervisord that starts in here includes nothing yet; its first reload does."""
    with files.opened(home.state_dir, private=True) as folder:
        text = folder.read(home.main_conf.name) or ""
    # supervisord passes over a section that it does not know.
    write_main_conf(home, text.replace("\n[include]\n", "\n[include-later]\n"))
    try:
        yield
    finally:
        write_main_conf(home, text)


def room_for(place: Place, daemon: DaemonState, open_files: int) -> tuple[str, ...]:
    if not place.private or daemon.pid is None:
        return ()
    limit = pids.raise_open_files(daemon.pid, open_files)
    if limit >= open_files:
        return ()
    return (
        f"supervisord may open {limit:,} files, and all processes together may need {open_files:,}: "
        f"some would not start. Raise the hard limit (ulimit -Hn) and run `fleet down` and `fleet up`.",
    )
