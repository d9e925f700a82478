"""fleet render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.manager.plan import Group
    from fleet.manifest import Manifest

DIFFERENT = 10  # `--check` found differences; 2 would look like wrong usage


def render(
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR|-", help="Write the files there")] = "-",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 10 if files differ")] = False,
    templates: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Templates to use before fleet's own")
    ] = None,
) -> None:
    """
    The supervisord files that the manifest means.

    fleet render
    fleet render -o /etc/supervisor/conf.d
    fleet render --check

    One .conf a pipeline, and beside it the spec that its workers read.  In DIR,
    files that are the same stay untouched, and files of this project whose
    pipeline is gone are removed.  --check compares with DIR, or with the folder
    that supervisord reads.
    """
    from fleet.cli import output
    from fleet.cli.context import load_manifest, settings
    from fleet.manager import plan
    from fleet.manager.desired import worker_path
    from fleet.manager.places import place_of
    from fleet.manager.render import render as render_files

    manifest = load_manifest()
    folder = None if out == "-" else Path(out).absolute()
    conf_dir = place_of(manifest).conf_dir
    if folder is not None and manifest.supervisor is None:
        conf_dir = (
            folder  # for a supervisord that fleet does not know: workers find their specs where we write
        )
    groups = plan.programs(manifest, conf_dir=conf_dir, worker=worker_path())
    rendered = render_files(groups, manifest, templates=templates)
    for warning in manifest.warnings:
        output.warn(f"{warning.code} {warning.message}")
    if check:
        _compare(folder or conf_dir, rendered, manifest)
    elif folder is not None:
        _write(folder, rendered, groups, manifest)
        _tell_missing_folders(groups)
    elif settings().json:
        output.document({"schema": "fleet.render/1", "files": rendered})
    else:
        for i, (name, text) in enumerate(rendered.items()):
            output.say(f"{'' if not i else chr(10)}==> {name} <==\n{text.rstrip(chr(10))}")


def _compare(folder: Path, rendered: Mapping[str, str], manifest: Manifest) -> None:
    from difflib import unified_diff

    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.manager import files

    there: Mapping[str, str] = {}
    if folder.is_dir():
        with files.opened(folder, private=True) as opened:
            there = opened.ours(manifest.project)
    write, remove = files.changes(rendered, there)
    if settings().json:
        output.document({"schema": "fleet.render/1", "write": list(write), "remove": list(remove)})
    else:
        for name in (*write, *remove):
            what = "-" if name in remove else "~" if name in there else "+"
            output.say(f"{what} {name}")
            if settings().verbose:
                old, new = there.get(name, ""), rendered.get(name, "")
                diff = unified_diff(old.splitlines(), new.splitlines(), "there", "rendered", lineterm="", n=1)
                for line in diff:
                    output.say(f"    {line}")
    if write or remove:
        raise typer.Exit(DIFFERENT)


def _write(folder: Path, rendered: Mapping[str, str], groups: tuple[Group, ...], manifest: Manifest) -> None:
    import os

    from fleet.cli import output
    from fleet.manager import files

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make the folder {folder}: {error.strerror}") from error
    owners = {group.spec_name: group.pipeline.user for group in groups}
    with files.opened(folder, private=True) as opened:
        there = opened.ours(manifest.project)
        write, remove = files.changes(rendered, there)
        for name in write:
            opened.check_may_write(name, manifest.project)
        for name in write:
            gid = _group_of(owners.get(name))
            access = files.access_to(name, rendered[name], gid, is_root=os.geteuid() == 0)
            opened.write(name, rendered[name], access)
        for name in remove:
            opened.remove(name)
        opened.sync()
    same = len(rendered) - len(write)
    output.note(f"{folder}: {len(write)} written, {len(remove)} removed, {same} unchanged")


def _group_of(user: str | None) -> int | None:
    """The group of a user, to whom a worker spec is handed over; None for ourselves or somebody unknown."""
    import os
    import pwd

    from fleet.manifest.machine import user_id

    uid = None if user is None else user_id(user)
    return None if uid is None or uid == os.geteuid() else pwd.getpwuid(uid).pw_gid


def _tell_missing_folders(groups: tuple[Group, ...]) -> None:
    """supervisord refuses everything when the folder of one log file is missing."""
    from fleet.cli import output

    folders = {Path(file).parent for group in groups for file in group.log_files()}
    missing = sorted(str(folder) for folder in folders if not folder.is_dir())
    if missing:
        output.warn(f"supervisord wants the folders of its logs to exist: mkdir -p {' '.join(missing)}")
