"""
The commands: one table, the help that is made from it, and the one place where a run begins and ends.

What needs typer is in `tree.py`, which is imported when a command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.cli import context, options


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the table.  The module is imported when the command runs or its help is shown."""

    name: str  # as typed: "status", or "jobs put" for a command in a group
    panel: str  # one of PANELS
    target: str  # "module:function", the module below fleet.cli
    summary: str  # at most 60 characters


PANELS = ("look", "run", "jobs", "deploy", "system")

COMMANDS = (
    Command("status", "look", "status:status", "Pipelines, processes and jobs; live on a terminal"),
    Command("why", "look", "why:why", "Why a pipeline is as it is, and what to type"),
    Command("logs", "look", "logs:logs", "Log lines of any processes, also as they come"),
    Command("events", "look", "events:events", "What was done here, by whom, and when"),
    Command("up", "run", "up:up", "Start everything that the manifest asks for"),
    Command("down", "run", "up:down", "Stop everything; nothing is left running"),
    Command("start", "run", "control:start", "Start a pipeline or single processes"),
    Command("stop", "run", "control:stop", "Stop after the job in hand"),
    Command("restart", "run", "control:restart", "Stop after the job in hand, then start again"),
    Command("scale", "run", "scale:scale", "More or fewer processes, and nobody restarts"),
    Command("work", "run", "work:work", "Run a pipeline's handler in this terminal"),
    Command("pause", "run", "queue:pause", "Hand out no jobs of a pipeline for a while"),
    Command("resume", "run", "queue:resume", "End a pause"),
    Command("jobs list", "jobs", "jobs:list_", "Jobs of a pipeline in one state"),
    Command("jobs show", "jobs", "jobs:show_", "One job: state, reason, payload"),
    Command("jobs put", "jobs", "jobs_put:put", "Add jobs: one, or a line each from stdin"),
    Command("jobs kick", "jobs", "jobs_change:kick", "Make buried jobs ready again, with new attempts"),
    Command("jobs release", "jobs", "jobs_change:release", "Make delayed jobs ready now, and lost ones"),
    Command("jobs bury", "jobs", "jobs_change:bury", "Put waiting jobs aside, with a reason"),
    Command("jobs move", "jobs", "jobs_change:move", "Put jobs into another pipeline, as they are"),
    Command("jobs delete", "jobs", "jobs_delete:delete", "Delete jobs for good"),
    Command("jobs export", "jobs", "jobs_export:export", "Write jobs as one JSON object a line"),
    Command("init", "deploy", "init:init", "A first fleet.toml, also from what runs already"),
    Command("check", "deploy", "check:check", "Every problem in the manifest, with its place"),
    Command("render", "deploy", "render:render", "The supervisord files that the manifest means"),
    Command("plan", "deploy", "plan:plan", "What apply would do: who starts, drains, stays"),
    Command("apply", "deploy", "apply:apply", "Carry out the plan; put it back if it fails"),
    Command("rollback", "deploy", "apply:rollback", "Go back to an earlier revision"),
    Command("doctor", "system", "doctor:doctor", "What would go wrong here, and what mends it"),
    Command("queue info", "system", "queue:info", "Server, schema version, durability"),
    Command("queue purge", "system", "jobs_delete:purge", "Delete old jobs of one state"),
    Command("queue migrate", "system", "queue:migrate", "Create or update the queue's tables"),
    Command("import", "system", "import_:import_", "Bring jobs over from another library"),
    Command("demo", "system", "demo:demo", "Real jobs through real workers, and the proof"),
    Command("schema", "system", "schema:schema", "JSON schema of the manifest, or of status --json"),
    Command(
        "completion", "system", "completion:completion", "What bash, zsh or fish needs to complete words"
    ),
    Command("version", "system", "version:version", "Versions of fleet and what it stands on"),
)

GROUPS = {
    "jobs": "Look at jobs, add them, move them",
    "queue": "The queue's server and tables",
}

# What people type who come from other tools, or guess.
HINTS = {
    "retry": "fleet jobs kick",
    "kick": "fleet jobs kick",
    "requeue": "fleet jobs kick",
    "release": "fleet jobs release",
    "bury": "fleet jobs bury",
    "move": "fleet jobs move",
    "delete": "fleet jobs delete",
    "purge": "fleet queue purge",
    "failed": "fleet jobs list PIPELINE --state buried",
    "errors": "fleet status, or fleet jobs list PIPELINE --state buried",
    "export": "fleet jobs export",
    "put": "fleet jobs put",
    "enqueue": "fleet jobs put",
    "push": "fleet jobs put",
    "list": "fleet jobs list, or fleet status",
    "ps": "fleet status --procs",
    "top": "fleet status",
    "dashboard": "fleet status",
    "ls": "fleet status --once",
    "info": "fleet status --once, or fleet queue info",
    "monitor": "fleet status",
    "validate": "fleet check",
    "lint": "fleet check",
    "update": "fleet apply",
    "deploy": "fleet plan, then fleet apply",
    "worker": "fleet work",
    "run": "fleet up, or fleet work",
    "tail": "fleet logs -f",
    "migrate": "fleet queue migrate",
    "config": "fleet check, or fleet render",
    "generate": "fleet render",
    "jobs retry": "fleet jobs kick",
    "jobs add": "fleet jobs put",
    "jobs rm": "fleet jobs delete",
    "jobs ls": "fleet jobs list",
    "jobs get": "fleet jobs show",
    "jobs peek": "fleet jobs list, or fleet jobs show",
    "jobs count": "fleet status --once",
    "jobs import": "fleet jobs put PIPELINE - < exported.jsonl",
    "jobs promote": "fleet jobs release",
    "jobs run": "fleet jobs release, or fleet work PIPELINE --once",
    "jobs hold": "fleet jobs bury",
    "jobs cancel": "fleet jobs bury, or fleet jobs delete",
    "jobs mv": "fleet jobs move",
    "jobs discard": "fleet jobs delete",
    "jobs remove": "fleet jobs delete",
    "jobs purge": "fleet queue purge, or fleet jobs delete",
}

EXAMPLES = (
    ("fleet status", "what runs, what waits, what fails"),
    ("fleet render -o conf.d", "supervisord files from fleet.toml"),
    ("""fleet jobs put emails '{"n": 1}'""", "one job for the pipeline emails"),
)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every error ends here."""
    _never_fail_to_print()
    words = sys.argv[1:] if argv is None else argv
    try:
        if words[:1] == ["__complete"]:
            from fleet.cli.complete import answer

            return answer(words[1:])
        settings, rest = options.hoist(words, os.environ)
        context.use(settings)
        code = _carry_out(rest)
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe shows here, where it is handled
        return code
    except (Exception, KeyboardInterrupt) as error:
        from fleet.cli import failure

        return failure.report(error)


def _carry_out(words: list[str]) -> int:
    if words in ([], ["-h"], ["--help"]):  # what people type first needs no library
        print(root_help().rstrip("\n") if words else short_help())
        return 0
    from fleet.cli.tree import tree

    root = tree()
    with root.make_context("fleet", ["version"] if words == ["--version"] else words) as ctx:
        code = root.invoke(ctx)
    return code if isinstance(code, int) else 0


def short_help() -> str:
    """What `fleet` alone prints: a screen that fits anywhere."""
    import textwrap

    lines = ["fleet: background workers under supervisord, and the jobs they do", ""]
    lines += _examples()
    for panel in PANELS:
        names = [c.name for c in COMMANDS if c.panel == panel]
        if names:
            indent = " " * 10
            lines.append(
                textwrap.fill(", ".join(names), 80, initial_indent=f"  {panel:8}", subsequent_indent=indent)
            )
    return "\n".join([*lines, "", "fleet -h tells more; fleet COMMAND -h tells all."])


def root_help() -> str:
    lines = ["Usage: fleet [OPTIONS] COMMAND …", ""]
    lines += ["  Background workers under supervisord, and the jobs they do.", ""]
    lines += _examples()
    for panel in PANELS:
        rows = [c for c in COMMANDS if c.panel == panel]
        if rows:
            lines += [f"{panel}:", *(f"  {c.name:16}{c.summary}" for c in rows), ""]
    shorts = {long: f"{short}, " for short, long in options.SHORT.items()}
    lines.append("options, before or after the command:")
    for name, (_, metavar, text) in options.VALUES.items():
        lines.append(f"  {shorts.get(name, '    ')}{name + ' ' + metavar:18}{text}")
    for name, (_, text) in options.FLAGS.items():
        lines.append(f"  {shorts.get(name, '    ')}{name:18}{text}")
    lines.append(f"  {'-h, --help':22}this text, or that of a command")
    return "\n".join([*lines, "", "The manifest, the queue and every exit code are explained in docs/.", ""])


def group_help(prefix: str) -> str:
    lines = [f"Usage: fleet {prefix}COMMAND …", "", f"  {GROUPS[prefix.strip()]}.", ""]
    lines += [f"  {c.name.removeprefix(prefix):16}{c.summary}" for c in COMMANDS if c.name.startswith(prefix)]
    return "\n".join([*lines, "", f"fleet {prefix}COMMAND -h tells all.", ""])


def _examples() -> list[str]:
    wide = max(len(line) for line, _ in EXAMPLES)
    return [*(f"  {line:{wide}}  {what}" for line, what in EXAMPLES), ""]


def _never_fail_to_print() -> None:
    """A terminal that cannot show a character gets an escape, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
