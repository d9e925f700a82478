"""beanstalkd only: its fence, its counters, its log, and connections that die in the middle of a call."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    DsnError,
    LeaseLost,
    NotSupported,
    OutcomeUnknown,
    PayloadTooLarge,
    PutUnknown,
)
from fleet.queue import Queue
from fleet.queue.backends.beanstalkd import sockets
from fleet.queue.backends.beanstalkd.protocol import Link
from fleet.queue.backends.beanstalkd.server import judge, overlooks_leases, syncs_always
from fleet.queue.consumer import Consumer
from fleet.queue.job import Job, Pulse, Settlement
from tests import servers
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.server


class Liar(Proxy):
    """A proxy that puts words into the server's mouth."""

    garbage = b""

    def _pass(self, source: socket.socket) -> None:
        sink, kind = self._peers[source]
        if kind == "replies" and self.garbage:
            source.recv(65536)
            words, self.garbage = self.garbage, b""
            sink.sendall(words)
        else:
            super()._pass(source)


@pytest.fixture
def own() -> Iterator[servers.Server]:
    """A server of the test's own, in memory, to be stopped and started again."""
    with servers.beanstalkd() as server:
        yield server


@pytest.fixture
def dsn(beanstalkd_dsn: str) -> str:
    return beanstalkd_dsn


@pytest.fixture
def pipeline(request: pytest.FixtureRequest) -> str:
    return f"bs-{request.node.name.partition('[')[0][:100]}"


@pytest.fixture
def proxied(own: servers.Server) -> Iterator[tuple[Queue, Liar]]:
    """A queue that speaks through a proxy."""
    with Liar(own.port) as proxy, fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}") as queue:
        queue.put("warm-up", 1)  # the first put of a connection asks for more than the others
        yield queue, proxy


def _counter(queue: Queue, name: str) -> int:
    def ask(link: Link) -> int:
        link.send(b"stats\r\n")
        return int((link.table() or {})[name])

    return queue.backend._links.again(ask)  # type: ignore[attr-defined,no-any-return]


# -- what it says of itself


def test_it_says_what_it_cannot_do(queue: Queue, pipeline: str):
    able = queue.capabilities
    assert able.filters
    assert not any(
        (
            able.subsecond,
            able.late_settle,
            able.unique,
            able.uid,
            able.reasons,
            able.fresh_budget,
            able.touch_ttr,
            able.transactions,
            able.tables,
        )
    )
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    pulse = Pulse(host="h", process="p", pid=1, pipeline=pipeline, state="idle")
    impossible: list[Callable[[], object]] = [
        lambda: queue.publish(pulse),
        queue.pulses,
        queue.migrate,
        lambda: queue.touch(job, 60),
        lambda: queue.discard(pipeline, "reserved"),
        lambda: queue.peek(pipeline, "reserved"),
        lambda: queue.kick(pipeline, reason="x%"),
        lambda: queue.backend.restore([job], "memo", "value"),
        lambda: queue.backend.recall("memo"),
    ]
    for verb in impossible:
        with pytest.raises(NotSupported):
            verb()
    job.delete()


def test_the_largest_payload_is_the_servers_own():
    """-z, read from the server, not the default of its manual."""
    with servers.beanstalkd("-z", "200000") as server, fleet.connect(server.dsn) as queue:
        assert queue.capabilities.max_payload == 200_000
        queue.put("big", b"x" * 200_000)
        with pytest.raises(PayloadTooLarge):
            queue.put("big", b"x" * 200_001)


def test_a_limit_that_shrank_is_noticed():
    """The server refuses in words, keeps in step, and the new limit is known from then on."""
    with servers.beanstalkd("-z", "200000") as server, fleet.connect(server.dsn) as queue:
        server.stop()
        server._command[server._command.index("200000")] = "1000"
        server.start()
        time.sleep(0.1)  # a silent connection is looked at before it is used
        with pytest.raises(PayloadTooLarge):
            queue.put("big", b"x" * 2000)
        assert queue.capabilities.max_payload == 1000
        queue.put("big", b"still in step")
        job = queue.reserve("big")
        assert job is not None
        assert job.payload == b"still in step"


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def test_a_unix_socket_will_do(tmp_path: Path):
    path = f"/tmp/fleet-bs-{os.getpid()}.sock"
    server = subprocess.Popen([servers._program("beanstalkd", "beanstalkd"), "-l", f"unix:{path}"])
    try:
        eventually(lambda: _listens(path))  # the file is there before anybody listens at it
        with fleet.connect(f"beanstalkd://?unix_socket={path}") as queue:
            queue.put("local", 1)
            assert queue.info().location == f"beanstalkd://?unix_socket={path}"
    finally:
        server.terminate()
        server.wait()
        Path(path).unlink(missing_ok=True)


@pytest.mark.parametrize("value", ["-1", "0", "soon"])
def test_a_strange_time_out_is_refused(value: str):
    with pytest.raises(DsnError, match="connect_timeout"):
        fleet.connect(f"beanstalkd://127.0.0.1:1?connect_timeout={value}")


# -- durability


@pytest.mark.parametrize(
    ("flags", "level"),
    [((), "memory"), (("-b",), "server"), (("-b", "-F"), "server"), (("-b", "-f0"), "power")],
)
def test_the_level_in_force_is_told(flags: tuple[str, ...], level: str, tmp_path: Path):
    """P19: no log is memory; only -f 0 survives a power cut, and it is believed when it can be seen."""
    folder = tmp_path / "log"
    folder.mkdir()
    given = [part for flag in flags for part in ((flag, str(folder)) if flag == "-b" else (flag,))]
    with servers.beanstalkd(*given) as server, fleet.connect(server.dsn) as queue:
        info = queue.info()
        assert info.durability == level
        told = [note for note in info.notes if "overlooks" not in note]
        assert bool(told) == (level != "power")


@pytest.mark.parametrize(
    ("arguments", "always"),
    [
        ([], False),
        (["-b", "/d"], False),
        (["-b", "/d", "-f", "0"], True),
        (["-b/d", "-f0"], True),
        (["-Vf0", "-b/d"], True),
        (["-f0", "-f", "50"], False),
        (["-f0", "-F"], False),
        (["-F", "-f0"], True),
        (["-b", "-f0"], False),  # a folder of that name
        (["-f"], False),
    ],
    ids=str,
)
def test_its_command_line_is_read_as_it_reads_it_itself(arguments: list[str], always: bool):
    assert syncs_always(arguments) == always


@pytest.mark.parametrize("is_local", [True, False])
def test_a_server_of_another_host_is_told_to_be_open(is_local: bool):
    """S16: it asks nobody for a password, which matters once it is no longer reached over loopback."""
    stats = {"binlog-current-index": "0", "version": "1.12", "draining": "false"}
    _, notes = judge(stats, log_is_broken=False, is_local=is_local)
    assert any("asks nobody for a password" in note for note in notes) == (not is_local)


def test_the_fault_of_known_versions_is_told(queue: Queue):
    """Up to 1.13 the end of a lease is mostly overlooked while its connection is silent."""
    assert [overlooks_leases(v) for v in ("1.9", "1.12+8.g1", "1.13", "1.14", "2.0", "dev")] == [
        *(True, True, True),
        *(False, False, False),
    ]
    info = queue.info()
    assert any("overlooks" in note for note in info.notes) == overlooks_leases(info.version)


@pytest.fixture
def ailing(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server with a log, and a shell around it that lets it survive a file that may not grow."""
    port = servers._free_port()
    program = servers._program("beanstalkd", "beanstalkd")
    line = f'trap "" XFSZ; exec {program} -l 127.0.0.1 -p {port} -b {tmp_path} -f 0'
    server = subprocess.Popen(["sh", "-c", line], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield f"beanstalkd://127.0.0.1:{port}", psutil.Process(server.pid)
    finally:
        server.kill()
        server.wait()


def test_a_log_that_is_no_longer_written_is_noticed(ailing: tuple[str, psutil.Process]):
    """F31: after one write error beanstalkd goes on answering INSERTED, and those jobs die with it."""
    dsn, server = ailing
    with fleet.connect(dsn) as queue, fleet.connect(dsn) as worker:
        queue.put("kept", 1)
        server.rlimit(resource.RLIMIT_FSIZE, (64, 64))
        with pytest.raises(PutUnknown, match="stored buried"):
            queue.put("failing", 2)
        # From here on it answers INSERTED again.  A new producer notices with its first put.
        with fleet.connect(dsn) as fresh, pytest.raises(PutUnknown, match="stopped writing its log"):
            fresh.put("memory-only", 3)
        time.sleep(1.1)  # an old one with its first put of the next second
        with pytest.raises(PutUnknown, match="stopped writing its log"):
            queue.put_many("memory-only", [4, 5])
        with pytest.raises(BackendUnavailable, match="put is refused"):
            queue.put("memory-only", 6)
        info = queue.info()
        assert info.durability == "memory"
        assert "stopped writing its log" in info.notes[0]
        job = worker.reserve("kept")  # workers go on
        assert job is not None
        assert worker.stats("memory-only").ready == 3


# -- the fence


def test_an_old_handle_does_not_touch_the_job_that_has_its_number_now(own: servers.Server):
    """Ids start again when a server without a log is restarted, and anybody may delete a ready job."""
    with fleet.connect(own.dsn) as queue:
        queue.put("emails", "old")
        old = queue.reserve("emails")
        own.stop()
        own.start()
        time.sleep(0.1)  # a silent connection is looked at before it is used
        assert queue.put("emails", "new") == old.id  # type: ignore[union-attr]
        for verb in (old.delete, old.release, old.bury, old.touch):  # type: ignore[union-attr]
            with pytest.raises(LeaseLost):
                verb()
        assert queue.stats("emails").ready == 1


@pytest.mark.parametrize("known", [False, True], ids=["never-looked-at", "looked-at"])
def test_a_late_delete_does_not_remove_what_another_worker_put_back(
    queue: Queue, rival: Queue, pipeline: str, known: bool
):
    """The hole in beanstalkd's own fence: it deletes any job that is not reserved, for anybody."""
    queue.put(pipeline, 1, ttr=1)
    mine = queue.reserve(pipeline)
    assert mine is not None
    if known:
        assert mine.ttr == 1
    time.sleep(1.1)
    queue.stats(pipeline)  # beanstalkd looks at a silent connection's leases when it speaks
    theirs = rival.reserve(pipeline, timeout=2)
    assert theirs is not None
    theirs.release()
    with pytest.raises(LeaseLost):
        mine.delete()
    assert queue.stats(pipeline).ready == 1
    assert queue.discard(pipeline, "ready") == 1


def test_two_leases_of_one_connection_are_told_apart(queue: Queue, pipeline: str):
    """To the server both are the same holder."""
    queue.put(pipeline, 1)
    first = queue.reserve(pipeline)
    assert first is not None
    first.release()
    second = queue.reserve(pipeline)
    assert second is not None
    assert second.id == first.id
    for verb in (first.delete, first.release, first.bury, first.touch):
        with pytest.raises(LeaseLost):
            verb()
    second.delete()


def test_a_job_named_twice_in_a_batch_is_settled_once(queue: Queue, pipeline: str):
    queue.put(pipeline, 1)
    jobs = queue.reserve_many(pipeline, 1)
    verdicts, _ = queue.exchange([Settlement(job=jobs[0], verb="delete")] * 2, (), 0)
    assert verdicts == [True, False]


def test_a_job_of_another_queue_is_not_settled(queue: Queue, pipeline: str):
    with fleet.connect("sqlite:///:memory:") as other:
        other.put(pipeline, 1)
        job = other.reserve(pipeline)
        assert job is not None
        with pytest.raises(LeaseLost):
            queue.delete(job)


# -- what a reserve does not tell


def test_a_drain_asks_nothing_about_its_jobs(queue: Queue, pipeline: str):
    """A stats-job for each would double the work of the server."""
    queue.put_many(pipeline, range(200))
    before = _counter(queue, "cmd-stats-job")
    jobs = queue.reserve_many(pipeline, 100)
    jobs = queue.reserve_many(pipeline, 100, settle=jobs)
    assert repr(jobs[0]) == f"<Job {jobs[0].id} {pipeline} reserved>"
    assert queue.settle(deleted=jobs) == []
    assert _counter(queue, "cmd-stats-job") == before


def test_the_first_look_asks_for_the_whole_batch(queue: Queue, pipeline: str):
    queue.put_many(pipeline, range(5), priority=3, ttr=30)
    jobs = queue.reserve_many(pipeline, 5)
    before = _counter(queue, "cmd-stats-job")
    assert [(job.priority, job.ttr, job.attempt, job.crashes) for job in jobs] == [(3, 30, 1, 0)] * 5
    assert _counter(queue, "cmd-stats-job") == before + 5
    queue.settle(deleted=jobs)
    assert jobs[0].attempt == 1  # what was known stays known


def test_what_nobody_asked_in_time_is_not_made_up(queue: Queue, pipeline: str):
    queue.put(pipeline, 1, priority=7)
    job = queue.reserve(pipeline)
    assert job is not None
    job.delete()
    assert (job.attempt, job.crashes, job.failures, job.lost) == (0, 0, 0, False)


def test_failures_and_crashes_are_read_from_the_servers_counters(
    queue: Queue, beanstalkd_dsn: str, pipeline: str
):
    """Releases and buries are failures; a reservation that ended otherwise was a crash."""
    queue.put(pipeline, 1)
    for _ in range(2):
        job = queue.reserve(pipeline)
        assert job is not None
        job.release()
    with fleet.connect(beanstalkd_dsn) as dying:
        assert dying.reserve(pipeline) is not None
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    assert (job.attempt, job.crashes, job.failures) == (4, 1, 2)
    job.bury()
    peeked = queue.peek_buried(pipeline)
    assert peeked is not None
    assert (peeked.attempt, peeked.crashes, peeked.failures) == (4, 1, 3)


def test_what_was_never_begun_is_told_from_a_failure(queue: Queue, beanstalkd_dsn: str, pipeline: str):
    """Given back any number of times, also between failures, crashes and kicks: only these are counted."""

    def taken() -> Job:
        job = queue.reserve(pipeline, timeout=2)
        assert job is not None
        return job

    def give_back(times: int) -> None:
        for _ in range(times):
            back = Settlement(job=taken(), verb="release", counted=False)
            assert queue.exchange([back], (), 0) == ([True], [])

    def counts(job: Job) -> tuple[int, int, int]:
        return job.attempt, job.crashes, job.failures

    job_id = queue.put(pipeline, 1, priority=7)
    give_back(4)
    job = taken()
    assert counts(job) == (1, 0, 0)
    assert job.priority == 7
    job.release()
    give_back(3)
    with fleet.connect(beanstalkd_dsn) as dying:
        assert dying.reserve(pipeline) is not None
    give_back(2)
    job = taken()
    assert counts(job) == (3, 1, 1)
    job.bury()
    assert queue.kick(pipeline, ids=[job_id]) == 1
    give_back(2)
    assert counts(taken()) == (2, 0, 1)  # the kick forgave the crash, and the failure of the bury


def test_jobs_given_back_keep_their_order(queue: Queue, pipeline: str):
    """A batch goes back as one, none of it waits for its delay, and the claim beside it comes after it."""
    queue.put_many(pipeline, range(50))
    jobs = queue.reserve_many(pipeline, 50)
    jobs[20].delete()
    batch = [Settlement(job=job, verb="release", counted=False) for job in jobs]
    verdicts, again = queue.exchange(batch, pipeline, 50)
    assert [index for index, taken in enumerate(verdicts) if not taken] == [20]
    assert [job.data for job in again] == [n for n in range(50) if n != 20]
    assert {job.attempt for job in again} == {1}


def test_a_worker_gives_back_what_waits_behind_a_slow_job(queue: Queue, rival: Queue, pipeline: str):
    """It had claimed ahead: after 50 ms in one job the others are free, and none has lost an attempt."""
    queue.put_many(pipeline, range(200))
    consumer = Consumer(queue, (pipeline,))
    try:
        for _ in range(60):  # short jobs: it claims far ahead
            job = consumer.take(1)
            assert job is not None
            consumer.settle(Settlement(job=job, verb="delete"))
        assert consumer.take(1) is not None  # and now a long one
        eventually(lambda: queue.stats(pipeline).ready == 139)
        others = rival.reserve_many(pipeline, 139)
        assert {job.attempt for job in others} == {1}
    finally:
        consumer.close()


def test_a_job_that_came_when_the_queue_closed_is_given_back(
    queue: Queue, beanstalkd_dsn: str, pipeline: str
):
    """A wait had taken it, and nobody claimed it: that is no crash."""
    with fleet.connect(beanstalkd_dsn) as leaving:
        queue.put(pipeline, 1)
        leaving.wait(pipeline, 2)
        assert queue.stats(pipeline).reserved == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes) == (1, 0)


def test_a_kick_gives_one_more_try(queue: Queue, beanstalkd_dsn: str, pipeline: str):
    """Its counters never go back; each kick forgives one failure and one crash."""
    job_id = queue.put(pipeline, 1)
    for _ in range(3):
        with fleet.connect(beanstalkd_dsn) as dying:
            assert dying.reserve(pipeline, timeout=2) is not None
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    assert (job.attempt, job.crashes) == (4, 3)
    job.bury("crashed")
    assert queue.kick(pipeline, ids=[job_id]) == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes, job.failures) == (3, 2, 0)
    job.delete()


# -- waiting


def test_a_waiting_reserve_does_not_hold_up_other_threads(queue: Queue, rival: Queue, pipeline: str):
    """The blocking reserve has a connection of its own: puts and heartbeats go on beside it."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    waiting = threading.Thread(target=queue.reserve, args=(pipeline + "-empty", 2))
    waiting.start()
    time.sleep(0.1)
    started = time.monotonic()
    for _ in range(20):
        queue.put(pipeline, 2)
        job.touch()
    assert time.monotonic() - started < 1
    waiting.join()
    job.delete()
    queue.discard(pipeline, "ready")


def test_a_job_that_comes_while_waiting_is_not_lost(queue: Queue, rival: Queue, pipeline: str):
    """A wait reserves; the claim that follows hands that very job out, with the facts of its own pipeline."""
    first, second = f"{pipeline}-1", f"{pipeline}-2"
    timer = threading.Timer(0.2, rival.put, args=(second, "here"), kwargs={"ttr": 30})
    timer.start()
    queue.wait([first, second], 1)
    timer.join()
    assert queue.stats(second).reserved == 1
    job = queue.reserve([first, second])
    assert job is not None
    assert (job.pipeline, job.data, job.ttr) == (second, "here", 30)
    job.delete()


def test_a_job_that_nobody_comes_for_is_given_back(queue: Queue, rival: Queue, pipeline: str):
    rival.put(pipeline, "here")
    queue.wait(pipeline, 1)
    assert queue.reserve(pipeline + "-other") is None
    assert queue.stats(pipeline).reserved == 1  # somebody may be on his way
    time.sleep(1.1)
    assert queue.reserve(pipeline + "-other") is None
    assert queue.stats(pipeline).ready == 1
    assert queue.discard(pipeline, "ready") == 1


def test_abandoned_leases_pin_no_connections(queue: Queue, rival: Queue, pipeline: str):
    """A handle that is dropped without a verb costs its ttr, and nothing after that."""
    before = _counter(rival, "current-connections")
    for n in range(5):
        rival.put(pipeline, n, ttr=1)
        assert queue.reserve(pipeline, timeout=2) is not None
        time.sleep(1.05)
        queue.stats(pipeline)
        assert rival.discard(pipeline, "ready") == 1
    assert _counter(rival, "current-connections") <= before + 2


def test_a_wait_below_a_second_takes_no_job_afterwards(queue: Queue, rival: Queue, pipeline: str):
    """The server counts whole seconds: what is left of one must not swallow a job."""
    for _ in range(3):
        assert queue.reserve(pipeline, timeout=0.1) is None
    rival.put(pipeline, 1)
    time.sleep(0.1)
    assert queue.stats(pipeline).ready == 1
    job = rival.reserve(pipeline)
    assert job is not None
    assert (job.attempt, job.crashes) == (1, 0)
    job.delete()


def test_a_parked_job_whose_lease_is_over_is_not_handed_out(queue: Queue, pipeline: str):
    """It may be another worker's by now: it is claimed again, with a lease that holds."""
    queue.put(pipeline, b"x", ttr=1)
    queue.wait(pipeline, 5)
    time.sleep(1.1)
    job = queue.reserve(pipeline, timeout=3)
    assert job is not None
    job.delete()


def test_a_wait_ends_when_it_is_woken(queue: Queue, pipeline: str):
    threading.Timer(0.1, queue.wake).start()
    started = time.monotonic()
    queue.wait(pipeline, 1)
    assert time.monotonic() - started < 0.6


def test_a_job_is_picked_up_at_once(queue: Queue, rival: Queue, pipeline: str):
    """The put wakes the waiting worker; no poll lies between."""
    taken: list[float] = []

    def work() -> None:
        for _ in range(20):
            job = queue.reserve(pipeline, timeout=5)
            taken.append(time.monotonic())
            assert job is not None
            job.delete()

    worker = threading.Thread(target=work)
    worker.start()
    late = []
    for n in range(20):
        time.sleep(0.03)
        put_at = time.monotonic()
        rival.put(pipeline, n)
        eventually(lambda n=n: len(taken) > n, every=0.001)
        late.append(taken[n] - put_at)
    worker.join()
    assert sorted(late)[10] < 0.05


def test_a_lease_about_to_end_makes_no_tight_loop(queue: Queue, pipeline: str):
    """In the last second of a lease beanstalkd answers its holder's reserves with DEADLINE_SOON, at once."""
    queue.put(pipeline, 1, ttr=1)
    assert queue.reserve(pipeline) is not None
    before = _counter(queue, "cmd-reserve-with-timeout")
    queue.reserve(pipeline + "-empty", timeout=1.5)
    assert _counter(queue, "cmd-reserve-with-timeout") - before < 15
    job = queue.reserve(pipeline, timeout=2)
    assert job is not None
    job.delete()


# -- connections that die


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
    monkeypatch.setattr(sockets, "_TIME_OUT", struct.pack("ll", 0, 300_000))
    with Proxy(own.port) as proxy, fleet.connect(f"beanstalkd://127.0.0.1:{proxy.port}") as queue:
        queue.put("emails", 1)
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(PutUnknown, match="no answer"):
            queue.put("emails", 2)
        assert time.monotonic() - started < 3
        proxy.stall(False)


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


# -- operators


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


# -- the caller's own client


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
