"""supervisord as an object: typed answers, and nothing that waits inside the daemon."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Thread
from typing import Any

from fleet.errors import BadReply, SupervisorError, SupervisorFault
from fleet.supervisor.compact import unpack
from fleet.supervisor.process import Process, process
from fleet.supervisor.transport import Transport, printable

# A multicall is served in one turn of supervisord's loop, and it answers nobody else meanwhile:
# 25 starts take about 0.1 s (a whole group of 1,000 in one call takes 2 s), and fewer on a slow machine.
CHUNK = 25
_FEWEST = 10
_TURN = 0.1  # seconds
# Of one look-up: fewer than 60 names are not worth a connection of their own, and each takes
# supervisord a turn to accept.  More than 16 gain little, and cost it a file descriptor each.
_SHARE = 60
_CONNECTIONS = 16
MAX_PROCESSES = 10_000
_OLDEST = (4, 2, 5)

UNKNOWN_METHOD = 1
SHUTDOWN_STATE = 6
BAD_NAME = 10
ALREADY_STARTED = 60
NOT_RUNNING = 70
ALREADY_ADDED = 90
STILL_RUNNING = 91
CANT_REREAD = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonState:
    state: str  # RUNNING, RESTARTING, SHUTDOWN or FATAL
    pid: int | None  # None while it shuts down: it answers nothing more then
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Group names, as reloadConfig compares the files with what runs."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


Verdicts = dict[str, SupervisorFault | None]


class Supervisor:
    """
    A supervisord at *url*, `unix:///path` or `http://host:port`.

    Names are `group:process`.  Every call returns at once: supervisord burns a
    whole core while a caller waits inside it, so those who must wait poll
    `processes`.  *timeout* is seconds for each call.  All methods raise
    `SupervisorUnavailable`, `BadReply` and `SupervisorFault`.
    """

    def __init__(
        self, url: str, username: str | None = None, password: str | None = None, timeout: float = 5.0
    ) -> None:
        self._transport = Transport(url, username=username, password=password, timeout=timeout)
        self.url = url
        self._lacks: set[str] = set()  # methods of fleet's plug-in that it has said it has not

    def state(self) -> DaemonState:
        """
        Whether it answers, its pid and version.

        Raises:
            SupervisorError: it is too old, or speaks another API version.
        """
        answers = self._multicall(
            [
                ("supervisor.getState",),
                ("supervisor.getPID",),
                ("supervisor.getSupervisorVersion",),
                ("supervisor.getAPIVersion",),
            ]
        )
        for answer in answers:
            if isinstance(answer, SupervisorFault):
                if answer.code == SHUTDOWN_STATE:
                    return DaemonState(state="SHUTDOWN", pid=None, version="")
                raise answer
        state, pid, version, api = answers
        name = state.get("statename") if isinstance(state, dict) else None
        if not isinstance(name, str) or type(pid) is not int or pid < 1 or not isinstance(version, str):
            raise BadReply(
                f"supervisord at {self.url} answers getState, getPID or its version in another form."
            )
        if api != "3.0" or _numbers(version) < _OLDEST:
            raise SupervisorError(
                f"supervisord at {self.url} is version {printable(version, 40)} (API {printable(api, 20)}). "
                "fleet needs 4.2.5 or later."
            )
        return DaemonState(state=printable(name, 40), pid=pid, version=printable(version, 40))

    def processes(self) -> tuple[Process, ...]:
        """
        Every process of every group.

        2,000 of them take 0.1 s where supervisord runs fleet's plug-in, and 3 s,
        nearly all of it supervisord's own, where it does not.
        """
        answer = self._compact()
        if answer is None:
            answer = self._transport.call("supervisor.getAllProcessInfo")
        if not isinstance(answer, list):
            raise BadReply(f"supervisord at {self.url} answers getAllProcessInfo without a list.")
        if len(answer) > MAX_PROCESSES:
            raise BadReply(
                f"supervisord at {self.url} lists {len(answer):,} processes; fleet reads {MAX_PROCESSES:,}. "
                "Share them out among several."
            )
        return tuple(process(info) for info in answer)

    def lookup(self, names: Sequence[str]) -> dict[str, Process | None]:
        """
        These processes only; None for a name that supervisord does not know.

        Without fleet's plug-in, many names are asked for over several
        connections: supervisord sends 4 KiB of an answer in each turn of its
        loop, and in each it looks after all its processes.  Every connection
        gets its own 4 KiB, so 2,000 names take 0.5 s, and a fifth of the
        processor time that `processes` costs it then.
        """
        if len(names) > _SHARE and (every := self._compact()) is not None:
            known = {each.full_name: each for each in map(process, every)}
            return {name: known.get(name) for name in names}
        size = max(_SHARE, -(-len(names) // _CONNECTIONS))
        chunks = [
            [("supervisor.getProcessInfo", name) for name in names[start : start + size]]
            for start in range(0, len(names), size)
        ]
        answers = [answer for chunk in self._at_once(chunks) for answer in chunk]
        return {name: _process(name, answer) for name, answer in zip(names, answers, strict=True)}

    def start(self, names: Iterable[str]) -> Verdicts:
        """Start each; None means it was forked, not that it is RUNNING yet."""
        return self._each("supervisor.startProcess", names, False)

    def stop(self, names: Iterable[str]) -> Verdicts:
        """Send each its stop signal; SIGKILL follows after its own stopwaitsecs."""
        return self._each("supervisor.stopProcess", names, False)

    def signal(self, names: Iterable[str], signal: str) -> Verdicts:
        """*signal* is a name such as "KILL", or a number as text; children of a process get none."""
        return self._each("supervisor.signalProcess", names, signal)

    def stop_all(self) -> None:
        """Send every process of this supervisord its stop signal, all groups at once."""
        self._transport.call("supervisor.stopAllProcesses", False)

    def reload_config(self) -> Changes:
        """
        Read the files again; running groups are left alone.

        Raises:
            SupervisorFault: code 92, CANT_REREAD: a file is wrong, and nothing changed.
        """
        answer = self._quicker("fleet.reloadConfig")
        if answer is None:
            answer = self._transport.call("supervisor.reloadConfig")
        match answer:
            case [[list(added), list(changed), list(removed)]]:
                return Changes(added=_names(added), changed=_names(changed), removed=_names(removed))
        raise BadReply(f"supervisord at {self.url} answers reloadConfig without three lists.")

    def add_groups(self, groups: Iterable[str]) -> Verdicts:
        """Create groups from the files read last; their autostart processes start on the next turn."""
        return self._each("supervisor.addProcessGroup", groups)

    def remove_groups(self, groups: Iterable[str]) -> Verdicts:
        """Forget groups; fault 91 for one that still has a running process."""
        return self._each("supervisor.removeProcessGroup", groups)

    def add_group(self, group: str) -> None:
        self._transport.call("supervisor.addProcessGroup", group)

    def remove_group(self, group: str) -> None:
        self._transport.call("supervisor.removeProcessGroup", group)

    def shutdown(self) -> None:
        """End this supervisord.  It stops what still runs one group after another, so stop that first."""
        self._transport.call("supervisor.shutdown")

    def stop_signals(self) -> dict[str, int]:
        """The signal number that a stop sends, by full name, as the files that were read last say."""
        answer = self._transport.call("supervisor.getAllConfigInfo")
        try:
            return {f"{info['group']}:{info['name']}": int(info["stopsignal"]) for info in answer}
        except (TypeError, KeyError, ValueError) as error:
            raise BadReply(f"supervisord at {self.url} answers getAllConfigInfo in another form.") from error

    def tail(self, name: str, length: int) -> str:
        """
        The last *length* bytes of a process's log, read by supervisord.

        Raises:
            BadReply: the log holds control characters, which XML cannot carry; read the file itself.
        """
        answer = self._transport.call("supervisor.tailProcessStdoutLog", name, 0, length)
        match answer:
            case [str(text), int(), bool()]:
                return text
        raise BadReply(f"supervisord at {self.url} answers tailProcessStdoutLog in another form.")

    def _compact(self) -> list[dict[str, Any]] | None:
        """What fleet's plug-in says of all processes; None where supervisord runs without it."""
        answer = self._quicker("fleet.processes")
        return None if answer is None else unpack(answer)

    def _quicker(self, method: str) -> Any:
        """The answer of fleet's plug-in; None where supervisord runs without it, or with an older one."""
        if method in self._lacks:
            return None
        try:
            return self._transport.call(method)
        except SupervisorFault as fault:
            if fault.code != UNKNOWN_METHOD:
                raise
            self._lacks.add(method)
            return None

    def _each(self, method: str, names: Iterable[str], *more: Any) -> Verdicts:
        verdicts: Verdicts = {}
        rest = iter(dict.fromkeys(names))
        size = CHUNK
        while chunk := tuple(islice(rest, size)):
            began = time.monotonic()
            answers = self._multicall([(method, name, *more) for name in chunk])
            size = fitting(size, time.monotonic() - began)
            for name, answer in zip(chunk, answers, strict=True):
                verdicts[name] = answer if isinstance(answer, SupervisorFault) else None
        return verdicts

    def _at_once(self, chunks: Sequence[Sequence[tuple[Any, ...]]]) -> list[list[Any]]:
        """Multicalls side by side.  All have the same time, so together they take no longer than one."""
        answers: list[list[Any]] = [[] for _ in chunks]
        errors: list[Exception] = []

        def ask(index: int) -> None:
            try:
                answers[index] = self._multicall(chunks[index], share=len(chunks))
            except Exception as error:  # raised below, where somebody hears of it
                errors.append(error)

        # Daemons: Ctrl-C waits for no supervisord that hangs.
        threads = [Thread(target=ask, args=(index,), daemon=True) for index in range(len(chunks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return answers

    def _multicall(self, calls: Sequence[tuple[Any, ...]], *, share: int = 1) -> list[Any]:
        """One answer a call; a fault comes as a value, since its neighbours took effect."""
        structs = [{"methodName": method, "params": list(params)} for method, *params in calls]
        answer = self._transport.call("system.multicall", structs, share=share)
        if not isinstance(answer, list) or len(answer) != len(calls):
            raise BadReply(f"supervisord at {self.url} answers a multicall of {len(calls)} in another form.")
        return [_fault(item) or item for item in answer]


def fitting(size: int, seconds: float) -> int:
    """How many calls to send at once, when *size* of them kept supervisord busy for *seconds*."""
    return max(_FEWEST, min(CHUNK, int(size * _TURN / max(seconds, 0.001))))


def _fault(item: object) -> SupervisorFault | None:
    match item:
        case {"faultCode": int(code), "faultString": str(text)}:
            return SupervisorFault(code, printable(text))
    return None


def _process(name: str, answer: object) -> Process | None:
    """The answer of getProcessInfo; None when supervisord does not know the name."""
    if isinstance(answer, SupervisorFault):
        if answer.code == BAD_NAME:
            return None
        raise answer
    found = process(answer)
    if found.full_name != name:
        raise BadReply(f"supervisord was asked for {name} and tells of {printable(found.full_name, 100)}.")
    return found


def _names(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise BadReply("supervisord answers reloadConfig with a group name that is no text.")
    return tuple(values)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
