"""Where handlers run, at moments that no clock can hit."""

from __future__ import annotations

import pytest

from fleet.queue.job import Job
from fleet.worker import family
from fleet.worker.outcome import JobTimeout
from fleet.worker.slots import Threads


def test_a_blow_just_after_a_handler_ends_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on, and the job ends by it."""
    jobs = [Job(1, "emails", b""), Job(2, "emails", b"")]
    rest = iter(jobs)
    ended: list[tuple[Job, BaseException | None]] = []
    slots = Threads(lambda _: None, 1)

    def late(_since: int, error: BaseException | None) -> None:
        if error is None:
            slots.strike(jobs[0], JobTimeout("too late"))

    monkeypatch.setattr(family, "end_child", late)
    slots.work(lambda: next(rest, None), lambda job, error: ended.append((job, error)))
    assert [job for job, _ in ended] == jobs
    assert isinstance(ended[0][1], JobTimeout)
    assert ended[1][1] is None
