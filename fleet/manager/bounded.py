"""
A template of one's own has an end: it is rendered in a child process, under limits of the kernel.

The sandbox of jinja2 forbids a range of billions, but not a loop in a loop or
9 ** 9 ** 9, which is one step of the interpreter and lets no handler run.  The
limit counts processor time, so that a busy machine fails nobody.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from typing import cast

from fleet.errors import RenderError

SECONDS = 2.0  # of processor time, for one file
MEMORY = 1 << 30  # bytes of addresses; fleet itself takes a fifth


def within_limits(work: Callable[[], dict[str, str]], where: str) -> dict[str, str]:
    """
    What *work* returns, which is called in a child process.

    Raises:
        RenderError: its own, or it came to no end; *where* names the culprit.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    with open(reader, encoding="ascii") as answers:
        answer = answers.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGPROF:
        raise RenderError(
            f"{where}: rendering one file took more than {SECONDS:g} s and was ended. "
            "Look for a loop in a loop, or over a long range, and for very large numbers."
        )
    if code:
        raise RenderError(f"{where}: rendering ended with {code}")
    files, error = json.loads(answer)
    if error is not None:
        raise RenderError(error)
    return cast(dict[str, str], files)


def begin_file() -> None:
    """Start to count for the next file; the kernel ends this process when its time is over."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)


def _answer(work: Callable[[], dict[str, str]], writer: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY or hard > MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        begin_file()
        try:
            answer: list[object] = [work(), None]
        except RenderError as error:
            answer = [None, str(error)]
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(writer, "w", encoding="ascii") as answers:
            json.dump(answer, answers)
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is flushed or ended here
