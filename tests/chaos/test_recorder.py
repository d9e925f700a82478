"""The recorder writes so that kill -9 leaves nothing half said."""

from __future__ import annotations

from pathlib import Path

from fleet.queue.backends import open_backend
from tests.chaos.ledger import read
from tests.chaos.recorder import Recorder


def test_the_answer_to_a_claim_is_one_line(tmp_path: Path) -> None:
    """Of a worker that is killed while it writes, the judge knows all of a claim, or that it was not told."""
    backend = open_backend(f"sqlite:///{tmp_path}/queue.db")
    recorder = Recorder(backend, tmp_path)
    payloads = [b'{"uid": "%s"}' % name for name in (b"a", b"b", b"c")]
    recorder.put("emails", payloads, priority=1024, delay=0, ttr=60, uids=(), unique=None)
    _, jobs = recorder.exchange([], ["emails"], 5, token=7)
    assert len(jobs) == 3

    asked, answered = read(tmp_path, "res")
    assert asked["result"] == "asked"
    assert answered["result"] == "jobs"
    assert answered["jobs"] == [["a", 7], ["b", 7], ["c", 7]]
    recorder.close()
