"""What only the MySQL back end has to prove: marks, cut connections, the caller's transaction, the server."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    DsnError,
    LeaseLost,
    OutcomeUnknown,
    PayloadTooLarge,
    PutUnknown,
    QueueError,
    SchemaError,
)
from fleet.queue import Queue
from fleet.queue import dsn as dsns
from fleet.queue.backends.mysql import MysqlBackend, mark
from fleet.queue.backends.mysql.claim import Claims
from fleet.queue.backends.mysql.literal import bind, literal
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.job import Job, Settlement
from tests import drivers, servers
from tests.proxy import Proxy
from tests.waiting import eventually
from tests.worker.conftest import Site

pytestmark = pytest.mark.server
_numbers = itertools.count(1)


@pytest.fixture
def pipeline() -> str:
    return f"mysql-{next(_numbers)}"


def driver(dsn: str, **options: Any) -> Any:
    """A connection of the driver, in autocommit mode unless *options* say otherwise."""
    return drivers.connect(dsn, **{"autocommit": True, **options})


@pytest.fixture
def db(mariadb_dsn: str) -> Iterator[Any]:
    connection = driver(mariadb_dsn)
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.fixture
def dsn(mariadb_dsn: str) -> str:
    return mariadb_dsn


# -- the index and the mark ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(mariadb_dsn: str) -> str:
    """A pipeline with 200,000 ready jobs beside as many delayed and buried ones."""
    name = "mysql-crowd"
    fleet.connect(mariadb_dsn).close()
    connection = driver(mariadb_dsn)
    with connection.cursor() as cursor:
        for state in (0, 1, 3):
            cursor.execute(
                "INSERT INTO fleet_jobs (pipeline, state, priority, ttr, run_at, payload) "
                f"SELECT '{name}', {state}, 1024, 60000000, {2**60 if state == 1 else 1}, 'x' "
                "FROM seq_1_to_200000"
            )
    connection.close()
    return name


def test_the_claim_reads_one_index_in_order_and_sorts_nothing(crowd: str, db: Any):
    """A plan with a sort would lock every row it reads, and a second worker would see an empty queue."""
    sql = Statements("fleet")
    for statement in (
        bind(sql.scan, 1, crowd, 1024, 1024, 5, 50),
        bind(sql.below, crowd, 1024, 1024, 5, 50),
        bind(sql.due, crowd, 1, 50),
    ):
        db.execute("EXPLAIN " + statement)
        (row,) = db.fetchall()
        assert row[5] == "turn"
        assert "filesort" not in (row[9] or "")
        assert "temporary" not in (row[9] or "")


def test_a_claim_touches_no_more_rows_than_it_takes(crowd: str, queue: Queue, db: Any):
    jobs = queue.reserve_many(crowd, 3)
    db.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_next'")
    before = int(db.fetchall()[0][1])
    jobs += queue.reserve_many(crowd, 10)
    db.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_next'")
    assert int(db.fetchall()[0][1]) - before < 200
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    queue.settle(released=jobs)


@contextlib.contextmanager
def dead_entries(dsn: str, queue: Queue, pipeline: str, count: int) -> Iterator[None]:
    """*count* taken and deleted jobs whose index entries an old snapshot keeps from being purged."""
    old = driver(dsn)
    with old.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SELECT COUNT(*) FROM fleet_meta")
    queue.put_many(pipeline, [b"x"] * count)
    jobs = queue.reserve_many(pipeline, 500)
    while jobs:
        jobs = queue.reserve_many(pipeline, 500, settle=jobs)
    yield
    old.close()


def test_nothing_that_becomes_ready_before_the_mark_is_hidden(
    mariadb_dsn: str, queue: Queue, rival: Queue, pipeline: str, monkeypatch: pytest.MonkeyPatch
):
    """The very next claim sees an urgent put, a release, a kick and an ended delay, dead entries or not."""
    monkeypatch.setattr(mark, "_OFTEN", 60.0)  # not by luck: no look but those that something asks for
    monkeypatch.setattr(mark, "_SELDOM", 60.0)
    with dead_entries(mariadb_dsn, queue, pipeline, 3_000):
        queue.put_many(pipeline, range(100))
        theirs = rival.reserve_many(pipeline, 10)
        assert queue.reserve(pipeline).data == 10  # type: ignore[union-attr]

        rival.put(pipeline, "urgent", priority=1)
        assert queue.reserve(pipeline).data == "urgent"  # type: ignore[union-attr]

        theirs[0].release()
        assert queue.reserve(pipeline).id == theirs[0].id  # type: ignore[union-attr]

        theirs[1].bury()
        rival.kick(pipeline)
        assert queue.reserve(pipeline).id == theirs[1].id  # type: ignore[union-attr]

        rival.put(pipeline, "soon", priority=0, delay=0.2)
        assert queue.reserve(pipeline).data == 11  # type: ignore[union-attr]
        time.sleep(0.25)
        assert queue.reserve(pipeline).data == "soon"  # type: ignore[union-attr]

        theirs[2].release(delay=0.2)
        assert queue.reserve(pipeline).data == 12  # type: ignore[union-attr]
        time.sleep(0.25)
        assert queue.reserve(pipeline).id == theirs[2].id  # type: ignore[union-attr]


def test_jobs_that_others_took_hide_nothing_that_is_less_urgent(
    queue: Queue, rival: Queue, pipeline: str, monkeypatch: pytest.MonkeyPatch
):
    """A look names jobs of several priorities; when those of the first are gone, the next have their turn."""
    monkeypatch.setattr(mark, "_OFTEN", 60.0)
    monkeypatch.setattr(mark, "_SELDOM", 60.0)
    queue.put(pipeline, "first")
    assert queue.reserve(pipeline)
    rival.put(pipeline, "usual")  # behind the mark
    for priority in (1, 1, 2, 3):
        rival.put(pipeline, priority, priority=priority)
    assert [queue.reserve(pipeline).data, rival.reserve(pipeline).data] == [1, 1]  # type: ignore[union-attr]
    assert [queue.reserve(pipeline).data, rival.reserve(pipeline).data] == [2, 3]  # type: ignore[union-attr]
    assert queue.reserve(pipeline).data == "usual"  # type: ignore[union-attr]


def released_jobs(queue: Queue, rival: Queue, pipeline: str) -> None:
    """Six jobs of two priorities."""
    queue.put_many(pipeline, range(4), priority=7)
    queue.put_many(pipeline, range(40))
    jobs = queue.reserve_many(pipeline, 8)
    assert rival.reserve(pipeline)
    queue.settle(released=jobs[2:])


def urgent_jobs(queue: Queue, rival: Queue, pipeline: str) -> None:
    queue.put_many(pipeline, range(40))
    assert queue.reserve_many(pipeline, 5)
    assert rival.reserve(pipeline)
    queue.put_many(pipeline, range(3), priority=1)


def due_jobs(queue: Queue, rival: Queue, pipeline: str) -> None:
    queue.put_many(pipeline, range(3), delay=0.2)
    queue.put_many(pipeline, range(40))
    assert queue.reserve_many(pipeline, 5)
    assert rival.reserve(pipeline)
    time.sleep(0.25)


@pytest.mark.parametrize("want", [1, 5])
@pytest.mark.parametrize("before_the_marks", [released_jobs, urgent_jobs, due_jobs])
def test_a_claim_locks_no_job_that_it_does_not_take(
    queue: Queue,
    rival: Queue,
    db: Any,
    pipeline: str,
    before_the_marks: Callable[[Queue, Queue, str], None],
    want: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """Rivals step over what is locked, and their marks leave it behind: the order rests on this."""
    monkeypatch.setattr(mark, "_OFTEN", 60.0)  # not by luck: no look but those that something asks for
    before_the_marks(queue, rival, pipeline)
    locked = watch_locks(db, rival, pipeline, monkeypatch)
    taken = rival.reserve_many(pipeline, want)
    assert len(taken) == want
    assert locked <= {
        job.id for job in taken
    }  # nobody sees before the commit what the claim itself made ready


def test_a_look_at_one_pipeline_lets_nothing_go_of_another(
    queue: Queue, rival: Queue, db: Any, pipeline: str, monkeypatch: pytest.MonkeyPatch
):
    """What the first pipeline gave stays locked while the second, where something came back, is looked at."""
    monkeypatch.setattr(mark, "_OFTEN", 60.0)
    second = f"{pipeline}-second"
    for name in (pipeline, second):
        queue.put_many(name, range(3))
    held = queue.reserve_many(second, 2)
    assert [len(rival.reserve_many(name, 1)) for name in (pipeline, second)] == [1, 1]
    held[0].release()
    held[1].release(delay=0.05)
    time.sleep(0.1)
    locked = watch_locks(db, rival, pipeline, monkeypatch)
    taken = rival.reserve_many([pipeline, second], 5)
    assert [(job.pipeline, job.data) for job in taken] == [
        (pipeline, 1),
        (pipeline, 2),
        (second, 0),
        (second, 1),
    ]
    assert locked == {job.id for job in taken if job.pipeline == pipeline}


def test_many_retries_do_not_make_each_claim_look(
    queue: Queue, pipeline: str, monkeypatch: pytest.MonkeyPatch
):
    """A delay that begins, or ends, asks for a look; together they get one in 0.05 seconds at most."""
    monkeypatch.setattr(mark, "_OFTEN", 60.0)
    monkeypatch.setattr(mark, "_SELDOM", 60.0)
    queue.put_many(pipeline, range(100))
    looks: list[float] = []
    look = Claims.look

    def counted(self: Claims, pipeline: str, limit: int, *, inside: bool) -> None:
        looks.append(time.monotonic())
        look(self, pipeline, limit, inside=inside)

    monkeypatch.setattr(Claims, "look", counted)
    began = time.monotonic()
    for _ in range(50):
        job = queue.reserve(pipeline)
        assert job
        job.release(delay=0.001)
    assert len(looks) <= 2 + (time.monotonic() - began) / 0.05
    taken: list[Job] = []
    while len(taken) < 100:
        more = queue.reserve_many(pipeline, 100, timeout=5)
        assert more
        taken += more


def watch_locks(db: Any, queue: Queue, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Collects the ready jobs that are locked after each packet of *queue*."""
    link = queue.backend._link  # type: ignore[attr-defined]
    run = link.run
    locked: set[int] = set()
    select = f"SELECT id FROM fleet_jobs FORCE INDEX (PRIMARY) WHERE pipeline = '{pipeline}' AND state = 0"

    def watched(*statements: str, **options: Any) -> Any:
        results = run(*statements, **options)
        db.execute(select)
        ready = {id_ for (id_,) in db.fetchall()}
        db.execute(f"{select} FOR UPDATE SKIP LOCKED")
        locked.update(ready - {id_ for (id_,) in db.fetchall()})
        return results

    monkeypatch.setattr(link, "run", watched)
    return locked


def test_a_put_that_commits_late_is_found_within_a_second(mariadb_dsn: str, queue: Queue, pipeline: str):
    """An older id in somebody's long transaction lies before the mark; looking from the start finds it."""
    slow = driver(mariadb_dsn, autocommit=False)
    late = fleet.connect(connection=slow).put(pipeline, "late")
    queue.put_many(pipeline, range(3_000))
    jobs = queue.reserve_many(pipeline, 100)
    assert late not in [job.id for job in jobs]
    slow.commit()
    committed_at = time.monotonic()
    while late not in [job.id for job in jobs]:
        assert time.monotonic() - committed_at < 2
        jobs = queue.reserve_many(pipeline, 10, settle=jobs)
        assert jobs
        time.sleep(0.02)
    slow.close()


def test_jobs_of_a_claim_that_was_rolled_back_are_found_again(mariadb_dsn: str, queue: Queue, pipeline: str):
    """Somebody locks the first rows and dies: who stepped over them comes back to them."""
    ids = queue.put_many(pipeline, range(5))
    other = driver(mariadb_dsn, autocommit=False)
    with other.cursor() as cursor:
        cursor.execute(f"SELECT id FROM fleet_jobs WHERE id IN ({ids[0]}, {ids[1]}) FOR UPDATE")
    taken = queue.reserve_many(pipeline, 2)
    assert [job.id for job in taken] == ids[2:4]
    other.close()
    found = eventually(lambda: queue.reserve_many(pipeline, 5), within=3)
    assert {job.id for job in found} <= {ids[0], ids[1], ids[4]}
    left = 3 - len(found)
    assert len(found) == 3 or len(queue.reserve_many(pipeline, 5, timeout=3)) == left


def test_claims_are_exact_where_rows_cannot_be_locked(
    open_queue: Callable[..., Queue], pipeline: str, monkeypatch: pytest.MonkeyPatch
):
    """TiDB accepts SKIP LOCKED and locks nothing: the conditional UPDATE alone must keep rivals apart."""
    real = Statements.__init__

    def without_locks(self: Statements, prefix: str) -> None:
        real(self, prefix)
        for name in ("scan", "pick", "due"):
            setattr(self, name, getattr(self, name).replace("FOR UPDATE SKIP LOCKED", ""))

    monkeypatch.setattr(Statements, "__init__", without_locks)
    count = 300
    open_queue().put_many(pipeline, range(count))
    taken: list[int] = []

    def work(mine: Queue) -> None:
        while jobs := mine.reserve_many(pipeline, 7) or mine.reserve_many(pipeline, 7, timeout=0.3):
            taken.extend(job.data for job in jobs)
            assert mine.settle(deleted=jobs) == []

    threads = [threading.Thread(target=work, args=(open_queue(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(count))


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE fleet_jobs; -- ",
        "\\",
        "\\'",
        '"',
        "\x1a\r\n",
        "%s %d %",
        "naïve ☃ 𝄞",
        "a\u00a0",
        "`",
        "/*",
    ],
    ids=repr,
)
@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES"])
def test_no_text_is_ever_read_as_sql(db: Any, text: str, mode: str):
    """Whatever the sql_mode says about quotes and backslashes: values hold no character that SQL knows."""
    db.execute(f"SET SESSION sql_mode = '{mode}'")
    db.execute(f"SELECT CONVERT({literal(text)} USING utf8mb4), {literal(text.encode())}")
    assert db.fetchall() == ((text, text.encode()),)


def test_keys_differ_by_case_and_by_trailing_blanks(queue: Queue, pipeline: str):
    """Most collations call these equal, and would hand out somebody else's job."""
    keys = ["key", "Key", "key ", "kéy", "k\u0065\u0301y", "key\\", "x" * 255, "☃" * 255]
    ids = [queue.put(pipeline, n, unique=key) for n, key in enumerate(keys)]
    assert len(set(ids)) == len(keys)
    assert [queue.put(pipeline, n, unique=key) for n, key in enumerate(keys)] == ids
    jobs = queue.reserve_many(pipeline, 20)
    assert [job.unique for job in jobs] == keys


def test_a_reason_filter_takes_backslash_and_bar_as_they_are(queue: Queue, pipeline: str):
    """% and _ alone are special, and upper and lower case differ."""
    for n, reason in enumerate(["C:\\temp", "a|b", "100%", "ÄRGER"]):
        queue.put(pipeline, n)
        queue.reserve(pipeline).bury(reason)  # type: ignore[union-attr]
    for pattern, count in (("C:\\%", 1), ("_|b", 1), ("%|%", 1), ("%\\%", 1), ("ärger", 0), ("ÄRG_R", 1)):
        assert len(queue.peek(pipeline, "buried", 10, reason=pattern)) == count


def test_ids_of_puts_at_the_same_time_belong_to_their_payloads(
    open_queue: Callable[..., Queue], pipeline: str
):
    """The ids are computed from the first: that must hold while others insert."""
    got: dict[int, list[int]] = {}

    def put(worker: int, mine: Queue) -> None:
        got[worker] = mine.put_many(pipeline, [[worker, n] for n in range(6_000)])

    threads = [threading.Thread(target=put, args=(worker, open_queue())) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue = open_queue()
    for worker, ids in got.items():
        for n in (0, 1, 2_500, 4_999, 5_000, 5_999):
            assert queue.find(ids[n]).data == [worker, n]  # type: ignore[union-attr]
    queue.discard(pipeline, "ready")


def test_ids_are_right_when_the_server_counts_in_steps(queue: Queue, db: Any, pipeline: str):
    """Galera and ring replication set auto_increment_increment."""
    queue.backend._link.read("SET SESSION auto_increment_increment = 3, auto_increment_offset = 2")  # type: ignore[attr-defined]
    ids = queue.put_many(pipeline, range(10))
    assert [queue.find(id_).data for id_ in ids] == list(range(10))  # type: ignore[union-attr]


def test_what_the_server_does_not_take_is_refused_before_it_is_sent(mariadb_dsn: str, pipeline: str):
    """max_allowed_packet may be smaller than our own limit."""
    with servers.mariadb("--max-allowed-packet=1M") as small, fleet.connect(small.dsn) as queue:
        with pytest.raises(PayloadTooLarge, match="max_allowed_packet"):
            queue.put(pipeline, b"x" * 700_000)
        queue.put(pipeline, b"x" * 400_000)
        assert len(queue.reserve(pipeline).payload) == 400_000  # type: ignore[union-attr]


# -- the caller's transaction -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"autocommit": False}, {}, {"cursorclass": pymysql.cursors.DictCursor}])
def test_a_put_in_the_callers_transaction_lives_and_dies_with_it(
    mariadb_dsn: str, queue: Queue, pipeline: str, options: dict[str, Any]
):
    """P7: it appears exactly if that commits; a delete likewise."""
    connection = driver(mariadb_dsn, **options)
    mine = fleet.connect(connection=connection)

    connection.begin()
    mine.put(pipeline, "gone")
    mine.put_many(pipeline, [1, 2])
    connection.rollback()
    assert queue.stats(pipeline).ready == 0

    connection.begin()
    mine.put(pipeline, "kept")
    assert queue.stats(pipeline).ready == 0
    connection.commit()
    assert queue.stats(pipeline).ready == 1

    job = queue.reserve(pipeline)
    assert job is not None
    connection.begin()
    mine.delete(job)
    connection.rollback()
    assert queue.find(job.id) is not None
    connection.begin()
    mine.delete(job)
    connection.commit()
    assert queue.find(job.id) is None

    mine.close()
    connection.ping(reconnect=False)  # still the caller's
    connection.close()


def test_a_repeated_put_in_the_callers_transaction_finds_the_first(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    """Also when the first was committed after the caller's snapshot was taken."""
    connection = driver(mariadb_dsn, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM fleet_jobs")
    uid = uuid.uuid4()
    first = queue.put(pipeline, 1, uid=uid)
    unique = queue.put(pipeline, 2, unique="k")
    mine = fleet.connect(connection=connection)
    assert mine.put(pipeline, 1, uid=uid) == first
    assert mine.put(pipeline, 2, unique="k") == unique
    connection.rollback()
    connection.close()


def test_a_job_is_not_handed_out_inside_the_callers_transaction(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    """It would be in hand before COMMIT, and somebody else's after a rollback."""
    queue.put(pipeline, 1)
    connection = driver(mariadb_dsn)
    mine = fleet.connect(connection=connection)
    connection.begin()
    with pytest.raises(ValueError, match="before COMMIT"):
        mine.reserve(pipeline)
    connection.rollback()
    job = mine.reserve(pipeline)
    assert job is not None
    job.delete()
    connection.close()


def test_a_batch_with_a_lost_lease_does_not_end_the_callers_transaction(
    mariadb_dsn: str, queue: Queue, pipeline: str
):
    queue.put_many(pipeline, range(4))
    jobs = queue.reserve_many(pipeline, 4)
    jobs[1].delete()
    connection = driver(mariadb_dsn)
    mine = fleet.connect(connection=connection)
    connection.begin()
    kept = mine.put(pipeline, "kept")
    assert [job.data for job in mine.settle(deleted=jobs)] == [1]
    connection.commit()
    assert queue.find(kept) is not None
    assert queue.stats(pipeline).reserved == 0
    connection.close()


def test_no_table_is_made_on_the_callers_connection(mariadb_dsn: str):
    connection = driver(mariadb_dsn)
    with pytest.raises(SchemaError, match="migrate"):
        fleet.connect(connection=connection, prefix="never_made")
    connection.close()


# -- broken connections -------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_a_galera_node_that_lost_its_cluster_is_away_and_comes_back(tmp_path: Path, pipeline: str):
    """F36: it answers and refuses everything, which ends no worker; no job is lost, and the lease is kept."""
    with servers.mariadb(*_galera(), durable=True) as server, fleet.connect(server.dsn) as queue:
        assert any("let all workers and producers use one node" in note for note in queue.info().notes)
        with contextlib.closing(Site(tmp_path, server.dsn, pipeline)) as site, driver(server.dsn) as admin:
            held_id, other_id = queue.put_many("held", [1]), queue.put(pipeline, 1)
            held = queue.reserve("held")
            worker = site.worker("note")
            assert site.wait_for(1) == [f"{other_id}"]

            admin.cursor().execute("SET GLOBAL wsrep_reject_queries = ALL")
            for verb in (lambda: queue.put(pipeline, 2), lambda: queue.reserve(pipeline)):
                with pytest.raises(BackendUnavailable, match="not yet prepared node"):
                    verb()
            eventually(lambda: "waiting back end away since" in site.log)
            admin.cursor().execute("SET GLOBAL wsrep_reject_queries = NONE")

            assert held is not None and [held.id] == held_id
            held.delete()
            queue.put(pipeline, 3)
            site.wait_for(2)
            site.wait_until_empty()
            assert worker.poll() is None
            assert len(site.lines()) == 2


def _galera() -> list[str]:
    """A cluster of one node."""
    library = Path("/usr/lib/galera/libgalera_smm.so")
    if not library.exists():
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("Galera's library is not installed: apt-get install galera-4")
    peers, states = servers._free_port(), servers._free_port()
    return [
        *("--wsrep-on=ON", f"--wsrep-provider={library}", "--wsrep-cluster-address=gcomm://"),
        *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-node-address=127.0.0.1"),
        f"--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{peers};"
        f"ist.recv_addr=127.0.0.1:{states};gcache.size=8M",
        "--performance-schema=ON",  # without, Debian's Galera does not find its own thread
    ]


# -- rivals -------------------------------------------------------------------------------------------


def test_a_deadlock_is_run_again_as_a_whole(queue: Queue, mariadb_dsn: str, pipeline: str):
    """1213: we hold the first row and want the second, the other holds the second and wants the first."""
    ids = queue.put_many(pipeline, range(2))
    jobs = queue.reserve_many(pipeline, 2)
    other = driver(mariadb_dsn, autocommit=False)
    cursor = other.cursor()
    cursor.execute("SET SESSION innodb_lock_wait_timeout = 20")
    cursor.execute("UPDATE fleet_jobs SET priority = 7 WHERE id = %s", (ids[1],))
    settled: list[list[bool]] = []
    settlements = [
        Settlement(job=jobs[0], verb="bury", reason="a"),
        Settlement(job=jobs[1], verb="bury", reason="b"),
    ]
    thread = threading.Thread(target=lambda: settled.append(queue.exchange(settlements, (), 0)[0]))
    thread.start()
    time.sleep(0.3)
    with contextlib.suppress(pymysql.OperationalError):  # either may be the victim
        cursor.execute("UPDATE fleet_jobs SET priority = 7 WHERE id = %s", (ids[0],))
    other.rollback()
    thread.join(20)
    assert settled == [[True, True]]
    assert [job.reason for job in queue.peek(pipeline, "buried", 5)] == ["a", "b"]
    other.close()


def test_many_processes_may_be_the_first(mariadb_dsn: str, db: Any):
    """Twenty at once find no tables: all come up, and there is one set of tables."""
    failed: list[BaseException] = []

    def first() -> None:
        try:
            with fleet.connect(mariadb_dsn, prefix="first_use") as queue:
                queue.put("p", 1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=first) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    db.execute("SELECT COUNT(*) FROM first_use_jobs")
    assert db.fetchall() == ((20,),)


# -- waking up ---------------------------------------------------------------------------------------


def test_a_waiting_worker_is_woken_and_asks_little(queue: Queue, rival: Queue, db: Any, pipeline: str):
    """A put on the same host is picked up in milliseconds; idle, it is two queries a second at most."""

    def questions() -> int:
        db.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
        return int(db.fetchall()[0][1])

    assert queue.reserve(pipeline, timeout=0.1) is None
    before = questions()
    assert queue.reserve(pipeline, timeout=2) is None
    assert questions() - before <= 6  # one is of the counting itself

    waits = []
    for n in range(20):
        timer = threading.Timer(0.05, rival.put, args=(pipeline, n))
        timer.start()
        assert queue.reserve(pipeline, timeout=5) is not None
        found_at = time.monotonic()
        timer.join()
        waits.append(found_at)
    # Medians of a shared machine: the poll alone would take 125 ms.
    gaps = sorted(b - a for a, b in itertools.pairwise(waits))
    assert gaps[len(gaps) // 2] < 0.05 + 0.06


def test_a_put_of_another_host_is_found_by_asking(queue: Queue, db: Any, pipeline: str):
    """A row that no nudge announces is found within the poll."""
    timer = threading.Timer(
        0.3,
        lambda: db.execute(
            "INSERT INTO fleet_jobs (pipeline, state, priority, ttr, run_at, payload) "
            "VALUES (%s, 0, 1024, 60000000, 1, '1')",
            (pipeline,),
        ),
    )
    timer.start()
    started = time.monotonic()
    assert queue.reserve(pipeline, timeout=5) is not None
    assert time.monotonic() - started < 2.0
    timer.join()


def test_a_claim_after_a_wait_in_vain_sees_what_came_since(queue: Queue, db: Any, pipeline: str):
    """An idle worker asks less, and is told the truth: also of a row that nothing has announced."""
    assert queue.reserve(pipeline, timeout=0.1) is None
    db.execute(
        "INSERT INTO fleet_jobs (pipeline, state, priority, ttr, run_at, payload) "
        "VALUES (%s, 0, 1024, 60000000, 1, '1')",
        (pipeline,),
    )
    assert queue.reserve(pipeline) is not None


def test_a_wait_can_be_ended_by_another_thread(queue: Queue, pipeline: str):
    timer = threading.Timer(0.2, queue.wake)
    timer.start()
    started = time.monotonic()
    queue.wait(pipeline, 10)
    assert time.monotonic() - started < 2
    timer.join()


def test_rows_that_somebody_keeps_locked_do_not_make_the_worker_spin(
    queue: Queue, mariadb_dsn: str, db: Any, pipeline: str
):
    """They look ready to a plain read: asking again and again at full speed would burn both sides."""
    ids = queue.put_many(pipeline, range(1))
    other = driver(mariadb_dsn, autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("SELECT id FROM fleet_jobs WHERE id = %s FOR UPDATE", (ids[0],))
    db.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
    before = int(db.fetchall()[0][1])
    assert queue.reserve(pipeline, timeout=1) is None
    db.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
    assert int(db.fetchall()[0][1]) - before < 600
    other.rollback()
    assert queue.reserve(pipeline, timeout=2) is not None
    other.close()


# -- the server and its tables -------------------------------------------------------------------------


def test_the_servers_defaults_decide_nothing(pipeline: str):
    """Latin-1, a collation that ignores case, MyISAM, a lax sql_mode, another time zone."""
    flags = (
        "--character-set-server=latin1",
        "--collation-server=latin1_general_ci",
        "--default-storage-engine=MyISAM",
        "--sql-mode=",
        "--default-time-zone=-07:00",
        "--transaction-isolation=REPEATABLE-READ",
    )
    with servers.mariadb(*flags) as server, fleet.connect(server.dsn) as queue:
        queue.put(pipeline, "☃", unique="☃")
        queue.put(pipeline.upper(), 1)
        job = queue.reserve(pipeline)
        assert job is not None
        assert (job.data, job.unique) == ("☃", "☃")
        assert job.waited < 5
        job.bury("naïve ☃")
        assert queue.peek_buried(pipeline).reason == "naïve ☃"  # type: ignore[union-attr]
        connection = driver(server.dsn)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = 'fleet'"
            )
            assert cursor.fetchall() == (("InnoDB",),)
        connection.close()


def test_a_missing_index_is_told_with_the_statement_that_makes_it(open_queue: Callable[..., Queue], db: Any):
    """A copy of the tables may have come without it, and nothing else would tell."""
    queue = open_queue(prefix="keyless")
    queue.put("emails", 1)
    assert not any("index" in note for note in queue.info().notes)
    for key in ("turn", "unique_key"):
        db.execute(f"ALTER TABLE keyless_jobs DROP KEY {key}")
        (note,) = [note for note in queue.info().notes if "index" in note]
        said, mend = note.splitlines()
        assert f"{key} is missing" in said
        db.execute(mend)
        assert not any("index" in note for note in queue.info().notes)


@pytest.mark.parametrize(("flush", "level"), [(1, "power"), (2, "server"), (0, "process")])
def test_the_durability_that_is_in_force_is_told(queue: Queue, db: Any, flush: int, level: str):
    """P19: what innodb_flush_log_at_trx_commit really says."""
    db.execute("SELECT @@innodb_flush_log_at_trx_commit")
    (before,) = db.fetchall()[0]
    db.execute(f"SET GLOBAL innodb_flush_log_at_trx_commit = {flush}")
    try:
        info = queue.info()
    finally:
        db.execute(f"SET GLOBAL innodb_flush_log_at_trx_commit = {before}")
    assert (info.backend, info.durability) == ("mariadb", level)
    assert bool(info.notes) == (flush != 1)


def test_a_table_that_loses_jobs_is_refused(mariadb_dsn: str, db: Any):
    fleet.connect(mariadb_dsn, prefix="lossy").close()
    db.execute("ALTER TABLE lossy_jobs ENGINE = MyISAM")
    with pytest.raises(SchemaError, match=r"MyISAM.*ALTER TABLE lossy_jobs ENGINE = InnoDB"):
        fleet.connect(mariadb_dsn, prefix="lossy")


def test_somebody_elses_table_is_left_alone(mariadb_dsn: str, db: Any):
    db.execute("CREATE TABLE taken_jobs (id INT PRIMARY KEY, body TEXT)")
    with pytest.raises(SchemaError, match="not fleet's"):
        fleet.connect(mariadb_dsn, prefix="taken")
    db.execute("DESCRIBE taken_jobs")
    assert len(db.fetchall()) == 2


def test_a_missing_right_is_told_as_the_grant_that_mends_it(mariadb_dsn: str, db: Any):
    db.execute("CREATE USER IF NOT EXISTS poor@'127.0.0.1' IDENTIFIED BY 'p'")
    db.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON fleet.* TO poor@'127.0.0.1'")
    at = dsns.parse(mariadb_dsn)
    poor = f"mysql://poor:p@{at.host}:{at.port}/fleet"
    with pytest.raises(SchemaError, match=r"GRANT .*CREATE.* ON `fleet`\.\* TO 'poor'@'127\.0\.0\.1'"):
        fleet.connect(poor, prefix="poor")
    with fleet.connect(poor) as queue:  # the tables are there: it needs no more
        queue.put("poor", 1)
        job = queue.reserve("poor")
        assert job is not None
        job.delete()


def test_tables_of_a_newer_fleet_are_refused(mariadb_dsn: str, db: Any):
    fleet.connect(mariadb_dsn, prefix="newer").close()
    db.execute("UPDATE newer_meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(SchemaError, match="99"):
        fleet.connect(mariadb_dsn, prefix="newer")


def test_what_an_exchange_gives_back_it_may_claim_however_slow_a_look_is(queue: Queue, pipeline: str):
    """As on every back end; looks that take long are made less often, and this one would be left out."""
    queue.put(pipeline, 1)
    job = queue.reserve(pipeline)
    assert job is not None
    backend = queue.backend
    assert isinstance(backend, MysqlBackend)
    backend._claims.mark(pipeline).cost = 1.0  # seconds, as on a machine that is busy
    verdicts, jobs = queue.exchange([Settlement(job=job, verb="release")], pipeline, 1)
    assert verdicts == [True]
    assert [again.id for again in jobs] == [job.id]
