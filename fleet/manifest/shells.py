"""Shells in commands: one that gets the signals of its program, and one that is missing.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath

_SHELLS = frozenset(["sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"])
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_SEPARATOR = re.compile(r"[;&|()]+")
_OPENING = frozenset(["!", "do", "elif", "else", "if", "then", "until", "while", "{"])
_CLOSING = frozenset(["done", "esac", "fi", "}"])
_FLOW = frozenset(["break", "case", "continue", "exit", "for", "return", "wait"])
_QUICK = frozenset([".", ":", "[", "[[", "cd", "echo", "false", "printf", "read", "source", "test", "true"])
_SETTING = frozenset(["export", "set", "shift", "ulimit", "umask", "unset"])
_NO_PROGRAM = _CLOSING | _FLOW | _QUICK | _SETTING
# What only a shell understands; as an argument of a program it has no meaning that anybody would want.
_SYNTAX = re.compile(r"&&|\|\|?|;|&|\d?>>?|<|\d>&\d|&>>?|[\w./:-]+;")
# They hand their arguments to a shell, or end a list of them with ";".
_TAKES_SYNTAX = frozenset(["ssh", "find", "parallel", "tmux"])


def script_of(words: list[str]) -> str | None:
    """What `sh -c …` would run; None when *words* are no such command."""
    if not words or PurePath(words[0]).name not in _SHELLS:
        return None
    for word, following in pairwise(words[1:]):
        if not word.startswith("-"):
            return None
        if not word.startswith("--") and "c" in word:
            return following
    return None


def stays_around(script: str, *, forks: bool) -> bool:
    """
    Whether a shell surely still waits for a program of *script* when a signal comes.

    It then ends by it, and the program never hears of it.  bash becomes the
    last program of a script, others (*forks*) wait for that one, too.  What
    holds substitutions, comments or lines is not judged.
    """
    if any(sign in script for sign in ("$(", "`", "#", "\n")):
        return False
    try:
        lexer = shlex.shlex(script, posix=False, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return False
    firsts = [*_first_words(words)]
    if "exec" in firsts or "trap" in firsts:
        return False
    if _NO_PROGRAM.issuperset(firsts):
        return False
    return forks or "|" in words or firsts[-1] in _NO_PROGRAM


def _first_words(words: list[str]) -> Iterator[str]:
    """The program or builtin of each command."""
    begins = True
    for word in words:
        if _SEPARATOR.fullmatch(word):
            begins = True
        elif begins and word not in _OPENING and not _ASSIGNMENT.fullmatch(word):
            begins = False
            yield word


def syntax_in(command: str) -> str:
    """The first argument in *command* that only a shell would understand; "" without one."""
    try:
        words = shlex.split(command, posix=False)  # quotes stay, and what is quoted is meant
    except ValueError:
        return ""
    if PurePath(words[0]).name in _TAKES_SYNTAX:
        return ""
    return next((word for word in words[1:] if _SYNTAX.fullmatch(word)), "")
