"""
L6: no claim passes over a job that was more urgent, or earlier, and free during the whole claim.

A sweep over the claims in time, with one heap a priority of the jobs that are
free by then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.history import FOREVER, SECOND, Claim, History, Lease, Put

# How long one job may be passed over.  MySQL and PostgreSQL remember where their last claim ended; a row that
# another claim had locked and then let go, or whose put was committed late, stays behind that mark until the
# next look, for the second that docs/queue.md tells of.  MariaDB looks 20 times as seldom as a look takes, so
# in a queue as small as that of these runs a quarter of it is plenty.
_OVERLOOKED = {"mariadb": SECOND // 4, "postgresql": SECOND}
# How much later than computed from outside a delay may end; beanstalkd counts whole seconds.
_LATE = {"beanstalkd": 2 * SECOND}
_LATE_ELSEWHERE = SECOND // 20
_AFTERMATH = 2 * SECOND  # after an outage, claims of before may still be rolled back


@dataclass(frozen=True, slots=True)
class Inversion:
    taken: str  # uid of the job that came too early
    passed: str  # uid of the one that had waited


@dataclass(frozen=True, slots=True)
class _Free:
    """A job that was free from `begin` to `end`, and put into the queue before `put_by`."""

    begin: int
    end: int
    priority: int
    put_by: int
    uid: str


def inversions(history: History) -> list[Inversion]:
    """One for each claim that took a job out of turn."""
    free = sorted(_free(history), key=lambda job: job.begin)
    blind = _blind_windows(history)
    frozen = _frozen_waits(history)
    parked: dict[tuple[int, int], str] = {}  # a frozen wait -> uid of the only job that it can hold
    heaps: dict[int, list[tuple[int, int, _Free]]] = {}
    found: list[Inversion] = []
    passed_over: dict[str, tuple[int, int]] = {}  # uid -> when that began, and when it happened last
    allowed = _OVERLOOKED.get(history.backend, 0)
    position = 0
    for claim in history.claims:
        if claim.result != "jobs" or not claim.leases:
            continue
        while position < len(free) and free[position].begin <= claim.t0:
            job = free[position]
            heapq.heappush(heaps.setdefault(job.priority, []), (job.put_by, position, job))
            position += 1
        if _is_blind(blind, claim):
            continue
        worst = _worst(claim, history.puts)
        passed = worst and _passed_over(heaps, claim, worst)
        if worst is None or passed is None:
            continue
        if any(parked.setdefault(wait, passed.uid) == passed.uid for wait in frozen if _meet(wait, claim)):
            continue
        since, last = passed_over.get(passed.uid, (claim.t0, claim.t0))
        if claim.t0 - last > allowed:
            since = claim.t0
        passed_over[passed.uid] = (since, claim.t0)
        if claim.t0 - since >= allowed:
            found.append(Inversion(taken=worst.uid, passed=passed.uid))
    return found


def _worst(claim: Claim, puts: dict[str, Put]) -> Put | None:
    """The least urgent job of a claim; among equals the one that was put last.  None: nobody put any."""
    known = (puts[lease.uid] for lease in claim.leases if lease.uid in puts)
    return max(known, key=lambda put: (put.priority, put.tried), default=None)


def _passed_over(heaps: dict[int, list[tuple[int, int, _Free]]], claim: Claim, worst: Put) -> _Free | None:
    for priority, heap in heaps.items():
        if priority > worst.priority:
            continue
        aside: list[tuple[int, int, _Free]] = []
        result = None
        while heap:
            put_by, _, job = heap[0]
            # Inside one priority only a put that was over before the other began has a place before it.
            if priority == worst.priority and put_by >= worst.tried:
                break
            entry = heapq.heappop(heap)
            if job.end < claim.t0:
                continue  # claims come in the order of t0: it will not be free again
            aside.append(entry)
            if job.end >= claim.t1:
                result = job
                break
        for entry in aside:
            heapq.heappush(heap, entry)
        if result is not None:
            return result
    return None


def _free(history: History) -> Iterator[_Free]:
    """When each job was certainly ready and in nobody's hands: after its put, and after each release."""
    late = _LATE.get(history.backend, _LATE_ELSEWHERE)
    counted_at = history.counted_at
    for put in history.puts.values():
        if put.phase != "accepted":
            continue
        leases = history.leases.get(put.uid, [])
        # A former holder may have ended it while nobody held it.
        ended = min(
            (s.t0 for x in leases for s in x.settles if s.op == "delete" and s.result != "lost"),
            default=counted_at,
        )
        yield from _until_claimed(put, put.answered + _after(put.delay, late), leases, counted_at)
        for index, lease in enumerate(leases):
            released = next((s for s in lease.settles if s.op == "release" and s.result == "ok"), None)
            if released is not None and released.t1 is not None:
                begin = released.t1 + _after(released.delay, late)
                yield from _until_claimed(
                    put, begin, leases[index + 1 :], ended if ended > begin else counted_at
                )


def _after(delay: float, late: int) -> int:
    return round(delay * SECOND) + late if delay else 0


def _until_claimed(put: Put, begin: int, leases: list[Lease], counted_at: int) -> Iterator[_Free]:
    # Until somebody *asked* for it: from then on it may have been his.
    end = min((lease.t0 for lease in leases), default=counted_at)
    if begin < end:
        yield _Free(begin, end, put.priority, put.answered, put.uid)


def _blind_windows(history: History) -> list[tuple[int, int]]:
    """
    When a job may have been in the hands of a claim that nobody was told of.

    Such a lease is over after the ttr at the latest.
    """
    longest = max((round(put.ttr * SECOND) for put in history.puts.values()), default=0)
    windows = [
        (claim.t0, (claim.t0 if claim.t1 == FOREVER else claim.t1) + longest + _AFTERMATH)
        for claim in history.claims
        if claim.result in ("asked", "unknown", "failed")
    ]
    windows += [
        (fault.t0, fault.t1 + _AFTERMATH)
        for fault in history.faults
        if not fault.pid and fault.kind not in ("supervisord", "stdout", "log-full", "apply")
    ]
    windows.sort()
    merged: list[tuple[int, int]] = []
    for begin, end in windows:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _is_blind(windows: list[tuple[int, int]], claim: Claim) -> bool:
    return any(_meet(window, claim) for window in windows)


def _frozen_waits(history: History) -> list[tuple[int, int]]:
    """
    When a frozen worker of beanstalkd may have been handed a job, and could not read so.

    It is one job at most, and it is free again when the lease or the connection
    ends: when the worker goes on and looks, or soon after.
    """
    return [
        (wait.t0, min(wait.t1, fault.t1 + _AFTERMATH))
        for fault in history.faults
        if fault.kind == "stop" and fault.proof
        for wait in history.waits
        if wait.pid == fault.pid and wait.t0 <= fault.t1 and wait.t1 >= fault.t0
    ]


def _meet(window: tuple[int, int], claim: Claim) -> bool:
    return window[0] <= claim.t1 and claim.t0 <= window[1]
