"""fleet check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.errors import Problem
    from fleet.manifest import Manifest


def check(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too")] = False,
    no_import: Annotated[bool, typer.Option("--no-import", help="Do not try to import the handlers")] = False,
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Say what a setting is and where it is set")
    ] = "",
) -> None:
    """
    Every problem in the manifest, with its place and what to do.

    fleet check
    fleet check --strict --no-import
    fleet check --explain pipelines.emails.numprocs

    Handlers are imported in a child process, with the pipeline's interpreter,
    directory and environment, for 10 seconds at most.
    """
    from fleet.cli.context import load_manifest
    from fleet.errors import ManifestError
    from fleet.manifest import imports, machine
    from fleet.manifest.source import ordered

    try:
        manifest = load_manifest()
    except ManifestError as error:
        _tell(error.path, error.problems, "")
        raise typer.Exit(error.exit_code) from None
    if explain:
        _explain(manifest, explain)
        return
    found: list[Problem] = [*manifest.warnings, *machine.problems(manifest)]
    if not no_import:
        found += imports.problems(manifest)
    problems = ordered(found, manifest.source)
    _tell(manifest.source.base.name, problems, _summary(manifest))
    if any(strict or not problem.is_warning for problem in problems):
        raise typer.Exit(ManifestError.exit_code)


def _tell(path: str, problems: Sequence[Problem], summary: str) -> None:
    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.manifest import report

    if settings().json:
        output.document({"schema": "fleet.check/1", "problems": report.as_json(path, problems)})
        return
    for line in report.format_each(path, problems, colour=output.colour()):
        output.say(line)
    if problems:
        output.say(report.count(problems))
    elif not settings().quiet:
        output.say(summary)


def _summary(manifest: Manifest) -> str:
    pipelines = manifest.pipelines.values()
    processes = sum(pipeline.numprocs for pipeline in pipelines)
    return f"{manifest.source.base.name} is good: pipelines {len(pipelines)}, processes {processes}"


def _explain(manifest: Manifest, key: str) -> None:
    from difflib import get_close_matches

    from fleet.cli import output
    from fleet.cli.context import settings
    from fleet.manifest import explain, report

    found = explain.explain(manifest, key)
    if found is None:
        parts = key.split(".")
        near = get_close_matches(parts[1], manifest.pipelines, n=1) if len(parts) > 1 else []
        hint = f" Did you mean pipelines.{near[0]}?" if near and near[0] != parts[1] else ""
        raise typer.BadParameter(f"no key {key!r}; write it as pipelines.NAME.KEY or queue.KEY.{hint}")
    if settings().json:
        output.document(
            {
                "schema": "fleet.explain/1",
                "key": found.key,
                "value": found.value,
                "places": list(found.places),
            }
        )
        return
    output.say(report.shown(f"{found.key} = {found.value}"))
    for i, place in enumerate(found.places):
        output.say(report.shown(f"  {'over' if i else 'from'}  {place}"))
    if not found.places:
        output.say("  a default")
