"""Every verb of a worker, an operator and a screen, for users who may do no more."""

from __future__ import annotations

from fleet.queue import Queue
from fleet.queue.job import Pulse


def use_all(queue: Queue) -> None:
    """As a user with the rights that the error names, and not one more; leaves nothing behind."""
    queue.put("rights", 1, unique="one")
    queue.put_many("rights", range(100))
    job = queue.reserve("rights")
    assert job is not None
    job.touch()
    job.release()
    job = queue.reserve("rights")
    assert job is not None
    job.bury("no")
    assert queue.kick("rights") == 1
    queue.pause("rights", 60)
    queue.resume("rights")
    pulse = Pulse(host="web1", process="rights:00", pid=7, pipeline="rights", state="idle", clock=1.5)
    queue.publish(pulse)
    assert "rights:00" in [each.process for each in queue.pulses()]
    assert queue.minutes(60) == queue.errors(60) == []
    assert queue.stats("rights").ready == 101
    assert queue.info().schema_found == queue.migrate()[1]
    assert queue.discard("rights", "ready") == 101
