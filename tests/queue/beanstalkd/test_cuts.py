"""Connections that die in the middle of a call, and servers that hang."""

from __future__ import annotations

import contextlib
import signal
import time

import psutil
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    LeaseLost,
    OutcomeUnknown,
    PutUnknown,
)
from fleet.queue import Queue
from fleet.queue.backends.beanstalkd import links
from tests import servers
from tests.proxy import Proxy
from tests.queue.beanstalkd.tools import Liar

pytestmark = pytest.mark.server


def test_a_server_restarted_while_nobody_spoke_goes_unnoticed(own: servers.Server):
    with fleet.connect(own.dsn) as queue:
        queue.put("emails", 1)
        own.stop()
        own.start()
        time.sleep(0.1)
        assert queue.put("emails", 2) == 1
        assert queue.stats("emails").ready == 1


def test_a_server_that_is_away_is_said_to_be(own: servers.Server):
    """A dead server is never an empty queue, and it is used again as soon as it is back."""
    with fleet.connect(f"{own.dsn}?connect_timeout=0.5") as queue:
        job_id = queue.put("emails", 1)
        own.stop()
        for verb in (
            lambda: queue.reserve("emails"),
            lambda: queue.stats("emails"),
            lambda: queue.put("emails", 2),
        ):
            started = time.monotonic()
            with pytest.raises((BackendUnavailable, PutUnknown), match=str(own.port)):
                verb()
            assert time.monotonic() - started < 2
        own.start()
        assert queue.put("emails", 3) == job_id
    own.stop()
    with pytest.raises(BackendUnavailable, match="Check that beanstalkd runs"):
        fleet.connect(own.dsn)


def test_a_put_whose_answer_is_lost_is_unknown(proxied: tuple[Queue, Liar]):
    """P6: never a silent success, never a silent retry that could duplicate; and no uid to ask by."""
    queue, proxy = proxied
    proxy.cut_after(replies=0)
    with pytest.raises(PutUnknown, match="twice") as caught:
        queue.put("emails", 1)
    assert caught.value.uids == ()
    assert proxy.cuts == 1
    assert queue.stats("emails").ready == 1


def test_a_put_that_did_not_reach_the_server_is_unknown_too(proxied: tuple[Queue, Liar]):
    queue, proxy = proxied
    proxy.cut_after(requests=20)
    with pytest.raises(PutUnknown):
        queue.put("emails", b"x" * 100)
    assert proxy.cuts == 1
    assert queue.stats("emails").ready == 0
    queue.put("emails", 1)
    assert queue.stats("emails").ready == 1


def test_put_many_tells_how_much_was_stored(proxied: tuple[Queue, Liar]):
    queue, proxy = proxied
    proxy.cut_after(replies=20_000)
    with pytest.raises(PutUnknown, match=r"1,000 of 5,000 payloads|1,500 of 5,000 payloads|500 of 5,000"):
        queue.put_many("emails", range(5000))
    assert proxy.cuts == 1
    assert 500 <= queue.stats("emails").ready < 5000


def test_a_delete_whose_answer_is_lost_is_a_lost_lease(proxied: tuple[Queue, Liar]):
    """The lease went with the connection; whether the job did is told by nobody."""
    queue, proxy = proxied
    queue.put_many("emails", range(3))
    jobs = queue.reserve_many("emails", 3)
    proxy.cut_after(replies=9)  # one DELETED comes through
    lost = queue.settle(deleted=jobs)
    assert proxy.cuts == 1
    assert lost == jobs  # the answers are read together
    with pytest.raises(LeaseLost):
        jobs[1].touch()


def test_a_claim_whose_answer_is_lost_is_made_again(proxied: tuple[Queue, Liar]):
    """The server makes the jobs of a connection ready again the moment it ends."""
    queue, proxy = proxied
    queue.put_many("emails", range(3))
    proxy.cut_after(replies=5)
    jobs: list[fleet.Job] = []
    for _ in range(50):
        jobs += queue.reserve_many("emails", 3 - len(jobs), timeout=0.1)
        if len(jobs) == 3:
            break
    assert proxy.cuts == 1
    assert sorted(job.data for job in jobs) == [0, 1, 2]
    assert queue.settle(deleted=jobs) == []


def test_an_operators_verb_that_is_cut_is_unknown(proxied: tuple[Queue, Liar]):
    queue, proxy = proxied
    queue.put("emails", 1, delay=60)
    proxy.cut_after(replies=0)
    with pytest.raises(OutcomeUnknown, match="again is safe"):
        queue.discard("emails", "delayed")
    assert proxy.cuts == 1
    assert queue.discard("emails", "delayed") == 1


def test_a_look_that_is_cut_is_taken_again(proxied: tuple[Queue, Liar]):
    queue, proxy = proxied
    queue.put("emails", 1)
    for look in (
        lambda: queue.stats("emails"),
        lambda: queue.peek_ready("emails"),
        queue.pipelines,
        queue.info,
    ):
        proxy.cut_after(replies=3)
        assert look()
    assert proxy.cuts == 4


@pytest.mark.parametrize(
    "words",
    [
        b"BAD_FORMAT\r\n",
        b"UNKNOWN_COMMAND\r\n",
        b"EXPECTED_CRLF\r\n",
        b"INTERNAL_ERROR\r\n",
        b"DELETED\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"x" * 5000,
        b"OK 99999999999\r\n",
        b"FOUND 1\r\n",
        b"RESERVED x y\r\n",
    ],
    ids=lambda words: words[:15].decode().strip(),
)
def test_after_an_answer_that_cannot_be_the_connection_is_closed(proxied: tuple[Queue, Liar], words: bytes):
    """F45: a reply out of step would be taken for the answer to the next command."""
    queue, proxy = proxied
    for verb in (
        lambda: queue.put("emails", 1),
        lambda: queue.reserve("emails"),
        lambda: queue.pause("x", 1),
    ):
        verb()  # from here on no use, watch or ignore goes before it
        link = queue.backend._links.main  # type: ignore[attr-defined]
        proxy.garbage = words
        with contextlib.suppress(PutUnknown, OutcomeUnknown):
            verb()
        assert not proxy.garbage
        assert link.closed
        assert queue.stats("warm-up").ready == 1


def test_a_server_that_hangs_does_not_hang_us(own: servers.Server, monkeypatch: pytest.MonkeyPatch):
    """F43: half-open connections are given up after some seconds, not never."""
    monkeypatch.setattr(links, "ANSWER_WITHIN", 0.3)
    with Proxy(own.port) as proxy, fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}") as queue:
        queue.put("emails", 1)
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(PutUnknown, match="no answer"):
            queue.put("emails", 2)
        assert time.monotonic() - started < 3
        proxy.stall(False)


def test_a_server_that_takes_connections_and_hangs_is_not_there(own: servers.Server):
    """Its greeting belongs to the connecting, which `connect_timeout` bounds; later answers may be slower."""
    with Proxy(own.port) as proxy:
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"no answer for 0\.4 s"):
            fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}?connect_timeout=0.4")
        assert time.monotonic() - started < 3
        proxy.stall(False)
        with fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}?connect_timeout=0.4") as queue:
            proxy.slow(0.6, 1e6)
            queue.put("emails", 1)


def test_an_exception_in_the_middle_of_a_call_leaves_no_answer_behind(queue: Queue, pipeline: str):
    """Ctrl-C between command and answer: the next command must not get that answer."""

    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    link = queue.backend._links.main  # type: ignore[attr-defined]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt), link:
            link.send(b"reserve-with-timeout 5\r\n")
            link.line()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert link.closed
    queue.put(pipeline, 1)
    assert queue.stats(pipeline).ready == 1
    assert queue.discard(pipeline, "ready") == 1


def test_a_draining_server_takes_no_jobs_and_its_workers_go_on(own: servers.Server):
    """F40: SIGUSR1.  The refusal is an answer, so the connection and its leases stay."""
    with fleet.connect(own.dsn) as queue:
        queue.put("emails", 1)
        job = queue.reserve("emails")
        assert job is not None
        psutil.Process(own.pid).send_signal(signal.SIGUSR1)
        with pytest.raises(BackendUnavailable, match=r"draining.*Nothing was stored"):
            queue.put("emails", 2)
        with pytest.raises(BackendUnavailable, match="draining"):
            queue.put_many("emails", range(2000))
        assert any("draining" in note for note in queue.info().notes)
        job.delete()
        assert queue.stats("emails").ready == 0


def test_much_more_than_the_buffers_hold_goes_through(queue: Queue, pipeline: str):
    """Neither side may wait for the other to read first."""
    payloads = [bytes([n % 256]) * 60_000 for n in range(150)]
    queue.put_many(pipeline, payloads)
    jobs = queue.reserve_many(pipeline, 150)
    assert [job.payload for job in jobs] == payloads
    assert queue.settle(deleted=jobs) == []
