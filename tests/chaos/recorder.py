"""The ledger around a worker's back end: what was asked, and what came back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.errors import BackendUnavailable, OutcomeUnknown
from fleet.queue.backend import Backend
from fleet.queue.job import Job, Settlement
from tests.chaos.ledger import Ledger, now
from tests.chaos.steps import Trap
from tests.chaos.work import uid_of


class Recorder:
    """
    A `Backend` that writes down each claim, settlement and renewal of another.

    Nothing is asked of a job that the back end would have to ask its server
    for: the run must be the one that happens without a recorder.
    """

    def __init__(self, inner: Backend, folder: Path) -> None:
        self._inner = inner
        self._trap = Trap(folder / "steps")
        self._claims = Ledger(folder, f"res-{os.getpid()}")
        self._acks = Ledger(folder, f"ack-{os.getpid()}")
        self._number = 1  # of the next claim
        # beanstalkd's wait may bring a job home, whose lease began while we waited.
        self._waits_lease = inner.name == "beanstalkd"
        self._waited_since = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def wait(self, pipelines: Sequence[str], timeout: float) -> None:
        if self._waits_lease:
            self._waited_since = now()
            self._note_claim(self._number, self._waited_since, "waits")
        self._inner.wait(pipelines, timeout)

    def exchange(
        self, settlements: Sequence[Settlement], pipelines: Sequence[str], limit: int, token: int
    ) -> tuple[list[bool], list[Job]]:
        t0 = now()
        self._note_settlements(settlements, t0, ["sent"] * len(settlements))
        claim, self._number = self._number, self._number + 1
        since = self._waited_since or t0
        if limit:
            self._waited_since = 0
            self._note_claim(claim, since, "asked")
            self._trap.reach("claim.asked")
        if settlements:
            self._trap.reach("settle.asked")
        try:
            verdicts, jobs = self._inner.exchange(settlements, pipelines, limit, token)
        except BaseException as error:
            result = _result(error)
            self._note_settlements(settlements, t0, [result] * len(settlements), now())
            if limit:
                self._note_claim(claim, since, result, t1=now())
            raise
        t1 = now()
        self._note_settlements(settlements, t0, ["ok" if taken else "lost" for taken in verdicts], t1)
        if limit:
            # One line: of a list that kill -9 cut short, the judge would miss the rest.
            found = [(uid_of(job.payload), job.token) for job in jobs]
            self._note_claim(claim, since, "jobs", t1=t1, jobs=found)
        # After the record: what the worker has not been told yet, the judge must know.
        if jobs:
            self._trap.reach("claim.answered")
        if settlements:
            self._trap.reach("settle.answered")
        return verdicts, jobs

    def touch(self, jobs: Sequence[Job], ttr: float | None) -> list[bool]:
        t0 = now()
        try:
            verdicts = self._inner.touch(jobs, ttr)
        except BaseException as error:
            self._note_touches(jobs, t0, [_result(error)] * len(jobs))
            raise
        self._note_touches(jobs, t0, ["ok" if renewed else "lost" for renewed in verdicts])
        return verdicts

    def _note_claim(self, claim: int, t0: int, result: str, **more: Any) -> None:
        self._claims.write(t0=t0, claim=claim, pid=os.getpid(), result=result, **more)

    def _note_settlements(
        self, settlements: Sequence[Settlement], t0: int, results: list[str], t1: int | None = None
    ) -> None:
        for settlement, result in zip(settlements, results, strict=True):
            self._acks.write(
                t0=t0,
                t1=t1,
                uid=uid_of(settlement.job.payload),
                token=settlement.job.token,
                op=settlement.verb,
                delay=settlement.delay,
                counted=settlement.counted,
                result=result,
                pid=os.getpid(),
            )

    def _note_touches(self, jobs: Sequence[Job], t0: int, results: list[str]) -> None:
        t1 = now()
        for job, result in zip(jobs, results, strict=True):
            uid = uid_of(job.payload)
            self._acks.write(t0=t0, t1=t1, uid=uid, token=job.token, op="touch", result=result)


def _result(error: BaseException) -> str:
    """BackendUnavailable promises that nothing happened; every other error promises nothing."""
    if isinstance(error, BackendUnavailable) and not isinstance(error, OutcomeUnknown):
        return "failed"
    return "unknown"
