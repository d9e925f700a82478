"""
A put that is repeated with the uid fleet made for it, in every moment of the first one's life.

A leased job of such a uid is not in the unique index, so what keeps a second
one out is a look after the INSERT: each test stops one side at a place where
that could go wrong.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import fleet
from fleet.errors import NotSupported, UidConflict
from fleet.queue import Queue
from fleet.queue.backends.postgres import PostgresBackend
from fleet.queue.backends.postgres.statements import Statements
from fleet.queue.job import Job, JobState
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def db(postgres_dsn: str, queue: Queue) -> Iterator[psycopg.Connection[Any]]:
    """An application's connection, not in autocommit mode; *queue* has made the tables."""
    with psycopg.connect(postgres_dsn) as db:
        yield db
        db.rollback()


@pytest.fixture
def in_background() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def _put(queue: Queue) -> tuple[int, bytes]:
    """Id and uid of a new job with payload 1."""
    id_ = queue.put("emails", 1)
    job = queue.find(id_)
    assert job is not None
    return id_, job.uid


def _reserve(queue: Queue) -> Job:
    job = queue.reserve("emails")
    assert job is not None
    return job


def _count(queue: Queue) -> int:
    stats = queue.stats("emails")
    return stats.ready + stats.delayed + stats.reserved + stats.buried


def _waits(postgres_dsn: str, queue: Queue) -> None:
    """Return once the queue's connection waits for a lock."""
    eventually(lambda: _is_waiting(postgres_dsn, queue))


def _is_waiting(postgres_dsn: str, queue: Queue) -> bool:
    assert isinstance(queue.backend, PostgresBackend)
    session = queue.backend._runner._session
    assert session is not None
    asked = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        return admin.execute(asked, [session.db.info.backend_pid]).fetchone() is not None


def _stop_before(queue: Queue, which: str, nth: int, happens: Callable[[], object]) -> None:
    """Let something happen right before the queue sends that statement for the nth time."""
    assert isinstance(queue.backend, PostgresBackend)
    runner, wanted = queue.backend._runner, getattr(queue.backend._sql, which)
    ask, count = runner.ask, itertools.count(1)

    def stopping(session: Any, statement: bytes, values: Any = None) -> Any:
        if statement == wanted and next(count) == nth:
            happens()
        return ask(session, statement, values)

    runner.ask = stopping  # type: ignore[method-assign]


# -- the first put is done


def _leave(job: Job) -> None:
    pass


@pytest.mark.parametrize("many", [1, 3, 50])
@pytest.mark.parametrize(
    "then",
    [None, _leave, Job.release, Job.bury, lambda job: job.release(delay=60)],
    ids=["ready", "reserved", "released", "buried", "delayed"],
)
@pytest.mark.parametrize("joins", [False, True])
def test_a_stored_job_keeps_its_repetition_out_in_any_state(
    queue: Queue, rival: Queue, db: Any, prefix: str, many: int, then: Any, joins: bool
):
    ids = queue.put_many("emails", range(many))
    uids = [queue.find(id_).uid for id_ in ids]  # type: ignore[union-attr]
    if then is not None:
        for job in rival.reserve_many("emails", many):
            then(job)
    mine = fleet.connect(connection=db, prefix=prefix) if joins else queue
    assert mine.put("emails", 0, uid=uids[0]) == ids[0]
    assert mine.put_many("emails", range(many), uids=uids) == ids
    with pytest.raises(UidConflict):
        mine.put_many("emails", [7] * many, uids=uids)
    with pytest.raises(UidConflict):
        mine.put("emails", 7, uid=uids[0])
    db.commit()
    assert _count(rival) == many


def test_a_deleted_job_is_stored_anew(queue: Queue):
    """Told in docs/queue.md: a worker had it, so it is done twice."""
    first, uid = _put(queue)
    _reserve(queue).delete()
    assert queue.put("emails", 1, uid=uid) != first
    assert _reserve(queue).uid == uid


def test_a_repetition_has_everything_the_first_put_would_have_had(queue: Queue, rival: Queue):
    _, uid = _put(queue)
    _reserve(queue).delete()
    again = queue.put("emails", 2, uid=uid, unique="k", priority=3, delay=60, ttr=9)
    assert rival.put("emails", 2, unique="k") == again
    assert rival.put("emails", 2, uid=uuid.UUID(int=5), unique="k") == again
    job = queue.find(again)
    assert job is not None
    assert (job.state, job.priority, job.ttr, job.unique) == (JobState.DELAYED, 3, 9, "k")


# -- the first put, or a change of its job, is under way


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("many", [1, 50])
def test_a_put_under_way_is_waited_for(
    queue: Queue, db: Any, prefix: str, postgres_dsn: str, in_background: Any, commits: bool, many: int
):
    _, uid = _put(queue)
    _reserve(queue).delete()
    first = fleet.connect(connection=db, prefix=prefix).put("emails", 1, uid=uid)
    uids = [uid, *(uuid.uuid4() for _ in range(many - 1))]
    second = in_background(queue.put_many, "emails", [1] * many, uids=uids)
    _waits(postgres_dsn, queue)
    db.commit() if commits else db.rollback()
    assert (second.result(10)[0] == first) is commits
    assert _count(queue) == many


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("claims", [True, False])
def test_a_claim_or_a_release_under_way_is_waited_for(
    queue: Queue, db: Any, prefix: str, postgres_dsn: str, in_background: Any, claims: bool, commits: bool
):
    """Before it ends nobody can say whether the job will be in the index."""
    first, uid = _put(queue)
    job = None if claims else _reserve(queue)
    if job is None:
        db.execute(f"UPDATE {prefix}_jobs SET state = 2, token = 5 WHERE id = {first}")
    else:
        fleet.connect(connection=db, prefix=prefix).release(job)
    again = in_background(queue.put, "emails", 1, uid=uid)
    # One that finds the job leased, as it does before the release is committed, needs not wait.
    eventually(lambda: again.done() or _is_waiting(postgres_dsn, queue))
    assert again.done() is not claims
    db.commit() if commits else db.rollback()
    assert again.result(10) == first
    assert _count(queue) == 1


# -- the job is claimed between the look before and the INSERT


@pytest.mark.parametrize("many", [1, 3])
@pytest.mark.parametrize("joins", [False, True])
def test_a_claim_just_before_the_insert_is_seen(
    queue: Queue, rival: Queue, db: Any, prefix: str, many: int, joins: bool
):
    """The INSERT meets nothing, so only the look after it can know; and nobody has to wait for it then."""
    ids = queue.put_many("emails", range(many))
    uids = [queue.find(id_).uid for id_ in ids]  # type: ignore[union-attr]
    mine = fleet.connect(connection=db, prefix=prefix) if joins else queue
    claimed: list[Job] = []
    _stop_before(mine, "put_rows", 1, lambda: claimed.extend(rival.reserve_many("emails", 2)))
    assert mine.put_many("emails", range(many), uids=uids) == ids
    assert claimed
    rival.settle(released=claimed)  # also while the caller's transaction is still open
    db.commit()
    assert _count(queue) == many


def test_a_repetition_through_copy_looks_too(queue: Queue, rival: Queue):
    ids = queue.put_many("emails", range(50))
    uids = [queue.find(id_).uid for id_ in ids]  # type: ignore[union-attr]
    jobs = rival.reserve_many("emails", 50)
    assert queue.put_many("emails", range(50), uids=uids) == ids
    rival.settle(released=jobs)
    assert _count(queue) == 50


# -- the job leaves its lease between the INSERT and the look


def _rescue(job: Job, db: Any, rival: Queue, prefix: str) -> None:
    db.execute(f"UPDATE {prefix}_jobs SET deadline = 1 WHERE id = {job.id}")
    db.commit()
    rival.release_jobs("emails", JobState.RESERVED, limit=5)


@pytest.mark.parametrize("how", ["release", "bury", "rescue"])
def test_a_job_that_goes_back_waits_and_is_not_harmed(
    queue: Queue, rival: Queue, db: Any, prefix: str, postgres_dsn: str, in_background: Any, how: str
):
    first, uid = _put(queue)
    going: list[Future[Any]] = []
    mine: list[Job] = []

    def goes_back() -> None:
        job = mine[0]
        if how == "rescue":
            going.append(in_background(_rescue, job, db, rival, prefix))
        else:
            going.append(in_background(getattr(job, how)))
        _waits(postgres_dsn, rival)

    _stop_before(queue, "put_rows", 1, lambda: mine.append(_reserve(rival)))
    _stop_before(queue, "leased", 2, goes_back)
    assert queue.put("emails", 1, uid=uid) == first
    going[0].result(10)
    stats = queue.stats("emails")
    assert (stats.reserved, stats.ready + stats.buried) == (0, 1)


def test_a_job_that_is_deleted_then_is_stored_anew(queue: Queue, rival: Queue):
    first, uid = _put(queue)
    mine: list[Job] = []
    _stop_before(queue, "put_rows", 1, lambda: mine.append(_reserve(rival)))
    _stop_before(queue, "leased", 2, lambda: mine[0].delete())
    assert queue.put("emails", 1, uid=uid) != first
    assert _count(queue) == 1


def test_claims_settlements_and_repetitions_at_once_never_store_two(open_queue: Callable[[], Queue]):
    """All of it together, unstopped: nobody gets an error, and at no moment are there two of one uid."""
    queues = [open_queue() for _ in range(4)]
    ids = queues[0].put_many("emails", range(6))
    uids = [queues[0].find(id_).uid for id_ in ids]  # type: ignore[union-attr]
    over = threading.Event()
    answers: set[int] = set()

    def repeat(mine: Queue) -> None:
        for n in range(20):
            answers.add(mine.put("emails", n % 6, uid=uids[n % 6]))
            answers.update(mine.put_many("emails", range(6), uids=uids))

    def churn(mine: Queue) -> None:
        while not over.is_set():
            jobs = mine.reserve_many("emails", 3)
            mine.settle(released=jobs[:1], buried=jobs[1:])
            mine.kick("emails")

    with ThreadPoolExecutor() as pool:
        churning = [pool.submit(churn, mine) for mine in queues[:2]]
        repeating = [pool.submit(repeat, mine) for mine in queues[2:]]
        try:
            for each in repeating:
                each.result(60)
        finally:
            over.set()
        for each in churning:
            each.result(10)
    assert answers == set(ids)
    assert _count(queues[0]) == 6


# -- where the look would see the past


@pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]
)
def test_a_transaction_that_sees_the_past_refuses_our_uids_and_takes_others(
    queue: Queue, db: Any, prefix: str, level: psycopg.IsolationLevel
):
    _, uid = _put(queue)
    db.isolation_level = level
    mine = fleet.connect(connection=db, prefix=prefix)
    own = uuid.uuid5(uuid.NAMESPACE_URL, "order 7")
    mine.put("emails", 2, uid=own)
    with pytest.raises(NotSupported, match="READ COMMITTED"):
        mine.put("emails", 1, uid=uid)
    with pytest.raises(NotSupported, match="READ COMMITTED"):
        mine.put_many("emails", [1], uids=[uid])
    mine.put_many("emails", range(50))
    db.commit()
    assert _count(queue) == 52


def test_outside_of_one_a_connections_own_level_does_not_matter(
    queue: Queue, rival: Queue, postgres_dsn: str, prefix: str
):
    first, uid = _put(queue)
    with psycopg.connect(postgres_dsn, autocommit=True) as db:
        db.execute("SET default_transaction_isolation = 'serializable'")
        mine = fleet.connect(connection=db, prefix=prefix)
        _stop_before(mine, "put_rows", 1, lambda: _reserve(rival))
        assert mine.put("emails", 1, uid=uid) == first
    assert _count(queue) == 1


# -- imports, and what the look costs


def test_an_import_of_a_leased_job_is_refused_whole(queue: Queue, rival: Queue):
    _, uid = _put(queue)
    _reserve(rival)
    assert isinstance(queue.backend, PostgresBackend)
    jobs = [
        Job(n, "emails", b"1", 5, 60.0, 0, 0, JobState.READY, uid=each)
        for n, each in ((1_000, b""), (1_001, uid))
    ]
    with pytest.raises(UidConflict):
        queue.backend.restore(jobs, "import", "1")
    assert _count(queue) == 1


@pytest.mark.slow
def test_the_looks_read_their_indexes_only(queue: Queue, db: Any, prefix: str):
    """Beside any number of jobs: one reads the uids, the other the leases of all pipelines."""
    db.execute(
        f"INSERT INTO {prefix}_jobs (pipeline, state, priority, ttr, run_at, uid, payload) "
        "SELECT 'p' || i % 2, CASE WHEN i % 50 = 0 THEN 2 ELSE i % 2 * 3 END, 5, 60000000, 0, "
        "decode('00' || md5(i::text), 'hex'), '' FROM generate_series(1, 100000) AS i"
    )
    db.execute(f"ANALYZE {prefix}_jobs")
    sql = Statements(prefix)
    for statement, index in ((sql.by_uid, "jobs_uid"), (sql.leased, "jobs_reserved")):
        rows = psycopg.ClientCursor(db).execute(
            b"EXPLAIN (COSTS OFF) " + statement, {"uids": [b"\0" * 16, b"\1" * 16]}
        )
        plan = "\n".join(row[0] for row in rows)
        assert index in plan, plan
        assert "Seq Scan on" not in plan, plan
    assert queue.put("p0", 1, uid=b"\0" * 16)
