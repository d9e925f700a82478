"""
The injector.  Each fault returns the proof that it bit, from outside of what it hit.

Faults of one worker run in threads, side by side.  Faults that touch everybody
run one after another in the main thread, which alone may start processes.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import zip_longest

import psutil

from tests.chaos import apply_faults, server_faults, storage_faults
from tests.chaos.arena import GRACE, Arena, is_alive, wait_gone
from tests.chaos.bite import BITES_WITHIN, Bite
from tests.chaos.bite import wait_until as _wait_until
from tests.chaos.clock import stamp
from tests.chaos.ledger import Ledger, now, read_file
from tests.chaos.memory import memory_group
from tests.chaos.pace import AHEAD, Gate, Pace
from tests.chaos.possible import why_not
from tests.chaos.schedule import Planned
from tests.chaos.steps import KILL, OOM, STOP, TERM, arm, bitten, disarm
from tests.proxy import Proxy
from tests.servers import STOP_WITHIN

_STALLED = 0.7  # seconds by which this process overslept: so may everybody have


class Injector:
    """Runs a schedule against an arena and writes fault.jsonl."""

    def __init__(self, arena: Arena, ledger: Ledger) -> None:
        self._arena = arena
        self._ledger = ledger
        self._step_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._taken: set[int] = set()  # pids that another fault is busy with
        self._frozen: set[int] = set()  # pids that were ever stopped
        self._over = threading.Event()

    def run(self, faults: Sequence[Planned], seconds: float) -> None:
        """Until the last fault is over, and not before *seconds*."""
        start = time.monotonic()
        single = [fault for fault in faults if fault.kind in _ONE]
        wide = [fault for fault in faults if fault.kind not in _ONE]
        gate = Gate(self._arena.folder)
        gate.open(single[0].at + AHEAD if single else math.inf, "single")
        gate.open(min(wide[0].at + AHEAD, wide[-1].at) if wide else math.inf, "wide")
        lane = threading.Thread(target=self._run_single, args=(single, gate), name="chaos-lane")
        watch = threading.Thread(target=self._watch_for_stalls, name="chaos-stalls", daemon=True)
        lane.start()
        watch.start()
        for fault, following in zip_longest(wide, wide[1:]):
            _sleep_until(start + fault.at)
            gate.open(min(following.at + AHEAD, wide[-1].at) if following else math.inf, "wide")
            self._inject(fault)
        lane.join()
        _sleep_until(start + seconds)
        self._over.set()
        watch.join()

    def _run_single(self, faults: Sequence[Planned], gate: Gate) -> None:
        pace, threads = Pace(gate), []
        for fault, following in zip_longest(faults, faults[1:]):
            pace.wait_until(fault.at)
            threads.append(threading.Thread(target=self._inject, args=(fault,), name=f"chaos-{fault.kind}"))
            threads[-1].start()
            gate.open(following.at + AHEAD if following else math.inf, "single")
        for thread in threads:
            thread.join()

    def _inject(self, fault: Planned) -> None:
        t0 = now()
        # A worker's death counts from here, and a fault that failed must not explain anything: no proof.
        bite = Bite()
        reason = why_not(fault.kind)
        try:
            if not reason:
                bite = self._act(fault)
        except Exception as error:
            bite.broken = f"the injector failed: {type(error).__name__}: {error}"
        self._ledger.write(
            t0=t0,
            t1=now() + round(bite.lasts * 1e9),
            kind=fault.kind,
            pid=bite.pid,
            killed=bite.killed,
            proof=bite.proof,
            broken=bite.broken,
            impossible=reason,
            at=fault.at,
        )

    def _act(self, fault: Planned) -> Bite:
        if fault.kind in _STORE:
            return _STORE[fault.kind](self._arena, fault)
        return {**_ONE, **_ALL}[fault.kind](self, fault)

    def _watch_for_stalls(self) -> None:
        """A machine that stood still is a cause like any other, and is written down like one."""
        while not self._over.is_set():
            t0 = now()
            time.sleep(0.05)
            late = (now() - t0) / 1e9 - 0.05
            if late > _STALLED:
                self._ledger.write(
                    t0=t0, t1=now(), kind="stall-of-machine", pid=0, proof=f"{late:.1f} s late"
                )

    # -- one worker

    def _pick(self, slot: int) -> psutil.Process:
        until = time.monotonic() + BITES_WITHIN
        while time.monotonic() < until:
            # Two faults on one worker would not prove each other.
            crew = [worker for worker in self._arena.crew() if worker.pid not in self._taken]
            if crew:
                return crew[slot % len(crew)]
            time.sleep(0.05)
        raise RuntimeError("no worker is alive")

    def kill(self, fault: Planned) -> Bite:
        worker = self._pick(fault.slot)
        worker.kill()
        gone = wait_gone(worker, BITES_WITHIN)
        return Bite("" if gone is None else f"gone after {gone:.3f} s", worker.pid)

    def term(self, fault: Planned) -> Bite:
        worker = self._pick(fault.slot)
        self._taken.add(worker.pid)
        worker.terminate()
        return self._leaves(worker)

    def term_step(self, fault: Planned) -> Bite:
        return self._at_step(fault, TERM)

    def _leaves(self, worker: psutil.Process, where: str = "") -> Bite:
        """A worker that got SIGTERM is gone within its grace."""
        gone = wait_gone(worker, GRACE + 10)
        if gone is None:
            return Bite("", worker.pid, f"the worker ignored SIGTERM{where}")
        late = gone > GRACE + 2 and worker.pid not in self._frozen
        return Bite(
            f"gone after {gone:.3f} s{where}",
            worker.pid,
            f"the worker took {gone:.1f} s after SIGTERM{where}" if late else "",
        )

    def stop(self, fault: Planned) -> Bite:
        worker = self._pick(fault.slot)
        self._taken.add(worker.pid)
        worker.suspend()
        return self._thaw(worker)

    def kill_step(self, fault: Planned) -> Bite:
        return self._at_step(fault, KILL)

    def stop_step(self, fault: Planned) -> Bite:
        return self._at_step(fault, STOP)

    def oom(self, fault: Planned) -> Bite:
        """A worker in a memory group of 32 MiB that needs more: the kernel kills it."""
        for _ in range(3):  # a power cut may come before the kernel
            with memory_group() as group:
                bite = self._at_step(fault, OOM, str(group.folder))
                killed = group.kills()
            if killed:
                return Bite(f"killed by the kernel for its memory at {fault.step}", bite.pid)
        return Bite(pid=bite.pid)

    def worker_clock(self, fault: Planned) -> Bite:
        """A worker's time of day jumps, and back: only SQLite, without a clock of its own, may notice."""
        sqlite = self._arena.backend == "sqlite"
        jump = 2 * self._arena.ttr + fault.hold if sqlite else 3600.0
        shift = jump if fault.reply else -jump
        for attempt in range(3):
            worker = self._pick(fault.slot + attempt)
            self._taken.add(worker.pid)
            since, file = now(), stamp(self._arena.folder, worker.pid)
            file.write_text(f"{shift:.3f}")
            _wait_until(
                lambda: self._has_moved(worker.pid, since, shift) or not is_alive(worker),  # noqa: B023
                within=10,
            )
            moved = self._has_moved(worker.pid, since, shift)
            time.sleep(fault.hold)
            file.unlink()
            self._taken.discard(worker.pid)
            if moved:
                proof = f"its journal was {shift:+.0f} s off"
                return Bite(proof, 0 if sqlite else worker.pid, lasts=jump if sqlite else 0)
        return Bite()

    def _has_moved(self, pid: int, since: int, shift: float) -> bool:
        """Whether a job that the worker began after *since* was begun at another time of day."""
        base = time.time() - now() / 1e9
        path = self._arena.folder / f"run-{pid}.jsonl"
        return path.exists() and any(
            record["t"] > since and abs(record["wall"] - record["t"] / 1e9 - base - shift) < 1
            for record in read_file(path)
            if "wall" in record
        )

    def _at_step(self, fault: Planned, order: str, group: str = "") -> Bite:
        folder = self._arena.folder / "steps"
        with self._step_locks[f"{fault.step}-{order}"]:
            armed = arm(folder, fault.step, order, group)
            until = time.monotonic() + BITES_WITHIN
            while not (pid := bitten(folder, armed)):
                if time.monotonic() > until and disarm(armed):
                    return Bite()
                time.sleep(0.01)
        if order == TERM:
            self._taken.add(pid)
            try:
                worker = psutil.Process(pid)
                if fault.reply:
                    worker.terminate()
                return self._leaves(worker, f" at {fault.step}")
            except psutil.NoSuchProcess:
                return Bite(f"gone at once at {fault.step}", pid)
        if order == STOP:
            self._taken.add(pid)
            bite = Bite(pid=pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                bite = self._thaw(psutil.Process(pid), f" at {fault.step}")
            # Its supervisord may have died in the same instant, and the kernel have woken it.
            bite.proof = bite.proof or f"stopped itself at {fault.step}, and was woken or killed at once"
            return bite
        with contextlib.suppress(psutil.NoSuchProcess):
            if wait_gone(psutil.Process(pid), BITES_WITHIN) is None:
                return Bite()
        return Bite(f"killed itself at {fault.step}", pid)

    def _thaw(self, worker: psutil.Process, where: str = "") -> Bite:
        """
        Let a stopped worker go on once its leases are over: from here on it is a zombie.

        Sooner, when its supervisord dies: the kernel wakes a process group that
        loses its parent (SIGHUP, then SIGCONT).
        """
        self._frozen.add(worker.pid)
        begin = time.monotonic()
        seen = 0.0
        while time.monotonic() < begin + self._arena.ttr + 0.5 and is_alive(worker):
            stopped = _is_stopped(worker)
            if seen and not stopped:
                break
            seen = time.monotonic() if stopped else seen
            time.sleep(0.02)
        self._arena.wake(worker)
        self._taken.discard(worker.pid)
        return Bite(f"state T for {seen - begin:.1f} s{where}" if seen else "", worker.pid)

    # -- everybody

    def supervisord(self, fault: Planned) -> Bite:
        """kill -9 and start again: the old workers must drain and leave by themselves."""
        arena = self._arena
        assert arena.supervisord is not None
        crew, old = arena.crew(), arena.supervisord
        arena.orphans += crew
        old.kill()
        old.wait()
        arena.start_supervisord()
        assert arena.supervisord is not None
        left_within = GRACE + 7 + arena.ttr + 1  # a stopped one cannot leave before it goes on
        _, alive = psutil.wait_procs(crew, timeout=left_within)
        alive = [worker for worker in alive if is_alive(worker)]
        arena.orphans = [worker for worker in arena.orphans if is_alive(worker)]
        late = f"{len(alive)} orphans were left after {left_within:g} s" if alive else ""
        return Bite(f"pid {old.pid} became {arena.supervisord.pid}; {len(crew)} orphans", 0, late)

    def stdout(self, fault: Planned) -> Bite:
        """Nobody reads what the workers print."""
        assert self._arena.supervisord is not None
        return self._freeze([psutil.Process(self._arena.supervisord.pid)], 2 * self._arena.ttr)

    def server(self, fault: Planned) -> Bite:
        """Kill -9 of the server and all its processes, and a start on the same data."""
        server = self._arena.server
        assert server is not None
        old = server.pid
        server.kill()
        time.sleep(fault.hold / 3)
        server.start()
        return Bite(f"pid {old} became {server.pid}")

    def server_stop(self, fault: Planned) -> Bite:
        """An orderly end of the server, which hangs up on everybody, and a start."""
        server = self._arena.server
        assert server is not None
        old, began = server.pid, time.monotonic()
        server.stop(signal.SIGINT if self._arena.backend == "postgresql" else signal.SIGTERM)
        took = time.monotonic() - began
        time.sleep(fault.hold / 3)
        server.start()
        return Bite(f"pid {old} ended in {took:.1f} s and became {server.pid}" if took < STOP_WITHIN else "")

    def freeze(self, fault: Planned) -> Bite:
        server = self._arena.server
        assert server is not None
        main = psutil.Process(server.pid)
        return self._freeze([main, *main.children(recursive=True)], fault.hold)

    def cut(self, fault: Planned) -> Bite:
        """Reset every connection."""
        proxy = self._proxy
        before = proxy.accepted
        proxy.cut()
        _wait_until(lambda: proxy.accepted > before)
        return Bite(f"{proxy.accepted - before} connected again" if proxy.accepted > before else "")

    def cut_byte(self, fault: Planned) -> Bite:
        """Reset one connection in the middle of a question or an answer."""
        proxy = self._proxy
        before = proxy.cuts
        # The second time at once: on a slow machine so many bytes may take too long.
        for count, within in ((fault.count, 10.0), (0, BITES_WITHIN)):
            if fault.reply:
                proxy.cut_after(replies=count)
            else:
                proxy.cut_after(requests=count)
            if _wait_until(lambda: proxy.cuts > before, within):
                where = "an answer" if fault.reply else "a question"
                return Bite(f"reset inside {where} after {count} bytes")
        return Bite()

    def stall(self, fault: Planned) -> Bite:
        """A line over which nothing comes, and that nobody closes."""
        self._proxy.stall()
        time.sleep(fault.hold)
        held = self._proxy.held
        self._proxy.stall(False)
        return Bite(f"{held} bytes held back for {fault.hold:.1f} s" if held else "")

    @property
    def _proxy(self) -> Proxy:
        assert self._arena.proxy is not None
        return self._arena.proxy

    def lock(self, fault: Planned) -> Bite:
        """Somebody else's transaction holds SQLite's write lock."""
        with contextlib.closing(
            sqlite3.connect(self._arena.dsn.removeprefix("sqlite:///"), timeout=20, isolation_level=None)
        ) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(fault.hold)
            db.execute("ROLLBACK")
        return Bite(f"write lock held for {fault.hold:.1f} s")

    def _freeze(self, processes: Sequence[psutil.Process], seconds: float) -> Bite:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        time.sleep(seconds)
        frozen = _is_stopped(processes[0])
        for process in processes:
            self._arena.wake(process)
        return Bite(f"state T for {seconds:.1f} s" if frozen else "")


Act = Callable[[Injector, Planned], Bite]
_ONE: dict[str, Act] = {
    "kill": Injector.kill,
    "kill-step": Injector.kill_step,
    "stop": Injector.stop,
    "stop-step": Injector.stop_step,
    "term": Injector.term,
    "term-step": Injector.term_step,
    "oom": Injector.oom,
    "worker-clock": Injector.worker_clock,
}
_ALL: dict[str, Act] = {
    "supervisord": Injector.supervisord,
    "stdout": Injector.stdout,
    "server": Injector.server,
    "server-stop": Injector.server_stop,
    "freeze": Injector.freeze,
    "cut": Injector.cut,
    "cut-byte": Injector.cut_byte,
    "stall": Injector.stall,
    "lock": Injector.lock,
}
_STORE: dict[str, Callable[[Arena, Planned], Bite]] = {
    "power": storage_faults.power,
    "disk-full": storage_faults.disk_full,
    "log-full": storage_faults.log_full,
    "fsync": storage_faults.fsync,
    "write": storage_faults.write,
    "connections": server_faults.connections,
    "admin-kill": server_faults.admin_kill,
    "deadlock": server_faults.deadlock,
    "clock": server_faults.clock,
    "pooler": server_faults.pooler,
    "migrate": server_faults.migrate,
    "apply": apply_faults.apply,
}


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
