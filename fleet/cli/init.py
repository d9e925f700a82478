"""fleet init: a first fleet.toml, from nothing or from what runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="further files for --from-supervisor")
    ] = None,
    from_supervisor: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="programs of these files of supervisord")
    ] = None,
    from_procfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the lines of a Procfile")
    ] = None,
) -> None:
    """
    Write fleet.toml here, with comments.

    Files that it reads stay as they are.  What it had to guess stands in the
    new file above the pipeline, and on the screen.

      fleet init
      fleet init --from-supervisor /etc/supervisor/conf.d/*.conf
      fleet init --from-procfile Procfile
    """
    from fleet.cli import confirm, output
    from fleet.cli.context import settings
    from fleet.errors import Refused
    from fleet.manifest import draft, edit

    if from_procfile and (from_supervisor or more):
        raise typer.BadParameter("choose one of --from-supervisor and --from-procfile")
    if more and not from_supervisor:
        raise typer.BadParameter(f"{more[0]}: say what it is: --from-supervisor or --from-procfile")
    target = Path(settings().manifest or "fleet.toml").absolute()
    if target.exists():
        raise Refused(f"{target} exists. Nothing was changed; move it away, or write another: -m FILE")
    confirm.free()
    if not (from_supervisor or from_procfile):
        edit.write(target, draft.FIRST)
        output.say(f"wrote    {target.name} (1 pipeline, comments say what can be set)")
        handler = target.with_name("jobs.py")
        if not handler.exists():
            edit.write(handler, draft.HANDLER)
            output.say("wrote    jobs.py (the handler of its pipeline)")
        output.note("""next     fleet up, then: fleet jobs put hello '{"name": "Ada"}'""")
        return
    _adopt(target, [*(from_supervisor or []), *(more or [])], from_procfile)


def _adopt(target: Path, confs: list[Path], procfile: Path | None) -> None:
    from fleet.cli import output
    from fleet.dashboard.text import show
    from fleet.errors import ManifestError, Refused
    from fleet.manifest import adopt, build, draft, edit, load

    found = []
    for path in confs or [procfile or Path()]:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise typer.BadParameter(f"{path}: {reason}") from error
        one = adopt.from_procfile(text) if procfile else adopt.from_supervisor(path.absolute(), text)
        found.append(one)
        output.say(f"read     {show(path.name)}: {_count(len(one.drafts), 'program')}")
        for reason in one.left:
            output.say(f"left     {show(reason)}")
    drafts = adopt.all_names(each for one in found for each in one.drafts)
    if not drafts:
        raise Refused("there is no program in it. Nothing was written.")
    source = ", ".join(path.name for path in (confs or [procfile or Path()]))
    folder = confs[0].absolute().parent if confs else Path()
    # Files of the system's supervisord: it is to run the new ones, too.
    system = (build.DEFAULT_URL, str(folder)) if folder.is_relative_to("/etc") else None
    text = draft.text_of(drafts, source=source, supervisor=system)
    edit.write(target, text)
    lines = len(text.splitlines())
    output.say(f"wrote    {target.name} ({_count(len(drafts), 'pipeline')}, {lines} lines)")
    for each in drafts:
        for guess in each.guesses:
            output.say(f"guessed  {show(each.name)}: {show(guess)}")
    kept = show(source)
    output.say(
        f"kept     {kept} {'is' if len(confs) <= 1 else 'are'} as before: stop the old programs yourself"
    )
    try:
        load(target)
    except ManifestError as error:
        output.warn(f"fleet check finds {_count(len(error.problems), 'problem')} in it: mend them there")
    output.note("next     edit it, then: fleet check && fleet doctor && fleet plan")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
