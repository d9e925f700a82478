"""Noticing that supervisord is gone, also from behind a wrapper script."""

from __future__ import annotations

import os
import select
import stat

_DEEPEST = 8  # wrappers between a worker and supervisord, at most


class Parentage:
    """
    The processes between this one and supervisord, as they were at the start.

    A process whose parent dies is handed to another one, so a changed link
    means that supervisord, or a wrapper below it, is gone.  (PR_SET_PDEATHSIG
    would tell the same of the parent alone, by a signal that cannot be told
    from supervisord's own SIGTERM.)
    """

    def __init__(self, *, supervised: bool) -> None:
        links = _links_to_supervisord() if supervised else {}
        self._links = {os.getpid(): os.getppid()} if links is None else links
        # It may have died while we were starting: then no link will ever change.
        self._unseen = links is None

    def is_broken(self) -> bool:
        return any(_parent(pid) != parent for pid, parent in self._links.items()) or (
            self._unseen and _stdin_is_hung_up()
        )


def _links_to_supervisord() -> dict[int, int] | None:
    """Each process up to supervisord with its parent; None when supervisord is not among them."""
    links: dict[int, int] = {}
    pid = os.getpid()
    for _ in range(_DEEPEST):
        parent = _parent(pid)
        if not parent:
            break
        links[pid] = pid = parent
        if _is_supervisord(pid):
            return links
    return None


def _stdin_is_hung_up() -> bool:
    """Whether stdin is a pipe, as supervisord makes it, and nobody holds its other end any more."""
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode):
            return False
        poll = select.poll()
        poll.register(0, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))
    except OSError:
        return False


def _parent(pid: int) -> int:
    """0 when there is none, or the system does not tell."""
    if pid == os.getpid():
        return os.getppid()
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # "pid (name) state ppid …", and the name may hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _is_supervisord(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")[:5]
    except OSError:
        return False
    # `python -X utf8 -m supervisor.supervisord`, or a program of that name.
    return b"supervisor.supervisord" in words or any(
        b"supervisord" in word.rpartition(b"/")[2] for word in words[:4]
    )
