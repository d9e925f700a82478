"""The table of commands as typer commands, each imported when it runs or its help is shown."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from fleet.cli.app import COMMANDS, GROUPS, HINTS, Command, group_help, root_help, short_help


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
