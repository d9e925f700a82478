"""
Whether this machine can run the manifest: findings, each with the command that mends it.

Looks at files, folders and processes, and changes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shlex import quote

from fleet.errors import FleetError, ManifestError, RenderError, SupervisorError
from fleet.manager import files, holes, world
from fleet.manager.daemon import environ
from fleet.manager.desired import desired
from fleet.manager.places import Place
from fleet.manager.plan import programs
from fleet.manifest import Manifest, imports, machine
from fleet.manifest.values import STOP_MARGIN
from fleet.supervisor import parser, pids
from fleet.supervisor.client import DaemonState
from fleet.supervisor.transport import owner_and_mode
from fleet.units import format_duration, parse_duration, short_size

_LOW_DISK = 500_000_000  # bytes
_UNITS = ("supervisor.service", "supervisord.service")


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    what: str  # one word: the thing that was looked at
    level: Level
    text: str
    mend: tuple[str, ...] = ()  # commands, or lines for a file


def examine(manifest: Manifest, place: Place) -> Iterator[Finding]:
    """Everything but the queue, which this room knows nothing about."""
    yield from _manifest(manifest)
    daemon, found = _daemon(place)
    yield from found
    yield from _conf_dir(place)
    yield from _includes(place, daemon)
    yield from _log_folders(manifest, place)
    yield from _disk(manifest)
    yield from _stop_time(manifest, place)
    yield from _libraries()
    yield from _orphans(manifest, place, daemon)
    yield from _drift(manifest, place, daemon)


def _manifest(manifest: Manifest) -> Iterator[Finding]:
    problems = [*manifest.warnings, *machine.problems(manifest), *imports.problems(manifest)]
    for problem in problems:
        level = Level.WARNING if problem.is_warning else Level.BAD
        hint = (problem.hint,) if problem.hint else ()
        yield Finding(what="manifest", level=level, text=f"{problem.code} {problem.message}", mend=hint)
    if not problems:
        text = f"{manifest.path.name}, {_count(len(manifest.pipelines), 'pipeline')}"
        yield Finding(what="manifest", level=Level.OK, text=text)


def _daemon(place: Place) -> tuple[DaemonState | None, list[Finding]]:
    try:
        daemon = place.find()
    except (FleetError, OSError) as error:
        return None, [_unreachable(place, error)]
    if daemon is None:
        text = "a private one, and it does not run: fleet up starts it"
        return None, [Finding(what="supervisord", level=Level.OK, text=text)]
    return daemon, [
        Finding(what="supervisord", level=Level.OK, text=f"{daemon.version}, pid {daemon.pid}, {place.url}")
    ]


def _unreachable(place: Place, error: Exception) -> Finding:
    mend: tuple[str, ...] = ()
    path = Path(place.url.removeprefix("unix://"))
    if place.url.startswith("unix://") and _exists(path) and not os.access(path, os.R_OK | os.W_OK):
        group = _own_group()
        mend = (
            f"sudo chgrp {group} {quote(str(path))} && sudo chmod 0770 {quote(str(path))}",
            f"for good: chmod=0770 and chown=root:{group} under [unix_http_server] in {place.main_conf}",
        )
        text = f"{path}: permission denied ({owner_and_mode(path)})"
        return Finding(what="socket", level=Level.BAD, text=text, mend=mend)
    if not place.private and place.url.startswith("unix://") and not _exists(path):
        mend = ("sudo systemctl start supervisor",)
    return Finding(what="supervisord", level=Level.BAD, text=str(error), mend=mend)


def _conf_dir(place: Place) -> Iterator[Finding]:
    path = place.conf_dir
    if place.private and not _exists(path):
        return
    make = f"sudo install -d -o {_own_user()} {quote(str(path))}"
    try:
        with files.opened(path, private=place.private):
            pass
    except FleetError as error:
        mend = (make,) if not _exists(path) else ()
        yield Finding(what="conf_dir", level=Level.BAD, text=str(error), mend=mend)
        return
    if os.access(path, os.W_OK | os.X_OK):
        yield Finding(what="conf_dir", level=Level.OK, text=str(path))
    else:
        text = f"{path} is not writable for {_own_user()} ({owner_and_mode(path)})"
        yield Finding(what="conf_dir", level=Level.BAD, text=text, mend=(make, "or run fleet with sudo"))


def _includes(place: Place, daemon: DaemonState | None) -> Iterator[Finding]:
    """The whole include set, and programs in it that make trouble for everybody."""
    main = (pids.main_conf(daemon.pid) if daemon and daemon.pid else None) or place.main_conf
    if not _exists(main):
        if not place.private and daemon is not None:  # its command line is what names the file
            yield Finding(
                what="includes",
                level=Level.BAD,
                text=f"{main} does not exist, and the command line of supervisord names no other",
                mend=("start it with an absolute path: supervisord -c /etc/supervisor/supervisord.conf",),
            )
        return
    if not os.access(main, os.R_OK):
        yield Finding(what="includes", level=Level.WARNING, text=f"{main} cannot be read by {_own_user()}")
        return
    try:
        found = parser.read(main, environ=environ(place, daemon))
    except SupervisorError as error:
        yield Finding(what="includes", level=Level.BAD, text=str(error))
        return
    problems = found.problems()
    for problem in problems:
        yield Finding(what="includes", level=Level.BAD, text=problem)
    if not problems:
        yield Finding(what="includes", level=Level.OK, text=_count(len(found.files), "file"))
    spinning = [
        group
        for group, processes in found.groups.items()
        if any(p.startsecs == 0 and p.autorestart != "false" for p in processes)
    ]
    if spinning:
        yield Finding(
            what="startsecs",
            level=Level.WARNING,
            text=f"{', '.join(spinning[:5])}: with startsecs=0 a program that dies at once is restarted "
            "without a pause, and supervisord answers nobody meanwhile",
            mend=("startsecs=1 in its section, then: supervisorctl update",),
        )


def _log_folders(manifest: Manifest, place: Place) -> Iterator[Finding]:
    try:
        groups = programs(manifest, conf_dir=place.conf_dir, worker="fleet-worker")
    except (ManifestError, RenderError) as error:
        yield Finding(what="manifest", level=Level.BAD, text=str(error))
        return
    folders = sorted({Path(file).parent for group in groups for file in group.log_files()})
    bad = 0
    for folder in folders:
        there = next((path for path in [folder, *folder.parents] if _exists(path)), Path("/"))
        if not place.private and folder.is_dir():
            continue  # supervisord opens the files in it, with its own rights
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            bad += 1
            mend = (f"sudo install -d -o {_own_user()} {quote(str(folder))}",) if not place.private else ()
            text = f"{folder} cannot be written ({there}: {owner_and_mode(there)})"
            yield Finding(what="logs", level=Level.BAD, text=text, mend=mend)
    if folders and not bad:
        yield Finding(what="logs", level=Level.OK, text=", ".join(map(str, folders[:3])))


def _disk(manifest: Manifest) -> Iterator[Finding]:
    """Space for what the logs may grow to, and for the queue beside them."""
    worst: dict[Path, int] = {}
    for pipeline in manifest.pipelines.values():
        one = pipeline.logs.max_size * (pipeline.logs.keep + 1)
        folder = _existing(pipeline.logs.dir)
        worst[folder] = worst.get(folder, 0) + one * pipeline.numprocs
    for folder, most in sorted(worst.items()):
        free = shutil.disk_usage(folder).free
        if free < _LOW_DISK:
            text = f"{folder}: {short_size(free)} are free"
            yield Finding(what="disk", level=Level.BAD, text=text, mend=(f"df -h {quote(str(folder))}",))
        elif free < most:
            text = f"{folder}: {short_size(free)} are free, and full logs would take {short_size(most)}"
            mend = 'logs = { max_size = "5MB", keep = 3 } in [defaults]'
            yield Finding(what="disk", level=Level.WARNING, text=text, mend=(mend,))
        else:
            yield Finding(what="disk", level=Level.OK, text=f"{folder}: {short_size(free)} are free")


def _stop_time(manifest: Manifest, place: Place) -> Iterator[Finding]:
    """systemd kills what is left when its own time for the service is over."""
    if place.private or not Path("/run/systemd/system").is_dir():
        return
    longest = max((p.stop.grace + STOP_MARGIN for p in manifest.pipelines.values()), default=0.0)
    for unit in _UNITS:
        limit = _stop_limit(unit)
        if limit is None:
            continue
        if limit < longest:
            text = (
                f"{unit} has {format_duration(limit)} to stop, and the longest drain is "
                f"{format_duration(longest)}: a reboot would cut jobs"
            )
            mend = (
                f"sudo systemctl edit {unit}",
                f"[Service]  TimeoutStopSec={int(longest) + 30}",
            )
            yield Finding(what="service", level=Level.WARNING, text=text, mend=mend)
        else:
            yield Finding(what="service", level=Level.OK, text=f"{unit} has time for the longest drain")


def _stop_limit(unit: str) -> float | None:
    """Seconds; None when there is no such unit, or no limit."""
    try:
        done = subprocess.run(
            ["systemctl", "show", unit, "--property=LoadState,TimeoutStopUSec"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        values = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        if values.get("LoadState") != "loaded":
            return None
        return parse_duration(values.get("TimeoutStopUSec", "").replace("min", "m").replace(" ", ""))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _libraries() -> Iterator[Finding]:
    """SQLite and the servers are the queue's to judge, and a running supervisord its client's."""
    open_holes = list(holes.found())
    for hole, here in open_holes:
        text = f"{hole.library} {here}: {hole.what} ({hole.source})"
        mend = f'{quote(sys.executable)} -m pip install "{hole.library}>={hole.fixed}"'
        yield Finding(what="libraries", level=Level.BAD, text=text, mend=(mend,))
    if not open_holes:
        names = ", ".join(dict.fromkeys(hole.library for hole in holes.KNOWN))
        yield Finding(
            what="libraries", level=Level.OK, text=f"{names}: none of the few holes on fleet's list"
        )


def _orphans(manifest: Manifest, place: Place, daemon: DaemonState | None) -> Iterator[Finding]:
    """Workers of ours that no supervisord looks after: left behind when one was killed."""
    known: set[int] = set()
    asked = daemon is not None and daemon.state != "SHUTDOWN"
    if asked:
        try:
            known = {p.pid for p in place.client().processes() if p.pid is not None}
        except SupervisorError:
            return
    groups = {pipeline.group for pipeline in manifest.pipelines.values()}
    left = [pid for pid in pids.of_groups(groups, place.url) if pid not in known]
    if not asked:  # one that lives and does not let us in looks after its own
        left = [pid for pid in left if not pids.is_supervised(pid)]
    if left:
        text = (
            f"{_count(len(left), 'process')} of an earlier supervisord: pid {', '.join(map(str, left[:8]))}"
        )
        mend = f"kill -TERM {' '.join(map(str, left[:8]))}"
        yield Finding(what="orphans", level=Level.BAD, text=text, mend=(mend,))
    else:
        yield Finding(what="orphans", level=Level.OK, text="none")


def _drift(manifest: Manifest, place: Place, daemon: DaemonState | None) -> Iterator[Finding]:
    if daemon is None:
        return
    try:
        found = world.plan(place, desired(manifest, place))
    except (FleetError, OSError):
        return  # told above, at what makes it impossible
    if found.is_nothing:
        yield Finding(what="drift", level=Level.OK, text="what runs is what the manifest asks for")
    else:
        steps = [step.pipeline for step in found.steps if not step.is_nothing]
        text = f"what runs is not what the manifest asks for: {', '.join(steps[:5])}"
        yield Finding(what="drift", level=Level.WARNING, text=text, mend=("fleet plan && fleet apply",))


def _exists(path: Path) -> bool:
    """As far as this user can see; pathlib raises where it may not look, and somebody is to be told that."""
    return os.path.exists(path)  # noqa: PTH110


def _existing(path: Path) -> Path:
    return next((folder for folder in [path, *path.parents] if _exists(folder)), Path("/"))


def _own_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _own_group() -> str:
    import grp

    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
