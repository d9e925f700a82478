"""fleet work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.manifest import Manifest, Pipeline
    from fleet.worker.spec import WorkerSpec


def work(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline with a handler")],
    once: Annotated[
        bool, typer.Option("--once", help="Leave after one job, or at once if none is ready")
    ] = False,
    payload: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="Run the handler on this; nothing is queued"),
    ] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help="Open the debugger where a job failed")] = False,
    drain: Annotated[bool, typer.Option("--drain", help="Leave when no job is ready")] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a .py file changes")] = False,
) -> None:
    """
    Run a pipeline's handler in this terminal, as its workers do.

      fleet work emails
      fleet work emails --once --payload '{"to": "ada@example.org"}'
      fleet work emails --once --payload @bad.json --pdb
      fleet work emails --reload

    Same handler, retries, leases and timeout as under supervisord; what the
    handler prints comes here.  Ctrl-C leaves after the job in hand, a second
    one gives it back.
    """
    from fleet.cli.context import load_manifest

    if reload:
        from fleet.cli.reload import run_again_on_change

        raise typer.Exit(run_again_on_change(_folder(load_manifest(), pipeline)))
    manifest = load_manifest()
    spec = _prepared(manifest, _with_handler(manifest, pipeline))
    if payload is not None:
        from fleet.cli.trial import run_on_payload

        raise typer.Exit(run_on_payload(spec, _payload(payload), debug=pdb))
    from fleet.cli.context import make_state_dir
    from fleet.cli.trial import run_on_queue

    make_state_dir(manifest)
    run_on_queue(spec, once=once, drain=drain, debug=pdb)


def _with_handler(manifest: Manifest, name: str) -> Pipeline:
    from difflib import get_close_matches

    found = manifest.pipelines.get(name)
    if found is None:
        near = get_close_matches(name, manifest.pipelines, 1)
        hint = (
            f' Did you mean "{near[0]}"?' if near else f" It has {', '.join(manifest.pipelines) or 'none'}."
        )
        raise typer.BadParameter(f'{manifest.path.name} has no pipeline "{name}".{hint}')
    if found.handler is None:
        raise typer.BadParameter(f'pipeline "{name}" runs a command. Run it yourself: {found.command}')
    return found


def _folder(manifest: Manifest, name: str) -> str:
    return str(_with_handler(manifest, name).directory)


def _prepared(manifest: Manifest, pipeline: Pipeline) -> WorkerSpec:
    """The spec that `fleet render` would write, and this process made what it says."""
    import os

    from fleet.cli import output
    from fleet.manager import plan
    from fleet.manager.desired import worker_path
    from fleet.manifest.interpolate import split_process
    from fleet.worker.spec import parse, prepare

    groups = plan.programs(manifest, conf_dir=manifest.state_dir, worker=worker_path())
    spec = parse(next(group.worker_spec for group in groups if group.pipeline is pipeline))
    for name, value in pipeline.environment.items():
        os.environ[name] = "00".join(split_process(value))
    if pipeline.python is not None:
        output.note(f"note: the workers run {pipeline.python}; this is fleet's own Python")
    prepare(spec)
    return spec


def _payload(text: str) -> bytes:
    """JSON as typed, the contents of @FILE, or - for stdin."""
    import sys
    from pathlib import Path

    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{text[1:]}: {error.strerror}") from error
    return text.encode()
