"""
The queue's meaning as a dictionary: the specification that every back end is held against.

Slow and obvious on purpose.  Time is a number that only `advance` moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count


@dataclass
class Row:
    """One stored job."""

    id: int
    pipeline: str
    priority: int
    ttr: float
    state: str
    run_at: float = 0.0
    deadline: float = 0.0
    lease: int = 0  # which reserve holds it; 0 is nobody
    attempts: int = 0
    crashes: int = 0
    reason: str = ""
    unique: str | None = None


@dataclass
class Model:
    now: float = 0.0
    rows: dict[int, Row] = field(default_factory=dict)
    paused: dict[str, float] = field(default_factory=dict)
    _leases: count[int] = field(default_factory=lambda: count(1))

    def put(
        self, id_: int, pipeline: str, priority: int, delay: float, ttr: float, unique: str | None
    ) -> None:
        """Store the job under the id that the back end gave, unless its unique key is taken."""
        holder = self.holder_of(pipeline, unique)
        if holder is not None:
            assert id_ == holder.id, "a taken unique key gives the job that holds it"
            return
        assert id_ not in self.rows, "ids are never reused"
        state = "delayed" if delay else "ready"
        self.rows[id_] = Row(id_, pipeline, priority, ttr, state, run_at=self.now + delay, unique=unique)

    def holder_of(self, pipeline: str, unique: str | None) -> Row | None:
        rows = (
            r
            for r in self.rows.values()
            if unique is not None and (r.pipeline, r.unique) == (pipeline, unique)
        )
        return next(rows, None)

    def is_paused(self, pipeline: str) -> bool:
        return self.paused.get(pipeline, 0.0) > self.now

    def reserve(self, pipelines: Sequence[str], limit: int) -> list[tuple[Row, int]]:
        """Due jobs and lost leases become ready; then priority, then first in first out."""
        taken: list[tuple[Row, int]] = []
        for pipeline in pipelines:
            if self.is_paused(pipeline) or len(taken) >= limit:
                continue
            for row in self._in(pipeline):
                if row.state == "delayed" and row.run_at <= self.now:
                    row.state = "ready"
                elif row.state == "reserved" and row.deadline <= self.now:
                    row.state, row.crashes = "ready", row.crashes + 1
            ready = sorted(
                (r for r in self._in(pipeline) if r.state == "ready"), key=lambda r: (r.priority, r.id)
            )
            for row in ready[: limit - len(taken)]:
                row.state, row.lease = "reserved", next(self._leases)
                row.deadline, row.attempts = self.now + row.ttr, row.attempts + 1
                taken.append((row, row.lease))
        return taken

    def settle(
        self,
        id_: int,
        lease: int,
        verb: str,
        *,
        delay: float = 0,
        priority: int | None = None,
        reason: str = "",
        counted: bool = True,
    ) -> bool:
        """The verdict: only the latest holder may settle, also late, until somebody takes the job again."""
        row = self.rows.get(id_)
        if row is None or row.lease != lease:
            return False
        if verb == "delete":
            del self.rows[id_]
            return True
        if row.state == "ready":
            row.crashes -= 1  # the holder came back after the rescue: no crash after all
        if verb == "touch":
            row.state, row.deadline = "reserved", self.now + row.ttr
            return True
        row.lease, row.reason = 0, reason
        row.attempts -= not counted
        if verb == "bury":
            row.state = "buried"
        else:
            row.state, row.run_at = ("delayed", self.now + delay) if delay else ("ready", self.now)
            row.priority = row.priority if priority is None else priority
        return True

    def kick(self, pipeline: str, limit: int) -> int:
        moved = sorted((r for r in self._in(pipeline) if r.state == "buried"), key=lambda r: r.id)[:limit]
        for row in moved:
            row.state, row.attempts, row.crashes, row.lease = "ready", 0, 0, 0
        return len(moved)

    def discard(self, pipeline: str, state: str, limit: int) -> int:
        gone = sorted((r for r in self._in(pipeline) if r.state == state), key=lambda r: r.id)[:limit]
        for row in gone:
            del self.rows[row.id]
        return len(gone)

    def release_jobs(self, pipeline: str, state: str, limit: int, *, force: bool) -> int:
        chosen = [
            r
            for r in self._in(pipeline)
            if r.state == state and (state == "delayed" or force or r.deadline <= self.now)
        ]
        moved = sorted(chosen, key=lambda r: r.id)[:limit]
        for row in moved:
            row.crashes += row.state == "reserved"  # the lease stays: its holder may still come back
            row.state, row.run_at = "ready", self.now
        return len(moved)

    def bury_jobs(self, pipeline: str, state: str, limit: int, reason: str) -> int:
        moved = sorted((r for r in self._in(pipeline) if r.state == state), key=lambda r: r.id)[:limit]
        for row in moved:
            row.state, row.reason, row.lease = "buried", reason, 0
        return len(moved)

    def move_jobs(self, pipeline: str, target: str, state: str, limit: int) -> int:
        taken = {r.unique for r in self._in(target)} - {None}
        chosen = (r for r in self._in(pipeline) if r.state == state and r.unique not in taken)
        moved = sorted(chosen, key=lambda r: r.id)[:limit]
        for row in moved:
            row.pipeline = target
        return len(moved)

    def counts(self, pipeline: str) -> dict[str, int]:
        """As `stats` tells them: a due job counts as ready though nobody has moved it yet."""
        rows = list(self._in(pipeline))
        due = sum(r.state == "delayed" and r.run_at <= self.now for r in rows)
        return {
            "ready": sum(r.state == "ready" for r in rows) + due,
            "delayed": sum(r.state == "delayed" for r in rows) - due,
            "reserved": sum(r.state == "reserved" for r in rows),
            "buried": sum(r.state == "buried" for r in rows),
        }

    def _in(self, pipeline: str) -> list[Row]:
        return [row for row in self.rows.values() if row.pipeline == pipeline]
