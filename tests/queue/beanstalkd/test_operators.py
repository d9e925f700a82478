"""Verbs by hand, and the application's own client."""

from __future__ import annotations

import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
)
from fleet.queue import Queue
from tests import servers

pytestmark = pytest.mark.server


def test_a_delayed_job_is_not_kicked_by_its_id_either(queue: Queue, pipeline: str):
    """kick-job would move it."""
    job_id = queue.put(pipeline, 1, delay=60)
    assert queue.kick(pipeline, ids=[job_id, 0, 2**62]) == 0
    assert queue.stats(pipeline).delayed == 1
    assert queue.discard(pipeline + "-other", "delayed", ids=[job_id]) == 0
    assert queue.discard(pipeline, "delayed", ids=[job_id]) == 1
    assert queue.find(2**62) is None


def test_the_pause_of_an_empty_pipeline_is_remembered(queue: Queue, rival: Queue, pipeline: str):
    """The server forgets a tube that nobody refers to, so the one who paused it goes on watching it."""
    queue.pause(pipeline, 60)
    assert pipeline in rival.pipelines()
    rival.put(pipeline + "-other", 1)
    queue.put(pipeline + "-other", 1)
    rival.put(pipeline, 1)
    assert rival.reserve(pipeline) is None
    queue.resume(pipeline)
    assert rival.reserve_many(pipeline, 1, timeout=1)
    queue.discard(pipeline + "-other", "ready")


def test_a_pause_in_its_last_second_is_still_a_pause(queue: Queue, pipeline: str):
    """The server rounds what is left down to 0."""
    queue.put(pipeline, 1)
    queue.pause(pipeline, 1)
    assert queue.stats(pipeline).paused == 1
    assert queue.discard(pipeline, "ready") == 1


@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_a_greenstalk_client_is_used_and_left_as_it_was(own: servers.Server, encoding: str | None):
    """What it uses and watches is the caller's; a put of his must not land in our pipeline."""
    import greenstalk

    client = greenstalk.Client(("127.0.0.1", own.port), encoding=encoding, use="his", watch=["his", "hers"])
    client._sock.settimeout(7)
    queue = fleet.connect(connection=client)
    queue.put_many("ours", [{"n": 1}, {"n": 2}])
    first, second = queue.reserve_many("ours", 2)
    assert (first.data, first.ttr, first.attempt) == ({"n": 1}, 60, 1)
    first.delete()
    second.bury()
    assert queue.kick("ours") == 1
    assert queue.stats("ours").ready == 1
    assert (client.using(), client.watching()) == ("his", ["his", "hers"])
    assert client._sock.gettimeout() == 7
    client.put(b"x" if encoding is None else "x")
    assert queue.stats("his").ready == 1
    assert queue.reserve("ours", timeout=0.1) is not None
    queue.close()
    assert client.stats_tube("his")["current-jobs-ready"] == 1
    client.close()


def test_a_greenstalk_client_that_is_closed_is_said_to_be(own: servers.Server):
    import greenstalk

    client = greenstalk.Client(("127.0.0.1", own.port))
    queue = fleet.connect(connection=client)
    client.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        queue.put("emails", 1)
    with pytest.raises(BackendUnavailable, match="closed"):
        queue.reserve("emails")
