"""Faults of disks: power lost, no space, a write or a sync that fails."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from fleet.errors import QueueError
from fleet.queue import Queue, connect
from tests.chaos.arena import Arena
from tests.chaos.bite import BITES_WITHIN, Bite, wait_until
from tests.chaos.schedule import Planned
from tests.servers import Server

_BALLAST = "ballast"  # the pipeline of the jobs that need the space that is not there
_PIECE = b"x" * 60_000
_INJECTED = "(INJECTED)"


def power(arena: Arena, fault: Planned) -> Bite:
    """
    The machine of the store loses its power: what was not synced is gone.

    Everything that writes there is frozen, the image is copied as it is, all of
    it is killed, and the copy comes back in place of the disk.
    """
    disk = arena.disk
    assert disk is not None
    if arena.backend == "sqlite":
        return _power_of_everybody(arena)
    server = arena.server
    assert server is not None
    time.sleep(max(0.0, arena.unsynced - time.monotonic()))  # nothing is promised so long
    old = server.pid
    main = psutil.Process(old)
    with arena.still:
        freeze([main])  # first, so that it starts nobody whom we do not know
        freeze(main.children(recursive=True))
        replayed = disk.snapshot()
        server.kill()
    disk.come_back()
    server.start()
    return Bite(_power_proof(replayed, f"server {old} became {server.pid}"))


def _power_of_everybody(arena: Arena) -> Bite:
    """SQLite's writers are the workers and producers themselves: all of them go down with the machine."""
    disk = arena.disk
    assert disk is not None and arena.supervisord is not None
    with arena.still:
        # First those who would start others.
        supervisord, others = psutil.Process(arena.supervisord.pid), arena.other_supervisords()
        freeze([supervisord, *others])
        producers = [psutil.Process(each.pid) for each in arena.producers if each.poll() is None]
        victims = [*arena.crew(), *arena.orphans, *producers]
        while fresh := [each for each in {*victims, *disk.users()} if _runs(each)]:
            freeze(fresh)
            victims += fresh
        replayed = disk.snapshot()
        for process in (*victims, supervisord):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    try:
        for popen in (arena.supervisord, *arena.producers):
            popen.wait()
        wait_until(lambda: not disk.users())
        disk.come_back()
    finally:
        for other in others:
            other.resume()
    arena.orphans = []
    arena.start_supervisord()
    arena.start_producers(len(arena.producers))
    pids = {process.pid for process in victims}
    return Bite(_power_proof(replayed, f"{len(pids)} processes went down"), killed=tuple(pids))


def _power_proof(replayed: bool, who: str) -> str:
    return f"the disk came back from its image, its journal replayed; {who}" if replayed else ""


def freeze(processes: Sequence[psutil.Process]) -> None:
    """SIGSTOP, and wait until each stands still: none is inside a sync any longer."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    wait_until(lambda: not any(_runs(process) for process in processes))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (
            psutil.STATUS_STOPPED,
            psutil.STATUS_ZOMBIE,
            psutil.STATUS_TRACING_STOP,
        )
    except psutil.NoSuchProcess:
        return False


def disk_full(arena: Arena, fault: Planned) -> Bite:
    """No byte is free where the store is; jobs of a pipeline of our own then need some."""
    disk = arena.disk
    assert disk is not None
    free = disk.fill()
    refusal = ""
    try:
        full = disk.is_full
        until = time.monotonic() + max(fault.hold, BITES_WITHIN)
        end = time.monotonic() + fault.hold
        with _own_queue(arena) as queue:
            while time.monotonic() < until and not (refusal and time.monotonic() > end):
                disk.fill()  # others may have given some back
                try:
                    queue.put_many(_BALLAST, [_PIECE] * 20)
                except QueueError as error:
                    refusal = str(error)
                time.sleep(0.02)
    finally:
        disk.drain()
    if arena.server is not None and not arena.server.is_running:
        arena.server.start()  # PostgreSQL gives up when it cannot even write its log
    with _own_queue(arena) as queue:
        wait_until(lambda: _discarded(queue), within=30)
    if not (full and refusal):
        return Bite()
    return Bite(f"{free >> 10} KiB were free, then none; a put was refused: {refusal[:120]}")


@contextlib.contextmanager
def _own_queue(arena: Arena) -> Iterator[Queue]:
    """Past the proxy, so that it stands still on no other fault; waits for a server that comes up."""
    queue: list[Queue] = []

    def connected() -> bool:
        with contextlib.suppress(QueueError):
            queue.append(connect(arena.dsn))
        return bool(queue)

    if not wait_until(connected, within=20):
        raise RuntimeError("the store cannot be reached")
    try:
        yield queue[0]
    finally:
        with contextlib.suppress(QueueError):
            queue[0].close()


def _discarded(queue: Queue) -> bool:
    """Whether the jobs that only took space are gone."""
    with contextlib.suppress(QueueError):
        queue.discard(_BALLAST, "ready")
        return True
    return False


def log_full(arena: Arena, fault: Planned) -> Bite:
    """supervisord can write nothing that its workers print."""
    logs = arena.logs
    assert logs is not None
    complaints = arena.folder / "supervisord.out"
    before = complaints.stat().st_size
    logs.fill()
    full = logs.is_full

    def complained() -> bool:
        logs.fill()
        with open(complaints, errors="replace") as file:
            file.seek(before)
            return "No space left on device" in file.read()

    time.sleep(fault.hold)
    seen = wait_until(complained)
    logs.drain()
    return Bite("supervisord said: No space left on device" if full and seen else "")


def fsync(arena: Arena, fault: Planned) -> Bite:
    """The next fsync of whoever writes the store fails with EIO, once each process."""
    return _fail_once(arena, fault, "fsync,fdatasync", ())


def write(arena: Arena, fault: Planned) -> Bite:
    """The next write to the store's files fails with EIO, once each process."""
    files: tuple[Path, ...] = ()
    if arena.server is None:  # a worker writes elsewhere, too, by the same call
        database = Path(arena.dsn.removeprefix("sqlite:///"))
        files = (database, database.with_name(f"{database.name}-wal"))
    return _fail_once(arena, fault, "pwrite64,pwritev", files)


def _fail_once(arena: Arena, fault: Planned, calls: str, files: Sequence[Path]) -> Bite:
    out = arena.folder / f"strace-{time.monotonic_ns()}.out"
    server = arena.server
    until = time.monotonic() + BITES_WITHIN
    while time.monotonic() < until:
        victims = _writing(arena, fault.slot)
        if not victims:
            time.sleep(0.05)
            continue
        tracer = _strace(victims, out, calls, files)
        wait_until(lambda: _injected(out) or tracer.poll() is not None, within=10)  # noqa: B023
        tracer.send_signal(signal.SIGINT)  # it lets go of them
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        if _injected(out):
            break
    else:
        return Bite()
    if server is not None:
        # MariaDB ends itself, which takes a while; PostgreSQL its children; beanstalkd goes on.
        wait_until(lambda: not server.is_running, within=10 if arena.backend == "mariadb" else 0.5)
        wait_until(lambda: _takes_connections(arena, server), within=30)  # PostgreSQL recovers first
    line = next(line for line in out.read_text().splitlines() if _INJECTED in line)
    who = f"{len(victims)} processes of the server" if server is not None else f"process {victims[0]}"
    said = re.sub(r"\s+", " ", line)
    said = f"{said.partition('(')[0]}(…){said.rpartition(')')[0].rpartition('=')[2]})"[:80]
    return Bite(f"{who} were told: {said}", victims[0] if server is None else 0)


def _takes_connections(arena: Arena, server: Server) -> bool:
    """Whether fleet gets in; started, if the server has ended by now."""
    if not server.is_running:
        server.start()
    with contextlib.suppress(QueueError), connect(arena.dsn):
        return True
    return False


def _strace(victims: Sequence[int], out: Path, calls: str, files: Sequence[Path]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-o", f"{out}", "-e", f"trace={calls}"),
            *("-e", f"inject={calls}:error=EIO:when=1"),
            *(word for file in files for word in ("-P", f"{file}")),
            *(word for pid in victims for word in ("-p", f"{pid}")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _injected(out: Path) -> bool:
    return out.exists() and _INJECTED in out.read_text(errors="replace")


def _writing(arena: Arena, slot: int) -> list[int]:
    """Who writes: a worker or a producer of SQLite, or the processes of the server."""
    if arena.server is not None:
        main = psutil.Process(arena.server.pid)
        return [each.pid for each in main.children()] or [main.pid]
    people = [each.pid for each in arena.crew()]
    people += [each.pid for each in arena.producers if each.poll() is None]
    return [people[slot % len(people)]] if people else []
