"""Findings as text for people: place first, one line to see, one thing to do."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.errors import ManifestError, Problem
from fleet.manifest.dsn import hidden

_RED, _YELLOW, _DIM, _OFF = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_WIDEST = 160  # columns of a source line that are shown


def format_problems(error: ManifestError, source: str | None = None, *, colour: bool = False) -> str:
    """
    Every problem of *error* with its line underlined, and a count at the end.

    *source* is the manifest's text, for problems that do not carry their line.
    """
    problems = error.problems
    return "\n".join([*format_each(error.path, problems, source, colour=colour), count(problems)])


def format_each(
    path: str, problems: Iterable[Problem], source: str | None = None, *, colour: bool = False
) -> list[str]:
    """The lines of the problems alone."""
    listed = tuple(problems)
    places = [place(path, problem) for problem in listed]
    wide = min(max((len(p) for p in places), default=0), 40)
    lines = []
    for where, problem in zip(places, listed, strict=True):
        tint = (_YELLOW if problem.is_warning else _RED) if colour else ""
        code = f"{tint}{problem.code}{_OFF if tint else ''}"
        lines.append(f"{where:<{wide}}  {code} {shown(hidden(problem.message))}")
        lines += _excerpt(problem, source, tint)
    return lines


def count(problems: Iterable[Problem]) -> str:
    """ "5 errors, 1 warning" """
    listed = tuple(problems)
    warnings = sum(problem.is_warning for problem in listed)
    parts = []
    for number, noun in ((len(listed) - warnings, "error"), (warnings, "warning")):
        if number:
            parts.append(f"{number} {noun}{'s' if number > 1 else ''}")
    return ", ".join(parts) or "no problems"


def place(path: str, problem: Problem) -> str:
    """file:line:col, as far as it is known."""
    file = shown(problem.file or path)
    return f"{file}:{problem.line}:{problem.column}" if problem.line else file


def as_json(path: str, problems: Iterable[Problem]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            "code": problem.code,
            "severity": "warning" if problem.is_warning else "error",
            "file": problem.file or path,
            "line": problem.line or None,
            "column": problem.column or None,
            "key": problem.key,
            "message": hidden(problem.message),
            "hint": problem.hint,
        }
        for problem in problems
    ]


def shown(text: str) -> str:
    """*text* without anything that could steer a terminal; a tab is a blank."""
    return "".join(
        c if c.isprintable() else " " if c == "\t" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def _excerpt(problem: Problem, source: str | None, tint: str) -> list[str]:
    text = problem.text
    if not text and source is not None and problem.line:
        lines = source.split("\n")
        text = lines[problem.line - 1] if problem.line <= len(lines) else ""
    if not text.strip():
        return [f"   {problem.hint}"] if problem.hint else []
    # Escapes and a hidden password change widths, so the underline is measured on what is shown.
    start = len(shown(hidden(text[: problem.column - 1])))
    end = len(shown(hidden(text[: problem.column - 1 + problem.width])))
    line = shown(hidden(text))
    gutter = f"{problem.line:>5} │ "
    out = [f"{gutter}{line[:_WIDEST]}{'…' if len(line) > _WIDEST else ''}"]
    if start < _WIDEST:
        marks = "^" * max(min(end, _WIDEST) - start, 1)
        paint, off = (tint, _OFF) if tint else ("", "")
        out.append(f"{' ' * 5} │ {' ' * start}{paint}{marks}{off} {shown(problem.hint)}".rstrip())
    elif problem.hint:
        out.append(f"{' ' * 5} │ {shown(problem.hint)}")
    return out
