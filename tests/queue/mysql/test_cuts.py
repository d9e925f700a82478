"""Connections that die in the middle of a call, and servers that are away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    DsnError,
    LeaseLost,
    OutcomeUnknown,
    PutUnknown,
    QueueError,
)
from fleet.queue import Queue
from fleet.queue import dsn as dsns
from fleet.queue.job import Job
from tests import servers
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def proxy(mariadb_dsn: str) -> Iterator[Proxy]:
    with Proxy(dsns.parse(mariadb_dsn).port or 3306) as proxy:
        yield proxy


@pytest.fixture
def far(open_queue: Callable[..., Queue], proxy: Proxy) -> Queue:
    """A queue whose connection goes through the proxy."""
    return open_queue(f"mysql://fleet@127.0.0.1:{proxy.port}/fleet?connect_timeout=2")


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_put_that_is_cut_says_that_it_may_be_stored(
    far: Queue, queue: Queue, proxy: Proxy, pipeline: str, acted: bool, count: int
):
    """P6: never success, never a silent second job; the same uids again give one job each."""
    proxy.cut_at(b"INSERT", acted=acted)
    with pytest.raises(PutUnknown) as caught:
        far.put_many(pipeline, range(count))
    assert len(caught.value.uids) == count
    assert "mysql://" in str(caught.value)
    if acted:
        eventually(lambda: queue.stats(pipeline).ready == count, within=5)
    ids = far.put_many(pipeline, range(count), uids=caught.value.uids)
    assert len(set(ids)) == count
    assert queue.stats(pipeline).ready == count
    assert proxy.cuts == 1


@pytest.mark.parametrize("acted", [False, True])
def test_a_claim_whose_answer_was_lost_is_found_by_its_token(
    far: Queue, queue: Queue, proxy: Proxy, pipeline: str, acted: bool
):
    """Nobody has to wait for the ttr, and the settlements of the same step are told truly."""
    queue.put_many(pipeline, range(6))
    first = far.reserve_many(pipeline, 2)
    first[1].delete()
    proxy.cut_at(b"COMMIT", acted=acted)
    second = far.reserve_many(pipeline, 2, settle=first)
    assert proxy.cuts == 1
    assert [job.data for job in second] == [2, 3]
    if acted:
        assert [job.data for job in second.lost] == [1]
    assert [(job.attempt, job.state) for job in second] == [(1, "reserved")] * 2
    assert queue.find(first[0].id) is None
    assert far.settle(deleted=second) == []
    stats = queue.stats(pipeline)
    assert (stats.ready, stats.reserved) == (2, 0)


@pytest.mark.parametrize("acted", [False, True])
def test_a_claim_that_is_cut_before_its_commit_is_made_again(
    far: Queue, queue: Queue, proxy: Proxy, pipeline: str, acted: bool
):
    """The server rolls back, and its locks may hide the rows for a moment: none is lost or doubled."""
    queue.put_many(pipeline, range(3))
    proxy.cut_at(b"BEGIN", acted=acted)
    jobs = far.reserve_many(pipeline, 3, timeout=5)
    assert proxy.cuts == 1
    while len(jobs) < 3:
        jobs += far.reserve_many(pipeline, 3, timeout=5)
    assert [job.data for job in jobs] == [0, 1, 2]
    assert queue.stats(pipeline).reserved == 3


VERBS: dict[str, tuple[bytes, Callable[[Job], None]]] = {
    "delete": (b"DELETE", lambda job: job.delete()),
    "release": (b"UPDATE", lambda job: job.release(delay=60)),
    "bury": (b"UPDATE", lambda job: job.bury("why")),
    "touch": (b"UPDATE", lambda job: job.touch()),
}


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_a_settlement_that_is_cut_is_told_truly(
    far: Queue, queue: Queue, proxy: Proxy, pipeline: str, verb: str, acted: bool
):
    """1.6: retried with its token, it has happened once, and is no lost lease."""
    job_id = queue.put(pipeline, 1)
    job = far.reserve(pipeline)
    assert job is not None
    marker, settle = VERBS[verb]
    proxy.cut_at(marker, acted=acted)
    settle(job)
    assert proxy.cuts == 1
    found = queue.find(job_id)
    states = {"delete": None, "release": "delayed", "bury": "buried", "touch": "reserved"}
    assert (found.state if found else None) == states[verb]


@pytest.mark.parametrize("is_done", [False, True])
def test_a_settlement_that_is_cut_does_not_hide_a_lost_lease(
    far: Queue, queue: Queue, proxy: Proxy, pipeline: str, is_done: bool
):
    """Also when nothing is left that would tell who deleted the job."""
    queue.put(pipeline, 1, ttr=0.05)
    mine = far.reserve(pipeline)
    theirs = queue.reserve(pipeline, timeout=3)
    assert mine is not None
    assert theirs is not None
    if is_done:
        theirs.delete()
    proxy.cut_at(b"DELETE", acted=False)
    with pytest.raises(LeaseLost):
        mine.delete()


@pytest.mark.parametrize("acted", [False, True])
def test_an_operators_verb_that_is_cut_says_so(far: Queue, proxy: Proxy, pipeline: str, acted: bool):
    """Exit 7: nobody can know, and doing it again is safe."""
    far.put(pipeline, 1)
    proxy.cut_at(b"COMMIT", acted=acted)
    with pytest.raises(OutcomeUnknown, match="again is safe"):
        far.discard(pipeline, "ready")
    eventually(lambda: far.discard(pipeline, "ready") == (0 if acted else 1) or True)
    assert far.stats(pipeline).ready == 0


def test_reads_are_simply_asked_again(far: Queue, proxy: Proxy, pipeline: str):
    job_id = far.put(pipeline, 1)
    for ask in (
        lambda: far.find(job_id),
        lambda: far.stats(pipeline),
        lambda: far.peek_ready(pipeline),
        lambda: far.pipelines(),
        lambda: far.pulses(),
    ):
        proxy.cut()
        ask()


def test_a_killed_connection_comes_back_within_the_next_call(far: Queue, db: Any, pipeline: str):
    """KILL, as an administrator or a time-out does it, while the connection rests."""

    def kill() -> None:
        ours = far.backend._link._db.thread_id()  # type: ignore[attr-defined]
        db.execute(f"KILL {ours}")
        db.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s", (ours,))
        eventually(lambda: _gone(db, ours))

    far.put(pipeline, 1)
    kill()
    job = far.reserve(pipeline)
    assert job is not None
    kill()
    job.touch()
    kill()
    job.delete()
    assert far.stats(pipeline).ready == 0


def _gone(db: Any, thread: int) -> bool:
    db.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s", (thread,))
    return bool(db.fetchall()[0][0] == 0)


def test_a_server_that_is_away_is_said_and_never_looks_empty(far: Queue, proxy: Proxy, pipeline: str):
    """The error names the place, comes within connect_timeout, and the next call works again."""
    far.put(pipeline, 1)
    proxy.refuse(True)
    proxy.cut()
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"mysql://fleet@127\.0\.0\.1"):
        far.stats(pipeline)
    with pytest.raises(BackendUnavailable):
        far.reserve(pipeline)
    assert time.monotonic() - started < 8
    proxy.refuse(False)
    assert far.reserve(pipeline) is not None


def test_a_wrong_password_is_refused_at_once_and_not_shown(mariadb_dsn: str):
    at = dsns.parse(mariadb_dsn)
    started = time.monotonic()
    with pytest.raises(DsnError, match="Access denied") as caught:
        fleet.connect(f"mysql://nobody:geheim@{at.host}:{at.port}/fleet")
    assert "geheim" not in str(caught.value)
    assert time.monotonic() - started < 2


@pytest.mark.slow
def test_a_server_that_restarts_loses_nothing_and_keeps_the_lease(pipeline: str):
    with servers.mariadb(durable=True) as server, fleet.connect(server.dsn) as queue:
        queue.put_many(pipeline, range(3))
        job = queue.reserve(pipeline)
        assert job is not None
        server.kill()
        with pytest.raises(QueueError):
            fleet.connect(server.dsn + "?connect_timeout=0.5")
        server.start()
        job.delete()
        assert [job.data for job in queue.reserve_many(pipeline, 5)] == [1, 2]
