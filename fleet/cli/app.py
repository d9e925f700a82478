"""The command tree: one table, loaded late, and the help that is made from it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from fleet.cli import context, failure, options


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
    try:
        settings, rest = options.hoist(sys.argv[1:] if argv is None else argv, os.environ)
        context.use(settings)
        if rest == ["--version"]:
            rest = ["version"]
        root = tree()
        with root.make_context("fleet", rest) as ctx:
            code = root.invoke(ctx)
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe shows here, where it is handled
        return code if isinstance(code, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        return failure.report(error)


def tree() -> TyperGroup:
    """The root group; nothing below it is imported yet."""
    return _Group("", name="fleet", help="Background workers under supervisord, and the jobs they do.")


class _Command(TyperCommand):
    """A leaf: its docstring is shown as it was written, examples and all."""

    def get_help_option_names(self, ctx: Any) -> list[str]:
        return list(ctx.help_option_names)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        formatter.write("\n")
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        formatter.write("\nGlobal options (-m --env --json --plain -q -v -y …) work here too: fleet -h\n")


class _Group(TyperGroup):
    """The commands below a prefix of the table; "" is the root."""

    def __init__(self, prefix: str, **attrs: Any) -> None:
        super().__init__(
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
            rich_markup_mode=None,
            **attrs,
        )
        self.prefix = prefix

    def get_help_option_names(self, ctx: Any) -> list[str]:
        return list(ctx.help_option_names)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(dict.fromkeys(name for name, _ in self._below()))

    def _below(self) -> Iterator[tuple[str, Command]]:
        """Each table line below this group, with its next word."""
        for command in COMMANDS:
            if command.name.startswith(self.prefix):
                yield command.name.removeprefix(self.prefix).split()[0], command

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        full = self.prefix + cmd_name
        if full in GROUPS:
            return _Group(f"{full} ", name=cmd_name, help=GROUPS[full])
        return next((load(command) for command in COMMANDS if command.name == full), None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in self.list_commands(ctx) and not word.startswith("-"):
            hint = self._hint(word, self.list_commands(ctx))
            ctx.fail(f'no command "{self.prefix}{word}".' + (f" Did you mean: {hint}" if hint else ""))
        return super().resolve_command(ctx, args)

    def _hint(self, word: str, commands: Sequence[str]) -> str:
        """What was meant: a word of another tool, or one that is spelt nearly so."""
        guesses = {
            key.removeprefix(self.prefix): hint for key, hint in HINTS.items() if key.startswith(self.prefix)
        }
        known = {**guesses, **{name: f"fleet {self.prefix}{name}" for name in commands}}
        near = [word] if word in known else get_close_matches(word, known, n=1)
        return known[near[0]] if near else ""

    def invoke(self, ctx: Any) -> Any:
        if not ctx._protected_args:  # the bare group: a reminder, not an error
            typer.echo(short_help() if not self.prefix else self.get_help(ctx))
            return 0
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        formatter.write(group_help(self.prefix) if self.prefix else root_help())


def load(command: Command) -> _Command:
    """Import the command's module and make a typer command of its function."""
    module, _, function = command.target.partition(":")
    callback = getattr(importlib.import_module(f"fleet.cli.{module}"), function)
    info = CommandInfo(
        name=command.name.split()[-1],
        cls=_Command,
        callback=callback,
        context_settings={"help_option_names": ["-h", "--help"]},
        short_help=command.summary,
    )
    made = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    assert isinstance(made, _Command)  # noqa: S101  # typer builds the class that it was given
    return made


def short_help() -> str:
    """What `fleet` alone prints: a screen that fits anywhere."""
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
