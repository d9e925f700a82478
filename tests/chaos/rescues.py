"""
L9: a job whose lease is over is not passed over for four seconds.

Being late is no fault while more urgent work is done.
"""

from __future__ import annotations

from tests.chaos.history import FOREVER, SECOND, History, Lease

AFTERMATH = 7 * SECOND  # a worker that lost its server tries again within 5 s
_RESCUE = 4 * SECOND


def passed_over(history: History, killed: dict[int, int], lease: Lease, later: Lease) -> float | None:
    """Seconds from the end of *lease* to a claim that took another job too late; None: there was none."""
    if later.t1 - lease.over_at <= _RESCUE:
        return None
    over_at = max(lease.over_at, _silent_until(history, killed, lease, later))
    due = over_at + _RESCUE
    if any(f.t0 <= later.t1 and f.t1 + AFTERMATH >= due for f in history.faults if not f.pid):
        return None
    mine = history.puts[lease.uid]
    for claim in history.claims:
        # From the moment that somebody *asked* for it, it may have been his: others rightly step over it.
        if claim.t0 < due or claim.t1 > later.t0:
            continue
        for other in claim.leases:
            put = history.puts.get(other.uid)
            if put and (put.priority, put.tried) > (mine.priority, mine.answered):
                return (claim.t0 - over_at) / SECOND
    return None


def _silent_until(history: History, killed: dict[int, int], lease: Lease, later: Lease) -> int:
    """The end of a lease in between that nobody was told of: its worker died before the answer came."""
    return max(
        (
            (killed.get(claim.pid, claim.t0) if claim.t1 == FOREVER else claim.t1) + lease.ttr
            for claim in history.claims
            if claim.result in ("asked", "unknown") and claim.t0 <= later.t0
        ),
        default=0,
    )
