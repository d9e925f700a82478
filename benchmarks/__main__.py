"""The one command: ``python -m benchmarks``.  See docs/performance.md."""

from __future__ import annotations

import argparse
import compileall
import os
import signal
import sys
from pathlib import Path

from benchmarks import harness, machine, measures, processes
from benchmarks.arenas import ARENAS, Arena
from benchmarks.harness import Who
from benchmarks.peers.environment import Environment, default_folder
from benchmarks.report import LIMIT, OURS, Problem, Row, Section, document
from tests.servers import NotInstalled

_BACKENDS = [name for name in ARENAS if name != "beanstalkd-default"]
_MEASURES = {**measures.MEASURES, **processes.WORKER}


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders are cleared away
    # As pip leaves an installed package: to compile it anew costs each process 2 MiB and a tenth of a second.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(harness.ROOT / "fleet", quiet=2)
    wanted = options.only or [*_MEASURES, *processes.COMMANDS]
    environment = Environment(options.peers_dir)
    facts = machine.facts(options.runs, options.scale)
    versions: dict[str, str] = {}
    sections = []
    for name in options.backend:
        measures.say(f"{name}:")
        try:
            with ARENAS[name]() as arena:
                sections.append(_section(arena, wanted, options, environment, versions))
        except NotInstalled as missing:
            sections.append(Section(title=name, about=f"Not measured: {missing}.", rows=()))
    rows: list[Row] = []
    for key in wanted:
        if key in processes.COMMANDS:
            rows += processes.COMMANDS[key](options.runs, options.scale)
    if rows:
        sections.append(Section(title="commands", about="Start-up included.", rows=rows))
    facts += [(name, version) for name, version in sorted(versions.items())]
    facts.append(("load at the end", machine.load()))
    text = document(facts, sections)
    if options.output:
        options.output.write_text(text)
    else:
        sys.stdout.write(text)


def _section(
    arena: Arena,
    wanted: list[str],
    options: argparse.Namespace,
    environment: Environment,
    versions: dict[str, str],
) -> Section:
    who = [
        Who(name=OURS, contender="benchmarks.ours:Ours"),
        Who(name=LIMIT, contender=arena.limit, producer=arena.producer),
    ]
    notes = []
    if options.peers and arena.peers:
        measures.say("  installing the peers …")
        environment.install(arena.peers)
        versions |= environment.versions(arena.peers)
        for peer in arena.peers:
            if peer.name in environment.failed:
                notes.append(f"{peer.name} could not be installed: {environment.failed[peer.name]}")
            else:
                python = str(environment.python)
                who.append(Who(name=peer.name, contender=peer.contender, slow=peer.slow, python=python))
    bench = measures.Bench(arena=arena, who=who, runs=options.runs, scale=options.scale)
    rows: list[Row] = []
    for key in wanted:
        if key in _MEASURES:
            try:
                rows += _MEASURES[key](bench)
            except Exception as error:
                # A store that could not be filled must not cost the rows that were measured before it.
                measures.say(f"  {key} failed: {error}")
                rows.append(bench.row(key, key, "", {OURS: Problem(str(error) or type(error).__name__)}))
    return Section(title=arena.name, about=arena.about + ".", rows=rows, notes=notes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fleet beside the raw limit of each server and beside the peers, in one run.",
    )
    every = [*_MEASURES, *processes.COMMANDS]
    parser.add_argument("--backend", default="all", help=f"{', '.join(ARENAS)} or all; several with commas")
    parser.add_argument("--only", default="", help=f"some of {','.join(every)}")
    parser.add_argument("--peers", action="store_true", help="the peers too; installs them at first")
    parser.add_argument("--peers-dir", type=Path, default=default_folder(), help="their environment")
    parser.add_argument("--runs", type=int, default=3, help="of each contender, in turn (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the jobs, such as 0.1")
    parser.add_argument("-o", "--output", type=Path, help="write the report there, not to stdout")
    options = parser.parse_args()
    options.backend = list(ARENAS) if options.backend == "all" else options.backend.split(",")
    options.only = options.only.split(",") if options.only else []
    for name in options.backend:
        if name not in ARENAS:
            parser.error(f"--backend: {name!r} is none of {', '.join(ARENAS)}, all")
    for name in options.only:
        if name not in every:
            parser.error(f"--only: {name!r} is none of {', '.join(every)}")
    if options.runs < 1 or options.scale <= 0:
        parser.error("--runs must be at least 1, and --scale more than 0")
    return options


if __name__ == "__main__":
    main()
