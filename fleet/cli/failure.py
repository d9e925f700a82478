"""One error handler: any exception becomes text on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from difflib import get_close_matches

import typer

from fleet.cli import options, output
from fleet.cli.confirm import NOTHING
from fleet.cli.context import settings
from fleet.dashboard.text import show
from fleet.errors import FleetError, ManifestError, Refused, limit_hit

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # the world's fault, not ours
_PLANNED = ("apply", "up", "rollback")
_WRONG_USAGE = 2  # found before anything is done
INTERRUPTED = 130  # 128 + SIGINT
PIPE_CLOSED = 141  # 128 + SIGPIPE: what `git log | head` ends with


def report(error: BaseException) -> int:
    """
    Say on stderr what went wrong, in one style, and return the exit code.

    An exception that fleet did not raise on purpose is a bug: one line and the
    path of a saved traceback, or the traceback itself with -v.
    """
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        _say("\n".join(["interrupted", *_notes(error)]))
        return INTERRUPTED
    if isinstance(error, typer.Abort | EOFError):  # a question that got no answer
        _say(f"\n{NOTHING}")
        # typer turns Ctrl-C and Ctrl-D at a question into the same exception.
        return INTERRUPTED if isinstance(error.__context__, KeyboardInterrupt) else Refused.exit_code
    if isinstance(error, BrokenPipeError):
        _leave_pipe()
        return PIPE_CLOSED
    if isinstance(error, ManifestError):
        from fleet.manifest.report import format_problems

        _say("\n".join([format_problems(error, colour=output.colour(sys.stderr)), *_notes(error)]))
        return error.exit_code
    if isinstance(error, FleetError):
        _error("\n".join([str(error), *_notes(error)]))
        if error.exit_code == _WRONG_USAGE:
            _say(NOTHING)
        if settings().verbose:
            _say("".join(traceback.format_exception(error)))
        return error.exit_code
    if isinstance(error, typer.TyperException):  # wrong usage; typer has no public name for it
        message = error.format_message().removeprefix("Invalid value: ")
        message = re.sub(r"is not a valid int( range)?\.$", "is not a whole number.", message)
        context = getattr(error, "ctx", None)
        option = getattr(error, "option_name", "")
        if option == "--dry-run" and context is not None and context.info_name in _PLANNED:
            message += ". That is: fleet plan"
        elif not getattr(error, "possibilities", None):
            message += _near_option(option)
        _error(message)
        see = f" See: {context.command_path} -h" if context is not None else ""
        _say(f"{NOTHING}{see}")
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _DISK:
        _error(f"cannot write: {error.strerror}")
        return 1
    if limit := limit_hit(error):
        _error(f"{limit}. Raise the limit and run it again.")
        return 1
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        _error("\n".join([_no_permission(error.filename), *_notes(error)]))
        return Refused.exit_code
    return _bug(error)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _no_permission(path: str) -> str:
    """Another user's fleet, most often: says whose."""
    from pathlib import Path

    from fleet.supervisor.transport import owner_and_mode

    seen = (at for at in (Path(path), *Path(path).parents) if owner_and_mode(at) != "not readable")
    where = next(seen, Path("/"))  # the last one that this user can see is the one that keeps it out
    return f"{path}: permission denied ({where}: {owner_and_mode(where)}). Run fleet as the user whose it is."


def _near_option(name: str) -> str:
    """A hint for a global option that was misspelt; typer knows only the command's own."""
    near = get_close_matches(name, [*options.FLAGS, *options.VALUES], n=1)
    return f". Did you mean: {near[0]}" if near else ""


def _error(message: str) -> None:
    first, *more = message.splitlines() or ["unknown error"]
    _say(f"{output.paint('fleet: error:', 'bold red', sys.stderr)} {show(first)}")
    for line in more:
        _say(show(line))


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr)


def _bug(error: BaseException) -> int:
    import tempfile

    text = "".join(traceback.format_exception(error))
    if settings().verbose:
        _say(text)
        return 1
    what = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
    try:
        handle, path = tempfile.mkstemp(prefix="fleet-error-", suffix=".txt")  # mode 0600
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        _error(f"{what} (run it again with -v for the traceback)")
    else:
        _error(f"{what} (a bug; the traceback is in {path})")
    return 1


def _leave_pipe() -> None:
    """Point stdout at nothing, so that the flush at exit does not fail once more."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
