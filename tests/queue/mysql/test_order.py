"""The index that gives the order, and the mark below which nothing is looked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fleet
from fleet.queue import Queue
from fleet.queue.backends.mysql import MysqlBackend, mark
from fleet.queue.backends.mysql.claim import Claims
from fleet.queue.backends.mysql.literal import bind
from fleet.queue.backends.mysql.statements import Statements
from fleet.queue.job import Job, Settlement
from tests.queue.mysql.tools import driver
from tests.waiting import eventually

pytestmark = pytest.mark.server


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


@pytest.mark.slow
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

        # A second: what comes before its end has to come before it on a busy machine, too.
        rival.put(pipeline, "soon", priority=0, delay=1)
        assert queue.reserve(pipeline).data == 11  # type: ignore[union-attr]
        time.sleep(1.05)
        assert queue.reserve(pipeline).data == "soon"  # type: ignore[union-attr]

        theirs[2].release(delay=1)
        assert queue.reserve(pipeline).data == 12  # type: ignore[union-attr]
        time.sleep(1.05)
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
    asked_at = time.monotonic()
    while late not in [job.id for job in jobs]:
        assert asked_at - committed_at < mark._SELDOM
        time.sleep(0.02)
        asked_at = time.monotonic()
        jobs = queue.reserve_many(pipeline, 10, settle=jobs)
        assert jobs
    slow.close()


def test_jobs_of_a_claim_that_was_rolled_back_are_found_again(mariadb_dsn: str, queue: Queue, pipeline: str):
    """Somebody locks the first rows and dies: who stepped over them comes back to them."""
    ids = queue.put_many(pipeline, range(5))
    with contextlib.closing(driver(mariadb_dsn, autocommit=False)) as other, other.cursor() as cursor:
        for id_ in ids[:2]:  # one by one: a small table is read, and locked, as a whole otherwise
            cursor.execute("SELECT id FROM fleet_jobs WHERE id = %s FOR UPDATE", [id_])
        taken = queue.reserve_many(pipeline, 2)
        assert [job.id for job in taken] == ids[2:4]
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


def test_an_exchange_finds_what_it_gave_back_of_another_connection(queue: Queue, rival: Queue, pipeline: str):
    """Its own first look at the pipeline comes before the job is back."""
    rival.put(pipeline, 1)
    job = rival.reserve(pipeline)
    assert job is not None
    _, jobs = queue.exchange([Settlement(job=job, verb="release")], pipeline, 1)
    assert [again.id for again in jobs] == [job.id]
