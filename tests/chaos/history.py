"""The files of a run as values: puts, claims, leases with their starts and settlements, faults, census."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ledger import read

SECOND = 1_000_000_000
FOREVER = 1 << 62


@dataclass(slots=True)
class Put:
    """One job as its producer saw it; instants are nanoseconds."""

    uid: str
    kind: str
    priority: int
    delay: float  # seconds
    ttr: float  # seconds
    sha: str
    tried: int  # when it was tried first
    last_tried: int
    answered: int = FOREVER
    phase: str = "unknown"  # how the last try ended
    ever_unknown: bool = False  # an earlier try may have been stored as well


@dataclass(slots=True)
class Settle:
    """One settlement or renewal; `result` is None when the worker died before it was told."""

    op: str
    t0: int
    t1: int | None = None
    result: str | None = None
    delay: float = 0.0


@dataclass(slots=True)
class Start:
    t: int
    pid: int
    sha: str
    end: str = ""  # finish raise suicide, "" when the worker ended first
    ended: int = FOREVER


@dataclass(slots=True)
class Lease:
    """
    A job in the hands of one worker.

    safe_until   the lease cannot have ended earlier by itself
    over_at      by then it must have ended, if nobody settled it
    """

    uid: str
    token: int
    pid: int
    t0: int
    t1: int
    priority: int
    ttr: int  # nanoseconds
    settles: list[Settle] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    safe_until: int = 0
    over_at: int = 0


@dataclass(slots=True)
class Claim:
    """One question for jobs; t1 is FOREVER when the worker died before it was told."""

    t0: int
    pid: int
    result: str = "asked"
    t1: int = FOREVER
    leases: list[Lease] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wait:
    """
    A reserve of beanstalkd that waits for a job, and whose answer the next claim tells.

    t1 is FOREVER when the worker made no other claim.
    """

    t0: int
    t1: int
    pid: int


@dataclass(frozen=True, slots=True)
class Fault:
    t0: int
    t1: int
    kind: str
    pid: int  # 0: it touches everybody
    proof: str  # "" when it did not bite
    broken: str = ""  # a promise that the injector saw broken
    killed: tuple[int, ...] = ()  # pids, where it killed several
    impossible: str = ""  # why it cannot be had on this machine


@dataclass(frozen=True, slots=True)
class Stored:
    uid: str
    sha: str
    state: str
    reason: str | None  # None: the back end keeps none


@dataclass(slots=True)
class History:
    backend: str
    puts: dict[str, Put]
    claims: list[Claim]
    waits: list[Wait]
    leases: dict[str, list[Lease]]  # by uid, in the order of claims
    orphans: list[tuple[str, int]]  # starts (uid, pid) without a lease
    faults: list[Fault]
    stored: list[Stored]
    counted_at: int  # when the census was taken


def load(folder: Path) -> History:
    """Read a folder; nothing but its files is looked at."""
    census = json.loads((folder / "census.json").read_text())
    puts = _puts(folder)
    claims, waits = _claims(folder, puts)
    leases: dict[str, list[Lease]] = defaultdict(list)
    for claim in claims:
        for lease in claim.leases:
            leases[lease.uid].append(lease)
    for each in leases.values():
        each.sort(key=lambda lease: lease.t1)
    # A token names one claim; a job that was claimed twice has two.
    by_key = {(lease.uid, lease.token): lease for each in leases.values() for lease in each}
    _add_settlements(folder, by_key)
    # beanstalkd counts whole seconds, and its lease may have begun in a wait before the claim.
    early = 2 * SECOND if census["backend"] == "beanstalkd" else 0
    for lease in by_key.values():
        _set_deadlines(lease, early)
    return History(
        backend=census["backend"],
        puts=puts,
        claims=claims,
        waits=waits,
        leases=dict(leases),
        orphans=_add_starts(folder, by_key),
        faults=sorted(
            (
                Fault(
                    t0=r["t0"],
                    t1=r["t1"],
                    kind=r["kind"],
                    pid=r["pid"],
                    proof=r["proof"],
                    broken=r.get("broken", ""),
                    killed=tuple(r.get("killed", ())),
                    impossible=r.get("impossible", ""),
                )
                for r in read(folder, "fault")
            ),
            key=lambda fault: fault.t0,
        ),
        stored=[Stored(r["uid"], r["sha"], r["state"], r["reason"]) for r in census["jobs"]],
        counted_at=census["t"],
    )


def _puts(folder: Path) -> dict[str, Put]:
    puts: dict[str, Put] = {}
    for r in read(folder, "put"):
        put = puts.get(r["uid"])
        if r["phase"] == "try":
            if put is None:
                put = Put(r["uid"], r["kind"], r["priority"], r["delay"], r["ttr"], r["sha"], r["t"], r["t"])
                puts[put.uid] = put
            put.last_tried = r["t"]
        elif put is not None:
            put.phase, put.answered = r["phase"], r["t"]
            put.ever_unknown = put.ever_unknown or put.phase == "unknown"
    return puts


def _claims(folder: Path, puts: dict[str, Put]) -> tuple[list[Claim], list[Wait]]:
    claims: dict[tuple[int, int], Claim] = {}
    waits: list[tuple[int, tuple[int, int]]] = []
    for r in read(folder, "res"):
        key = (r["pid"], r["claim"])
        if r["result"] == "waits":
            waits.append((r["t0"], key))
            continue
        if r["result"] == "asked":
            claims[key] = Claim(t0=r["t0"], pid=r["pid"])
            continue
        claim = claims[key]
        claim.result, claim.t1 = r["result"], r["t1"]
        for uid, token in r.get("jobs", ()):
            put = puts.get(uid)
            lease = Lease(
                uid=uid,
                token=token,
                pid=r["pid"],
                t0=r["t0"],
                t1=r["t1"],
                priority=put.priority if put else 0,
                ttr=round(put.ttr * SECOND) if put else 0,
            )
            claim.leases.append(lease)
    return sorted(claims.values(), key=lambda claim: claim.t0), [
        Wait(t0, claims[key].t1 if key in claims else FOREVER, key[0]) for t0, key in waits
    ]


def _add_settlements(folder: Path, by_key: dict[tuple[str, int], Lease]) -> None:
    open_ones: dict[tuple[str, int, str, int], Settle] = {}
    for r in read(folder, "ack"):
        lease = by_key.get((r["uid"], r["token"]))
        if lease is None:
            continue
        key = (r["uid"], r["token"], r["op"], r["t0"])
        if r["result"] == "sent":
            open_ones[key] = settle = Settle(op=r["op"], t0=r["t0"], delay=r["delay"])
            lease.settles.append(settle)
            continue
        answered = open_ones.get(key)
        if answered is None:
            answered = Settle(op=r["op"], t0=r["t0"])
            lease.settles.append(answered)
        answered.t1, answered.result = r["t1"], r["result"]


def _set_deadlines(lease: Lease, early: int) -> None:
    lease.safe_until = lease.t0 + lease.ttr - early
    lease.over_at = lease.t1 + lease.ttr
    for settle in lease.settles:
        if settle.op != "touch":
            continue
        if settle.result == "ok":
            lease.safe_until = max(lease.safe_until, settle.t0 + lease.ttr - early)
        if settle.result in ("ok", "unknown"):
            lease.over_at = max(lease.over_at, (settle.t1 or settle.t0) + lease.ttr)


def _add_starts(folder: Path, by_key: dict[tuple[str, int], Lease]) -> list[tuple[str, int]]:
    orphans: list[tuple[str, int]] = []
    running: dict[tuple[int, str], Start] = {}
    for r in read(folder, "run"):
        key = (r["pid"], r["uid"])
        if r["event"] != "start":
            if key in running:
                running[key].end, running[key].ended = r["event"], r["t"]
            continue
        start = running[key] = Start(t=r["t"], pid=r["pid"], sha=r["sha"])
        lease = by_key.get((r["uid"], r["token"]))
        if lease is None:
            orphans.append((r["uid"], r["pid"]))
        else:
            lease.starts.append(start)
    return orphans


def deaths(history: History) -> dict[int, int]:
    """pid -> when it was killed, for workers that a fault or their own job killed."""
    found = {f.pid: f.t0 for f in history.faults if f.pid and f.kind in ("kill", "kill-step", "oom")}
    found.update((pid, fault.t0) for fault in history.faults for pid in fault.killed)
    for leases in history.leases.values():
        for lease in leases:
            for start in lease.starts:
                if start.end == "suicide":
                    found[start.pid] = start.ended
    return found


def idle(history: History) -> list[Fault]:
    """Faults that met no job: none was put shortly before or meanwhile, and none was in a worker's hands."""
    held = [(lease.t0, _ended(lease)) for leases in history.leases.values() for lease in leases]
    tried = [put.tried for put in history.puts.values()]
    return [
        fault
        for fault in history.faults
        if fault.proof
        and fault.kind != "stall-of-machine"
        and not any(fault.t0 - SECOND <= moment <= fault.t1 for moment in tried)
        and not any(begin <= fault.t1 and end >= fault.t0 for begin, end in held)
    ]


def _ended(lease: Lease) -> int:
    answered = [settle.t1 or settle.t0 for settle in lease.settles if settle.op != "touch"]
    return max(answered, default=lease.over_at)
