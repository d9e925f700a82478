"""
The judge of a chaos run.  Pure: it reads the files of `ledger` and nothing else.

    L1  lost        an accepted job is neither done nor stored
    L2  ghost       a job runs that was rejected or never put, or with another payload
    L3  exclusive   a job is claimed while another's lease on it cannot be over
    L4  fence       a settlement takes effect after somebody else claimed the job
    L5  duplicate   a job is begun again without a recorded cause
    L6  order       a claim passes over a job that was more urgent, or earlier, and free
    L7  delay       a job starts before its delay is over
    L8  liveness    jobs are left at the end, or nothing happened for ten seconds without a fault
    L9  rescue      a job whose lease is over is passed over for four seconds
    L10 burial      not exactly the planned jobs are buried, with a reason and in time
    F   proof       a fault that cannot prove that it bit; more than a quarter of them met no job
    P   promise     a promise about processes that the injector itself saw broken
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.chaos.history import (
    FOREVER,
    SECOND,
    Fault,
    History,
    Lease,
    Put,
    Settle,
    Stored,
    deaths,
    idle,
    load,
)
from tests.chaos.order import inversions
from tests.chaos.rescues import AFTERMATH, passed_over
from tests.chaos.work import BURIED, MAX_CRASHES, MAX_RETRIES

_STALL = 10 * SECOND
_CLOCK_ERROR = SECOND // 20
_SETTLES = ("delete", "release", "bury")


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    uid: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule} job {self.uid[:8] or '–'}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """`violations` is empty when everything held; the rest are the numbers of the table."""

    violations: list[Violation] = field(default_factory=list)
    puts: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    idle: Counter[str] = field(default_factory=Counter)  # kinds of faults that met no job
    impossible: Counter[tuple[str, str]] = field(default_factory=Counter)  # kinds and why
    duplicates: Counter[str] = field(default_factory=Counter)
    rescues: list[float] = field(default_factory=list)  # seconds from a worker's death to the next claim

    @property
    def passed(self) -> bool:
        return not self.violations

    def count(self, rule: str) -> int:
        return sum(violation.rule == rule for violation in self.violations)


def check(folder: Path) -> Verdict:
    return judge(load(folder))


def judge(history: History) -> Verdict:
    verdict = Verdict()
    _count(history, verdict)
    killed = deaths(history)
    stored = {job.uid: job for job in history.stored}
    for rule in (
        _proofs(history, verdict),
        _ghosts(history),
        _lost(history, stored),
        _hand_overs(history, killed, verdict),
        _fences(history, killed),
        _delays(history),
        _left_over(history),
        _stalls(history),
        _burials(history, stored, killed),
    ):
        verdict.violations += rule
    verdict.violations += [
        Violation("L6", found.taken, f"was claimed while {found.passed[:8]} was free and had its turn")
        for found in inversions(history)
    ]
    return verdict


def _count(history: History, verdict: Verdict) -> None:
    verdict.puts.update(put.phase for put in history.puts.values())
    verdict.puts["recovered"] = sum(
        put.ever_unknown and put.phase == "accepted" for put in history.puts.values()
    )
    verdict.faults.update(fault.kind for fault in history.faults if not fault.impossible)
    verdict.idle.update(fault.kind for fault in idle(history))
    verdict.impossible.update((fault.kind, fault.impossible) for fault in history.faults if fault.impossible)
    for leases in history.leases.values():
        for lease in leases:
            verdict.runs["starts"] += len(lease.starts)
            verdict.runs["finished"] += sum(start.end == "finish" for start in lease.starts)
            for settle in lease.settles:
                if settle.op == "touch":
                    verdict.runs["renewed" if settle.result == "ok" else "not renewed"] += 1
                elif settle.result == "lost":
                    verdict.runs["fenced"] += 1
                elif settle.result in (None, "unknown"):
                    verdict.runs["unconfirmed"] += 1
                elif settle.result == "ok" and settle.op == "delete":
                    verdict.runs["acks"] += 1


# -- F


def _proofs(history: History, verdict: Verdict) -> Iterator[Violation]:
    if 4 * verdict.idle.total() > verdict.faults.total():
        yield Violation(
            "F", "", f"{verdict.idle.total()} faults met no job: {', '.join(sorted(verdict.idle))}"
        )
    for fault in history.faults:
        if not fault.proof and not fault.impossible:
            yield Violation("F", "", f"fault {fault.kind} has no proof that it bit")
        if fault.broken:
            yield Violation("P", "", f"during fault {fault.kind}: {fault.broken}")


# -- L1, L2


def _lost(history: History, stored: dict[str, Stored]) -> Iterator[Violation]:
    for put in history.puts.values():
        if put.phase != "accepted" or put.uid in stored:
            continue
        done, doubtful = False, False
        leases = history.leases.get(put.uid, [])
        for lease in leases:
            finished = any(start.end == "finish" for start in lease.starts)
            for settle in lease.settles:
                if settle.op == "delete" and finished:
                    done = done or settle.result == "ok"
                    # beanstalkd's fence is in the handle: a delete without an answer is a lost lease there.
                    doubtful = (
                        doubtful
                        or settle.result in (None, "unknown")
                        or (settle.result == "lost" and history.backend == "beanstalkd")
                    )
        if not done and not doubtful:
            starts = sum(len(lease.starts) for lease in leases)
            yield Violation(
                "L1", put.uid, f"{put.kind}, accepted, is not stored and was never done ({starts} starts)"
            )


def _ghosts(history: History) -> Iterator[Violation]:
    for uid, pid in history.orphans:
        yield Violation("L2", uid, f"was begun by worker {pid} without a recorded claim")
    seen = Counter(job.uid for job in history.stored)
    for uid, count in seen.items():
        if count > 1 and uid in history.puts and not history.puts[uid].ever_unknown:
            yield Violation("L2", uid, f"is stored {count} times")
    begun = {uid for uid, leases in history.leases.items() if any(lease.starts for lease in leases)}
    for uid in begun | set(seen):
        put = history.puts.get(uid)
        if put is None:
            yield Violation("L2", uid, "was never put")
        elif put.phase == "rejected" and not put.ever_unknown:
            yield Violation("L2", uid, "was rejected, and is there")
    for uid, leases in history.leases.items():
        put = history.puts.get(uid)
        if put is not None and any(s.sha != put.sha for lease in leases for s in lease.starts):
            yield Violation("L2", uid, "came with another payload")
    for job in history.stored:
        if job.uid in history.puts and history.puts[job.uid].sha != job.sha:
            yield Violation("L2", job.uid, "is stored with another payload")


# -- L3, L5, L9


def _hand_overs(history: History, killed: dict[int, int], verdict: Verdict) -> Iterator[Violation]:
    """How each lease but the last of a job ended, and whether that may be."""
    for leases in history.leases.values():
        begun_later = False
        causes: list[str] = []
        for earlier, later in pairwise(leases):
            cause, fault = _cause(history, killed, earlier, later)
            if fault is not None and later.t0 < earlier.t1:
                # Two questions at once, sorted by their answers: they may have been served the other way.
                swapped, still = _cause(history, killed, later, earlier)
                if still is None:
                    cause, fault = swapped, None
            causes.append(cause)
            if fault is not None:
                yield fault
            elif cause in ("kill", "lease", "connection") and earlier.pid in killed:
                verdict.rescues.append((later.t1 - killed[earlier.pid]) / SECOND)
            if cause in ("kill", "lease") and (late := passed_over(history, killed, earlier, later)):
                text = f"its lease was over for {late:.1f} s when a later job was taken"
                yield Violation("L9", earlier.uid, text)
        for lease, cause in reversed(list(zip(leases, [*causes, ""], strict=True))):
            if lease.starts and begun_later:
                verdict.duplicates[cause] += 1
            begun_later = begun_later or bool(lease.starts)


def _cause(
    history: History, killed: dict[int, int], earlier: Lease, later: Lease
) -> tuple[str, Violation | None]:
    """Why a job could be claimed again; with a violation when there is no good reason."""
    by = later.t1
    settled = [s for s in earlier.settles if s.op in _SETTLES and s.t0 <= by]
    if any(s.op == "release" and s.result == "ok" for s in settled):
        return "released", None
    # A settlement whose answer was lost is asked for again: when the lease has ended meanwhile, and the next
    # holder has settled the job, the server can only say that it is settled.
    may_be_theirs = earlier.safe_until <= by and _has_fault(history, earlier, by)
    put = history.puts.get(earlier.uid)
    for settle in settled:
        if settle.result == "ok" and not (may_be_theirs and (settle.t1 or 0) > later.t0):
            if settle.op == "delete" and put and put.last_tried > put.tried and put.answered > settle.t0:
                # A uid is forgotten with its job: a put that is repeated after that stores it anew.
                return "put-again", None
            text = f"was claimed again after its {settle.op} had been confirmed"
            return "unexplained", Violation("L5", earlier.uid, text)
    # A release may be in force, and its worker be killed before it is told.
    if earlier.pid in killed and any(s.op == "release" and s.result is None for s in settled):
        return "ack-unknown", None
    # A release whose answer was lost is asked for again too, and finds the job in the next holder's hands.
    doubtful = any(
        s.result in (None, "unknown", "ok")
        or (s.op == "release" and s.result == "lost" and (s.t1 or FOREVER) >= later.t0)
        for s in settled
    )
    died = killed.get(earlier.pid, FOREVER) <= by
    if earlier.safe_until <= by:
        if died:
            return "kill", None
        if _has_fault(history, earlier, by):
            return ("ack-unknown" if doubtful else "lease"), None
        text = f"worker {earlier.pid} let its lease run out, and no fault explains it"
        return "unexplained", Violation("L5", earlier.uid, text)
    if doubtful and (died or _has_fault(history, earlier, by)):
        return "ack-unknown", None
    if history.backend == "beanstalkd" and (died or _has_fault(history, earlier, by)):
        return "connection", None  # there a lease ends with its connection
    if _clock_moved(history, "clock", earlier.t0, by):
        return "server-clock", None
    early = (earlier.safe_until - by) / SECOND
    text = f"worker {later.pid} claimed it {early:.2f} s before the lease of worker {earlier.pid} was over"
    return "unexplained", Violation("L3", earlier.uid, text)


def _has_fault(history: History, lease: Lease, by: int) -> bool:
    """Whether a proven fault, or a job that kills workers, may have kept the holder from its lease."""
    return any(
        fault.t0 <= by and fault.t1 + AFTERMATH >= lease.t0
        for fault in history.faults
        # The clock of a worker is nothing that its lease depends on.
        if fault.proof
        and fault.kind != "worker-clock"
        and (not fault.pid or fault.pid == lease.pid or _stops_everybody(history, fault))
    ) or lease.pid in _suicides(lease)


def _clock_moved(history: History, kind: str, since: int, until: int) -> bool:
    """Whether the clock by which the store counts was moved meanwhile."""
    return any(
        f.kind == kind and f.proof and not f.pid and f.t0 <= until and f.t1 >= since for f in history.faults
    )


def _suicides(lease: Lease) -> set[int]:
    return {start.pid for start in lease.starts if start.end == "suicide"}


def _stops_everybody(history: History, fault: Fault) -> bool:
    # A process that was frozen inside a transaction holds SQLite's only write lock.
    return history.backend == "sqlite" and fault.kind.startswith("stop")


# -- L4


def _fences(history: History, killed: dict[int, int]) -> Iterator[Violation]:
    for uid, leases in history.leases.items():
        for index, lease in enumerate(leases):
            others = [o for o in leases[index + 1 :] if not _may_be_earlier(history, killed, lease, o)]
            after = min((other.t1 for other in others), default=FOREVER)
            for settle in lease.settles:
                if (
                    settle.result == "ok"
                    and settle.t0 > after
                    and not _is_open_to_all(history, lease, settle)
                ):
                    late = (settle.t0 - after) / SECOND
                    text = (
                        f"worker {lease.pid} could {settle.op} it {late:.2f} s after another had claimed it"
                    )
                    yield Violation("L4", uid, text)


def _may_be_earlier(history: History, killed: dict[int, int], lease: Lease, other: Lease) -> bool:
    """
    Whether *other*, whose answer came later, may have been served before *lease*.

    So it is with a worker that is frozen while it claims; but not when it could still settle the job.
    """
    if other.t0 >= lease.t1 or any(s.result == "ok" and s.t0 > lease.t1 for s in other.settles):
        return False
    return _cause(history, killed, other, lease)[1] is None


def _is_open_to_all(history: History, lease: Lease, settle: Settle) -> bool:
    """beanstalkd lets anybody delete a free job; only a moved clock keeps fleet from knowing that it is."""
    if history.backend != "beanstalkd" or not _clock_moved(history, "clock", lease.t0, settle.t0):
        return False
    others = [other for other in history.leases[lease.uid] if other.t1 > lease.t1 and other.t0 < settle.t0]
    return all(
        any(s.result == "ok" and s.op == "release" and s.t1 and s.t1 <= settle.t0 for s in o.settles)
        for o in others
    )


# -- L7


def _delays(history: History) -> Iterator[Violation]:
    # On SQLite the clock of the store is that of whoever looks.
    kind = "worker-clock" if history.backend == "sqlite" else "clock"
    for uid, leases in history.leases.items():
        put = history.puts.get(uid)
        early = put is not None and put.delay and leases[0].t1 < put.tried + put.delay * SECOND - _CLOCK_ERROR
        if put and early and not _clock_moved(history, kind, put.tried, leases[0].t1):
            yield Violation("L7", uid, f"was claimed before its delay of {put.delay:g} s was over")
        for lease, following in pairwise(leases):
            for settle in lease.settles:
                early = following.t1 < settle.t0 + settle.delay * SECOND - _CLOCK_ERROR
                if not (settle.op == "release" and settle.result == "ok" and settle.delay and early):
                    continue
                if not _clock_moved(history, kind, settle.t0, following.t1):
                    yield Violation("L7", uid, f"came back before its {settle.delay:g} s were over")


# -- L8


def _left_over(history: History) -> Iterator[Violation]:
    for job in history.stored:
        if job.state != "buried":
            yield Violation("L8", job.uid, f"is still {job.state} at the end")


def _stalls(history: History) -> Iterator[Violation]:
    """Ten seconds in which no handler began or ended, no fault was near, and a job was ready."""
    moments = sorted(
        moment
        for leases in history.leases.values()
        for lease in leases
        for start in lease.starts
        for moment in (start.t, start.ended)
        if moment != FOREVER
    )
    for before, after in pairwise(moments):
        if after - before < _STALL:
            continue
        if any(f.t0 <= after and f.t1 + AFTERMATH >= before for f in history.faults):
            continue
        waiting = next((put for put in history.puts.values() if _waits(history, put, before, after)), None)
        if waiting is not None:
            seconds = (after - before) / SECOND
            yield Violation("L8", waiting.uid, f"was ready while nothing happened for {seconds:.0f} s")


def _waits(history: History, put: Put, before: int, after: int) -> bool:
    leases = history.leases.get(put.uid)
    ready = put.answered + put.delay * SECOND
    return put.phase == "accepted" and ready <= before and bool(leases) and leases[0].t1 >= after  # type: ignore[index]


# -- L10


def _burials(history: History, stored: dict[str, Stored], killed: dict[int, int]) -> Iterator[Violation]:
    forgetful = history.backend == "beanstalkd"  # its counters do not outlive a crash of the server
    for put in history.puts.values():
        leases = history.leases.get(put.uid, [])
        starts = sum(len(lease.starts) for lease in leases)
        vanished = sum(not any(s.result == "ok" and s.op in _SETTLES for s in x.settles) for x in leases)
        job = stored.get(put.uid)
        buried = job is not None and job.state == "buried"
        if put.kind in BURIED and put.phase == "accepted" and not buried:
            yield Violation("L10", put.uid, f"{put.kind} is not buried after {starts} starts")
        if buried and job is not None:
            if job.reason == "":
                yield Violation("L10", put.uid, "was buried without a reason")
            if put.kind not in BURIED and vanished < MAX_CRASHES:
                yield Violation("L10", put.uid, f"{put.kind} was buried: {(job.reason or '')[:80]}")
        if put.kind == "poison" and not forgetful and starts > MAX_RETRIES + 1 + vanished:
            yield Violation("L10", put.uid, f"poison was begun {starts} times")
