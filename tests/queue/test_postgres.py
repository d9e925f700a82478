"""What only PostgreSQL has: MVCC, LISTEN, COPY, poolers, and connections that break."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import fleet
from fleet.errors import (
    BackendBusy,
    BackendUnavailable,
    DsnError,
    LeaseLost,
    OutcomeUnknown,
    PutUnknown,
    QueueError,
    SchemaError,
)
from fleet.queue import Queue
from fleet.queue.backends.postgres import PostgresBackend, session, watermark
from fleet.queue.backends.postgres.runner import Runner
from fleet.queue.backends.postgres.statements import Statements
from fleet.queue.job import Settlement
from tests import servers
from tests.contract import test_model
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.server
_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """Tables of this test alone."""
    return f"t{next(_prefixes)}"


@pytest.fixture
def dsn(postgres_dsn: str, prefix: str) -> str:
    return f"{postgres_dsn}?prefix={prefix}&application_name={prefix}"


@pytest.fixture
def admin(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection, in autocommit mode."""
    with psycopg.connect(postgres_dsn, autocommit=True) as db:
        yield db


@pytest.fixture
def proxy(postgres_dsn: str) -> Iterator[Proxy]:
    with Proxy(int(postgres_dsn.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy, prefix: str, queue: Queue) -> Iterator[Queue]:
    """A queue whose connections `proxy` can break; warm, so that no statement is prepared any more."""
    with fleet.connect(f"postgresql://fleet@127.0.0.1:{proxy.port}/postgres?prefix={prefix}") as shaky:
        for number in range(2):
            shaky.put("lukewarm", number)  # the first rings the bell, which is another statement
        shaky.put_many("warm", range(60))
        jobs = shaky.reserve_many("warm", 3)
        shaky.settle(deleted=jobs[:1], buried=jobs[1:2])
        shaky.reserve_many("warm", 1, settle=jobs[2:])
        for verb in ("delete", "release", "bury", "touch"):
            shaky.put("warm", 1, priority=1)
            shaky.put("warm", 2, priority=0, unique=verb)
            for job in shaky.reserve_many("warm", 2):
                getattr(job, verb)()
        shaky.kick("warm")
        shaky.stats("warm")
        yield shaky


def _backend(queue: Queue) -> PostgresBackend:
    assert isinstance(queue.backend, PostgresBackend)
    return queue.backend


def _process(queue: Queue) -> int:
    """The server's process behind the queue's connection."""
    live = _backend(queue)._runner._session
    assert live is not None
    return live.db.info.backend_pid


# -- plans ------------------------------------------------------------------


@pytest.mark.slow
def test_the_claim_reads_its_index_in_order_at_a_large_backlog(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """No sort and no scan of the table: over our connections, a pooler's, and the caller's."""
    admin.execute(
        f"INSERT INTO {prefix}_jobs (pipeline, state, priority, ttr, run_at, deadline, payload) "
        "SELECT 'p' || i % 2, i % 4, i % 7, 60000000, 0, 0, '' FROM generate_series(1, 250000) AS i"
    )
    values: dict[str, Any] = {"pipeline": "p1", "pipelines": ["p1", "p0"], "limit": 50, "token": 5}
    values |= {"gated": True, "priority": 3, "priorities": [3, -1], "floor": 0}
    values |= {"ids": "{1,2,3}", "tokens": "{0,0,0}", "held": 7, "wanted": 3, "chunk": 100, "back": "[]"}
    sql = Statements(prefix)
    # Ours also before the server has any statistics: a plan may be made while the table is still empty.
    for settings, analyzed in ((session._SETTINGS, False), (session._SETTINGS, True), ({}, True)):
        if analyzed:
            admin.execute(f"ANALYZE {prefix}_jobs")
        for name, value in settings.items():
            admin.execute(f"SET {name} = '{value}'".encode())
        for (_, many, _), statement in sql.exchange.items():
            _check_plan(admin, statement, values | {"above": [1000, 0] if many else 1000})
        _check_plan(admin, sql.make_ready, values)
        admin.execute("RESET ALL")
    job = queue.reserve("p1")
    assert job is not None
    assert job.priority == 0
    assert queue.stats("p1").cap == 1_000
    assert queue.pipelines() == ["p0", "p1"]


def test_the_claim_looks_its_jobs_up_by_id_before_there_are_statistics(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """Not by reading all that is ready: the backlog may have come in the last second."""
    queue.put_many("p1", range(5_000))
    for name, value in session._SETTINGS.items():
        admin.execute(f"SET {name} = '{value}'".encode())
    values = {"pipeline": "p1", "limit": 50, "token": 5, "gated": True}
    statement = Statements(prefix).exchange["", False, False]
    plan = psycopg.ClientCursor(admin).execute(b"EXPLAIN " + statement, values).fetchall()
    assert any(f"Index Scan using {prefix}_jobs_pkey on {prefix}_jobs job " in line for (line,) in plan), plan


@pytest.mark.parametrize("many", [False, True])
def test_a_marked_claim_does_not_walk_over_what_is_done(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str, many: bool
):
    """Below its mark it reads what came back late from its own index, also where most jobs are late."""
    queue.put_many("p1", range(5_000))
    queue.put_many("p1", range(5_000), delay=1_000)
    admin.execute(f"ANALYZE {prefix}_jobs")
    for name, value in session._SETTINGS.items():
        admin.execute(f"SET {name} = '{value}'".encode())
    values: dict[str, Any] = {"limit": 50, "token": 5, "gated": True, "floor": 0, "pipeline": "p1"}
    values |= {"priority": 1024, "above": 4_000}
    if many:
        values |= {"pipelines": ["p1"], "priorities": [1024], "above": [4_000]}
    statement = Statements(prefix).exchange["", many, True]
    plan = psycopg.ClientCursor(admin).execute(b"EXPLAIN (COSTS OFF) " + statement, values).fetchall()
    assert any(f"using {prefix}_jobs_late on" in line for (line,) in plan), plan


def _check_plan(db: psycopg.Connection[Any], statement: bytes, values: dict[str, Any]) -> None:
    rows = psycopg.ClientCursor(db).execute(b"EXPLAIN (COSTS OFF) " + statement, values).fetchall()
    plan = "\n".join(row[0] for row in rows)
    for bad in ("Sort", "Seq Scan on t", "Bitmap", "hashed SubPlan"):
        assert bad not in plan, plan


def test_no_job_is_handed_out_twice_where_skip_locked_does_nothing(open_queue: Callable[[], Queue]):
    """The UPDATE asks for the state again: servers exist that take no lock there and do not say so."""
    open_queue().put_many("emails", range(300), ttr=120)
    taken: list[int] = []

    def work(mine: Queue) -> None:
        while jobs := mine.reserve_many("emails", 7):
            taken.extend(job.data for job in jobs)
            mine.settle(deleted=jobs)

    workers = [open_queue() for _ in range(4)]
    for mine in workers:
        sql = _backend(mine)._sql
        for store in (sql.exchange, sql.look):
            for key, statement in store.items():  # type: ignore[attr-defined]
                assert b"FOR UPDATE SKIP LOCKED" in statement
                store[key] = statement.replace(b"FOR UPDATE SKIP LOCKED", b"")  # type: ignore[index]
    threads = [threading.Thread(target=work, args=(mine,)) for mine in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(300))


# -- connections that break: reliability table "server restarts or connection dies in the middle" -----

LOST = pytest.mark.parametrize("lost", ["requests", "replies"])


@LOST
def test_a_put_that_is_cut_off_is_unknown_and_safe_to_repeat(
    shaky: Queue, proxy: Proxy, queue: Queue, lost: str
):
    """P6: never success, never a silent repetition; with its uid it is stored once, whatever had happened."""
    proxy.cut_after(**{lost: 0})
    with pytest.raises(PutUnknown) as caught:
        shaky.put("emails", 1)
    assert proxy.cuts == 1
    assert queue.stats("emails").ready == (1 if lost == "replies" else 0)
    shaky.put("emails", 1, uid=caught.value.uid)
    assert queue.stats("emails").ready == 1


@LOST
def test_a_put_many_that_is_cut_off_is_unknown_and_safe_to_repeat(
    shaky: Queue, proxy: Proxy, queue: Queue, lost: str
):
    proxy.cut_after(**{lost: 2_000})
    payloads = ["x" * 100] * 3_000 if lost == "requests" else [1] * 3_000
    with pytest.raises(PutUnknown) as caught:
        shaky.put_many("emails", payloads)
    assert proxy.cuts == 1
    shaky.put_many("emails", payloads, uids=caught.value.uids)
    assert queue.stats("emails", cap=10_000).ready == 3_000


def test_a_put_many_that_stops_half_way_is_unknown_and_safe_to_repeat(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """An error that says "nothing is stored" would have the caller store the first chunk twice."""
    admin.execute(f"""
        CREATE FUNCTION {prefix}_is_full() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'no space left' USING ERRCODE = '53100'; END $$""")
    admin.execute(f"""
        CREATE TRIGGER is_full BEFORE INSERT ON {prefix}_jobs FOR EACH ROW
            WHEN (new.payload = 'last') EXECUTE FUNCTION {prefix}_is_full()""")
    payloads = [b"x"] * 12_000 + [b"last"]
    with pytest.raises(PutUnknown, match="10,000 of 12,001 jobs are stored") as caught:
        queue.put_many("emails", payloads)
    assert queue.stats("emails", cap=20_000).ready == 10_000
    admin.execute(f"DROP TRIGGER is_full ON {prefix}_jobs")
    queue.put_many("emails", payloads, uids=caught.value.uids)
    assert queue.stats("emails", cap=20_000).ready == 12_001


def test_a_time_limit_in_the_middle_of_a_call_does_not_break_the_calls_after_it(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """What a signal handler raises, as for a time limit, leaves an answer that nobody reads."""

    class TooLong(Exception): ...

    def give_up(_number: int, _frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        with admin.transaction():
            admin.execute(f"LOCK TABLE {prefix}_jobs IN ACCESS EXCLUSIVE MODE")
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(TooLong):
                queue.put("emails", "given up")
    finally:
        signal.signal(signal.SIGALRM, before)
    id_ = queue.put("emails", "next")
    job = queue.find(id_)
    assert job is not None
    assert job.data == "next"


@LOST
def test_a_claim_whose_answer_was_lost_is_found_again_by_its_token(shaky: Queue, proxy: Proxy, lost: str):
    """No wait for the ttr: the worker gets the job that was leased to it."""
    first, _ = shaky.put_many("emails", ["first", "second"], ttr=600)
    proxy.cut_after(**{lost: 0})
    job = shaky.reserve("emails")
    assert proxy.cuts == 1
    assert job is not None
    assert (job.id, job.attempt, job.data) == (first, 1, "first")
    assert job.expires_at > time.monotonic() + 500
    job.delete()
    assert shaky.stats("emails").ready == 1


@LOST
@pytest.mark.parametrize("verb", ["delete", "release", "bury"])
def test_a_settlement_whose_answer_was_lost_is_told_from_what_is_there(
    shaky: Queue, proxy: Proxy, lost: str, verb: str
):
    shaky.put("emails", 1)
    job = shaky.reserve("emails")
    assert job is not None
    proxy.cut_after(**{lost: 0})
    getattr(job, verb)()
    assert proxy.cuts == 1
    stats = shaky.stats("emails")
    assert (stats.reserved, stats.ready, stats.buried) == (0, int(verb == "release"), int(verb == "bury"))
    with pytest.raises(LeaseLost):
        job.delete()


@LOST
def test_settle_and_claim_survive_a_cut_together(shaky: Queue, proxy: Proxy, queue: Queue, lost: str):
    shaky.put_many("emails", range(6), ttr=600)
    jobs = shaky.reserve_many("emails", 3)
    jobs[1].bury("gone")
    proxy.cut_after(**{lost: 0})
    more = shaky.reserve_many("emails", 3, settle=jobs)
    assert proxy.cuts == 1
    assert [job.data for job in more] == [3, 4, 5]
    assert [job.data for job in more.lost] == [1]
    stats = queue.stats("emails")
    assert (stats.ready, stats.reserved, stats.buried) == (0, 3, 1)


@pytest.mark.parametrize("is_done", [False, True])
@LOST
def test_a_lost_lease_stays_lost_through_a_cut(
    shaky: Queue, proxy: Proxy, queue: Queue, lost: str, is_done: bool
):
    """The truth after a cut is the token: a job that somebody else holds, or held, was not settled by us."""
    shaky.put("emails", 1, ttr=0.05)
    mine = shaky.reserve("emails")
    theirs = queue.reserve("emails", timeout=3)
    assert mine is not None
    assert theirs is not None
    if is_done:
        theirs.delete()
    proxy.cut_after(**{lost: 0})
    with pytest.raises(LeaseLost):
        mine.delete()
    assert proxy.cuts == 1


@LOST
def test_touch_and_looks_are_simply_repeated(shaky: Queue, proxy: Proxy, lost: str):
    shaky.put("emails", 1)
    job = shaky.reserve("emails")
    assert job is not None
    proxy.cut_after(**{lost: 0})
    job.touch()
    proxy.cut_after(**{lost: 0})
    assert shaky.stats("emails").reserved == 1
    assert proxy.cuts == 2


@LOST
def test_an_operators_verb_that_is_cut_off_is_unknown_and_safe_to_repeat(
    shaky: Queue, proxy: Proxy, lost: str
):
    shaky.put("emails", 1)
    job = shaky.reserve("emails")
    assert job is not None
    job.bury()
    proxy.cut_after(**{lost: 0})
    with pytest.raises(OutcomeUnknown):
        shaky.kick("emails")
    assert proxy.cuts == 1
    shaky.kick("emails")
    assert shaky.stats("emails").ready == 1


@LOST
def test_a_cut_ends_the_callers_transaction_and_nothing_is_stored(
    proxy: Proxy, queue: Queue, prefix: str, lost: str
):
    """He had not committed, so there is nothing unknown about it."""
    db = psycopg.connect(f"postgresql://fleet@127.0.0.1:{proxy.port}/postgres")
    mine = fleet.connect(connection=db, prefix=prefix)
    mine.put("emails", 1)
    proxy.cut_after(**{lost: 0})
    with pytest.raises(BackendUnavailable):
        mine.put("emails", 2)
    assert proxy.cuts == 1
    assert queue.stats("emails").ready == 0


def test_a_connection_that_died_while_idle_costs_nobody_an_error(
    queue: Queue, admin: psycopg.Connection[Any]
):
    """It is seen before anything is sent, so even a put is not unknown."""
    for verb in (
        lambda: queue.put("emails", 1),
        lambda: queue.put_many("emails", range(100)),
        lambda: queue.reserve("emails").delete(),  # type: ignore[union-attr]
        lambda: queue.stats("emails"),
        lambda: queue.kick("emails"),
    ):
        before = _process(queue)
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
        verb()
        assert _process(queue) != before


@pytest.mark.slow
def test_a_server_that_is_away_is_said_in_words_and_work_goes_on_when_it_is_back():
    """F22: nothing accepted is lost, a dead server is no empty queue, and the password is never told."""
    with servers.postgres(durable=True) as server:
        with psycopg.connect(server.dsn, autocommit=True) as db:
            db.execute("ALTER USER fleet PASSWORD 'hunter2'")
        dsn = server.dsn.replace("fleet@", "fleet:hunter2@") + "?connect_timeout=1"
        queue = fleet.connect(dsn)
        queue.put("emails", 1)
        assert queue.info().durability == "power"
        server.kill()
        for verb in (lambda: queue.reserve("emails"), lambda: queue.put("emails", 2)):
            with pytest.raises(BackendUnavailable, match="no connection") as caught:
                verb()
            assert "hunter2" not in str(caught.value)
        server.start()
        job = queue.reserve("emails")
        assert job is not None
        job.delete()
        assert queue.stats("emails").ready == 0
        queue.close()


# -- locks ------------------------------------------------------------------


def test_a_deadlock_is_repeated_as_a_whole(
    queue: Queue, admin: psycopg.Connection[Any], postgres_dsn: str, prefix: str
):
    """F27: 40P01 is not the caller's problem."""
    queue.put_many("emails", range(2))
    jobs = queue.reserve_many("emails", 2)
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", [_process(queue)])
    admin.execute("ALTER ROLE fleet SET deadlock_timeout = '50ms'")  # for the connection that comes next
    lock = f"SELECT 1 FROM {prefix}_jobs WHERE id = %s FOR UPDATE"
    try:
        queue.stats("emails")
        admin.execute("ALTER ROLE fleet RESET deadlock_timeout")
        with psycopg.connect(postgres_dsn) as other:
            other.execute(lock, [jobs[1].id])
            lost: list[Any] = []
            settling = threading.Thread(target=lambda: lost.append(queue.settle(deleted=jobs)))
            settling.start()
            waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            eventually(lambda: admin.execute(waits, [_process(queue)]).fetchone())
            other.execute(
                lock, [jobs[0].id]
            )  # waits for us, as we wait for it: ours is the one that gives way
            other.rollback()
        settling.join(10)
        assert lost == [[]]
    finally:
        admin.execute("ALTER ROLE fleet RESET deadlock_timeout")
    assert queue.stats("emails").reserved == 0


def test_a_lock_that_is_not_let_go_is_busy_and_not_an_endless_wait(
    postgres_dsn: str, dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(session._SETTINGS, "lock_timeout", "100ms")
    with fleet.connect(dsn) as queue, psycopg.connect(postgres_dsn) as other:
        queue.put("emails", 1)
        job = queue.reserve("emails")
        assert job is not None
        other.execute(f"SELECT 1 FROM {prefix}_jobs FOR UPDATE")
        with pytest.raises(BackendBusy, match="lock"):
            job.delete()
        other.rollback()
        job.delete()


def test_workers_that_settle_each_others_former_jobs_do_not_block_one_another(
    open_queue: Callable[[], Queue],
):
    """Late settlements of rescued jobs beside claims of them: the shape in which exchanges could deadlock."""
    open_queue().put_many("emails", range(60), ttr=0.02)
    give_up = time.monotonic() + 3
    errors: list[BaseException] = []

    def work(mine: Queue) -> None:
        try:
            jobs: list[Any] = []
            while time.monotonic() < give_up:
                settle = [Settlement(job=job, verb="release" if job.id % 3 else "bury") for job in jobs]
                jobs = mine.reserve_many("emails", 20, settle=reversed(settle))
                mine.kick("emails", 5)
                time.sleep(0.025)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(open_queue(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_many_may_be_the_first_to_use_a_database(dsn: str):
    """The tables are made once, and nobody's put is lost."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(20)

    def first() -> None:
        try:
            barrier.wait(30)
            with fleet.connect(dsn) as mine:
                mine.put("emails", 1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=first) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with fleet.connect(dsn) as queue:
        assert queue.stats("emails").ready == 20
        assert queue.migrate() == (1, 1)


# -- order and the watermark -------------------------------------------------


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under an old transaction: every scan counts as slow, and the next one is a second away."""
    monkeypatch.setattr(watermark, "_SLOW", -1)
    monkeypatch.setattr(watermark, "_SLOW_EACH", 0)
    monkeypatch.setattr(watermark, "_SHARE", 1e9)


def _data(queue: Queue, limit: int = 1) -> list[Any]:
    return [job.data for job in queue.reserve_many("emails", limit)]


def _is_marked(queue: Queue) -> bool:
    return _backend(queue)._claims.watermarks[("emails",)].is_set()


@pytest.fixture
def ahead(queue: Queue, marked: None) -> Queue:
    """A queue whose claims start above the tenth of twenty jobs."""
    queue.put_many("emails", range(20), priority=100)
    for n in range(10):
        assert _data(queue) == [n]
    assert _is_marked(queue)
    return queue


def test_a_watermark_does_not_hide_what_is_more_urgent(ahead: Queue, rival: Queue):
    rival.put("emails", "urgent", priority=1)
    assert _is_marked(ahead)
    assert _data(ahead, 2) == ["urgent", 10]


def test_a_watermark_does_not_hide_what_was_released_kicked_or_came_due(ahead: Queue, rival: Queue):
    """P8d: each keeps its place, which is below the watermark."""
    delayed = rival.put("emails", "delayed", priority=100, delay=0.2)
    rival.put_many("emails", ["a", "b", "c"], priority=99)
    jobs = rival.reserve_many("emails", 3)
    assert [job.data for job in jobs] == ["a", "b", "c"]
    assert _data(ahead, 2) == [10, 11]
    rival.settle(released=jobs[:1], buried=jobs[1:2])
    rival.kick("emails")
    assert _is_marked(ahead)
    assert _data(ahead, 3) == ["a", "b", 12]
    time.sleep(0.25)
    assert _data(ahead, 8) == [*range(13, 20), "delayed"]
    assert rival.find(delayed) is not None


def test_a_watermark_does_not_hide_a_lost_lease(queue: Queue, rival: Queue, marked: None):
    queue.put("emails", "theirs", priority=100, ttr=0.1)
    assert rival.reserve("emails") is not None
    queue.put_many("emails", range(9), priority=100)
    assert [_data(queue) for _ in range(5)] == [[0], [1], [2], [3], [4]]
    assert _is_marked(queue)
    time.sleep(0.15)
    assert _data(queue, 2) == ["theirs", 5]


def test_a_put_that_was_under_way_is_hidden_for_a_second_at_most(
    ahead: Queue, postgres_dsn: str, prefix: str
):
    """The race that no rule can see: a lower id commits after higher ones were taken."""
    with psycopg.connect(postgres_dsn) as slow:
        fleet.connect(connection=slow, prefix=prefix).put("emails", "slow", priority=100)
        ahead.put_many("emails", range(20, 2000), priority=100)
        for n in range(10, 25):
            assert _data(ahead) == [n]  # beyond the id that is not there yet
        slow.commit()
        committed = time.monotonic()
    taken: list[Any] = []
    while "slow" not in taken:
        taken += _data(ahead)
        time.sleep(0.002)
    assert time.monotonic() - committed < 1.5


def test_a_put_that_was_under_way_is_found_as_soon_as_nothing_else_is(
    ahead: Queue, postgres_dsn: str, prefix: str
):
    with psycopg.connect(postgres_dsn) as slow:
        fleet.connect(connection=slow, prefix=prefix).put("emails", "slow", priority=100)
        ahead.put("emails", 20, priority=100)
        assert [_data(ahead) for _ in range(11)] == [[n] for n in range(10, 21)]
        slow.commit()
    assert _is_marked(ahead)
    assert _data(ahead) == ["slow"]


def test_what_was_settled_is_told_though_the_claim_after_it_fails(
    queue: Queue, admin: psycopg.Connection[Any], prefix: str
):
    """As with a full disk: one statement has settled, and the next, which makes due jobs ready, fails."""
    queue.put("emails", "done")
    job = queue.reserve("emails")
    assert job is not None
    queue.put("emails", "due", delay=0.01)
    time.sleep(0.05)
    admin.execute(f"""
        CREATE FUNCTION {prefix}_refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON {prefix}_jobs FOR EACH ROW
            WHEN (old.state = 1) EXECUTE FUNCTION {prefix}_refuse()""")
    batch = queue.reserve_many("emails", 1, settle=[job])
    assert not batch and not batch.lost
    assert queue.find(job.id) is None
    with pytest.raises(QueueError):  # the next claim meets it
        queue.reserve("emails")
    admin.execute(f"DROP TRIGGER refuse ON {prefix}_jobs")
    assert queue.reserve("emails").data == "due"  # type: ignore[union-attr]


def test_random_stories_end_as_in_the_model_with_a_watermark(
    dsn: str, marked: None, monkeypatch: pytest.MonkeyPatch
):
    """Without the model's moves of the clock: they set instants back, below what was looked at already."""
    monkeypatch.setattr(test_model, "can_advance", lambda dsn: False)
    monkeypatch.setenv("FLEET_MODEL_EXAMPLES", "30")
    test_model.test_random_stories_end_as_in_the_model(dsn)


def test_the_watermark_is_left_alone_while_scans_are_fast(queue: Queue):
    """Without an old transaction every claim looks from the start, so there is nothing to prove."""
    queue.put_many("emails", range(300))
    for _ in range(20):
        queue.settle(deleted=queue.reserve_many("emails", 10))
    assert sum(_is_marked(queue) for _ in range(20)) == 0


def test_due_jobs_are_made_ready_in_steps_and_none_is_left_out_of_order(queue: Queue):
    queue.put_many("emails", range(25_000), delay=0.01, priority=9)
    queue.put("emails", "urgent", delay=0.01, priority=1)
    time.sleep(0.05)
    assert _data(queue) == ["urgent"]


# -- waking up ---------------------------------------------------------------


def test_a_put_wakes_a_waiting_worker_within_milliseconds(queue: Queue, rival: Queue):
    """Pushed, not polled."""
    waits = []
    for n in range(12):
        timer = threading.Timer(0.1, lambda: rival.put("emails", time.monotonic()))
        timer.start()
        job = queue.reserve("emails", timeout=10)
        assert job is not None
        if n:  # the first wait connects its listener
            waits.append(time.monotonic() - job.data)
        job.delete()
        timer.join()
    assert sorted(waits)[5] < 0.1, waits


@pytest.mark.parametrize(
    "happens",
    [
        lambda rival: rival.put_many("emails", range(60)),
        lambda rival: rival.kick("emails"),
        lambda rival: rival.resume("emails"),
        lambda rival: rival.put("emails", 1, delay=0.3),
    ],
    ids=["put_many", "kick", "resume", "a shorter delay"],
)
def test_whatever_makes_a_job_ready_wakes_the_waiting(queue: Queue, rival: Queue, happens: Any):
    rival.put("emails", 1)
    job = rival.reserve("emails")
    assert job is not None
    job.bury()
    if happens.__code__.co_names[0] == "resume":
        rival.kick("emails")
        rival.pause("emails", 60)
    assert queue.reserve("emails", timeout=0.3) is None
    timer = threading.Timer(0.2, happens, args=(rival,))
    timer.start()
    started = time.monotonic()
    assert queue.reserve("emails", timeout=10) is not None
    assert time.monotonic() - started < 1.5
    timer.join()


def test_bursts_are_told_once_and_none_of_their_jobs_is_overlooked(queue: Queue, rival: Queue):
    """A put right after another one is not told again: whoever heard the first looks twice."""
    assert queue.reserve("emails", timeout=0.2) is None
    slowest = 0.0
    for _ in range(5):
        done = threading.Event()

        def burst() -> None:
            for n in range(12):
                rival.put("emails", n)
                time.sleep(0.001)
            done.set()  # noqa: B023

        thread = threading.Thread(target=burst)
        thread.start()
        taken = 0
        while taken < 12:
            jobs = queue.reserve_many("emails", 5, timeout=10)
            queue.settle(deleted=jobs)
            taken += len(jobs)
        thread.join()
        started = time.monotonic()
        assert done.wait(5)
        slowest = max(slowest, time.monotonic() - started)
    assert slowest < 0.5


def test_a_listener_that_lost_its_connection_comes_back(queue: Queue, rival: Queue, admin: Any, prefix: str):
    assert queue.reserve("emails", timeout=0.3) is None
    listeners = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    assert admin.execute(listeners, [f"{prefix} listen"]).rowcount == 1
    timer = threading.Timer(0.5, rival.put, args=("emails", 1))
    timer.start()
    started = time.monotonic()
    assert queue.reserve("emails", timeout=10) is not None
    assert time.monotonic() - started < 2
    timer.join()


@pytest.mark.slow
def test_an_idle_worker_asks_the_server_every_few_seconds_at_most(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    """At most one question in two seconds, with the look that stands behind the push."""
    asked: list[float] = []
    ask = Runner.ask

    def counted(self: Runner, *arguments: Any) -> Any:
        asked.append(time.monotonic())
        return ask(self, *arguments)

    assert queue.reserve("emails", timeout=1) is None
    monkeypatch.setattr(Runner, "ask", counted)
    cpu = time.process_time()
    assert queue.reserve("emails", timeout=12) is None
    assert len(asked) <= 6  # the first, the last, and one about every 3.7 seconds
    assert time.process_time() - cpu < 0.1


def test_a_listener_reads_also_while_its_worker_is_busy(queue: Queue, rival: Queue, admin: Any):
    """Unread notifications would fill the server's buffers and hold back its vacuum."""
    assert queue.reserve("emails", timeout=0.2) is None
    admin.execute("SELECT pg_notify(%s, 'x' || i) FROM generate_series(1, 20000) AS i", [_channel(queue)])
    listener = _backend(queue)._waiting.listener
    assert listener is not None
    eventually(lambda: listener.mark(["x20000"]) > listener.mark([]))


def _channel(queue: Queue) -> str:
    return _backend(queue)._bell.channel


# -- poolers and the caller's connection ---------------------------------------


@pytest.fixture(scope="module")
def pooled_dsn() -> Iterator[str]:
    try:
        with servers.postgres("max_connections=20") as server, servers.pgbouncer(server) as bouncer:
            yield bouncer.dsn
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))


def test_pgbouncer_in_transaction_mode_is_noticed_and_served(pooled_dsn: str):
    """F37: no prepared statements, no session settings, no LISTEN; told in `info`."""
    with fleet.connect(pooled_dsn) as queue, fleet.connect(pooled_dsn) as rival:
        for n in range(20):
            queue.put("emails", n)
        queue.put_many("emails", range(20, 200))
        taken: list[int] = []
        jobs: list[Any] = []
        while jobs := rival.reserve_many("emails", 15, settle=jobs):
            taken += [job.data for job in jobs]
        assert taken == list(range(200))
        timer = threading.Timer(0.3, queue.put, args=("emails", "poll"))
        timer.start()
        job = rival.reserve("emails", timeout=5)
        assert job is not None
        job.bury("why")
        assert queue.kick("emails", reason="wh_") == 1
        assert any("pooler" in note for note in queue.info().notes)
        assert _backend(rival)._waiting.listener is None
        timer.join()
    with psycopg.connect(pooled_dsn, autocommit=True, prepare_threshold=None) as db:
        assert db.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert db.execute("SHOW enable_seqscan").fetchone() == ("on",)  # nothing was left in the session


def test_the_contract_holds_behind_pgbouncer(pooled_dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_MODEL_EXAMPLES", "10")
    monkeypatch.setattr(test_model, "can_advance", lambda dsn: False)
    test_model.test_random_stories_end_as_in_the_model(pooled_dsn)


def test_wakeup_poll_opens_no_second_connection(dsn: str):
    with fleet.connect(dsn + "&wakeup=poll") as queue:
        timer = threading.Timer(0.2, queue.put, args=("emails", 1))
        timer.start()
        assert queue.reserve("emails", timeout=5) is not None
        assert _backend(queue)._waiting.listener is None
        timer.join()


def test_the_callers_autocommit_connection_may_reserve(queue: Queue, postgres_dsn: str, prefix: str):
    """Outside of a transaction each verb has committed when it returns, whatever rows his cursors make."""
    with psycopg.connect(postgres_dsn, autocommit=True, row_factory=dict_row) as db:
        mine = fleet.connect(connection=db, prefix=prefix)
        mine.put_many("emails", range(100))
        assert queue.stats("emails").ready == 100
        job = mine.reserve("emails")
        assert job is not None
        job.delete()
        with db.transaction(), pytest.raises(ValueError, match="before COMMIT"):
            mine.reserve("emails")
        with db.transaction(force_rollback=True):
            mine.put("emails", "never")
            mine.put_many("emails", range(100))
        assert queue.stats("emails").ready == 99
        assert mine.reserve("emails", timeout=0.1) is not None


def test_a_look_leaves_no_transaction_open_on_the_callers_connection(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """An idle transaction would hold back the server's vacuum."""
    with psycopg.connect(postgres_dsn) as db:
        mine = fleet.connect(connection=db, prefix=prefix)
        mine.stats("emails")
        assert mine.peek_ready("emails") is None
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        db.execute("SELECT 1")
        mine.stats("emails")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_an_asyncio_connection_is_refused_in_words(postgres_dsn: str):
    async def story() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as db:
            with pytest.raises(DsnError, match="asyncio"):
                fleet.connect(connection=db)

    asyncio.run(story())


# -- durability, rights and texts ------------------------------------------------


def test_a_put_is_durable_where_the_server_would_not_wait_for_its_disk(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """synchronous_commit is off on this server: a put turns it on for its own transaction, and only there."""
    with psycopg.connect(postgres_dsn) as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
        fleet.connect(connection=db, prefix=prefix).put("emails", 1)
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
        db.commit()
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
    live = _backend(queue)._runner._session
    assert live is not None
    assert live.relaxed
    info = queue.info()
    assert info.durability == "process"  # fsync is off in tests
    assert any("fsync is off" in note for note in info.notes)
    assert any("synchronous_commit is off" in note for note in info.notes)


def test_a_missing_index_is_told_with_the_statement_that_makes_it(
    queue: Queue, postgres_dsn: str, prefix: str
):
    """A copy of the tables may have come without it, and nothing else would tell."""
    queue.put("emails", 1)
    assert not any("index" in note for note in queue.info().notes)
    with psycopg.connect(postgres_dsn, autocommit=True) as db:
        db.execute(f"DROP INDEX {prefix}_jobs_reserved")
        (note,) = [note for note in queue.info().notes if "index" in note]
        said, mend = note.splitlines()
        assert f"{prefix}_jobs_reserved is missing" in said
        db.execute(mend)
    assert not any("index" in note for note in queue.info().notes)


def test_a_missing_right_is_told_with_the_grant_that_gives_it(
    queue: Queue, admin: psycopg.Connection[Any], postgres_dsn: str, prefix: str
):
    admin.execute("DROP ROLE IF EXISTS guest")
    admin.execute("CREATE ROLE guest LOGIN")
    guest = postgres_dsn.replace("fleet@", "guest@")
    try:
        with pytest.raises(SchemaError, match='GRANT CREATE, USAGE ON SCHEMA public TO "guest"'):
            fleet.connect(guest + "?prefix=unmade")
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}_jobs"
        with pytest.raises(SchemaError, match=grant) as caught:
            fleet.connect(f"{guest}?prefix={prefix}")
        for statement in str(caught.value).partition("tables that are there: ")[2].split("; "):
            admin.execute(statement.rstrip(";").encode())
        with fleet.connect(f"{guest}?prefix={prefix}") as mine:
            mine.put("emails", 1)
            mine.put_many("emails", range(100))
            job = mine.reserve("emails")
            assert job is not None
            job.delete()
    finally:
        admin.execute("DROP OWNED BY guest")
        admin.execute("DROP ROLE guest")


def test_somebody_elses_table_is_left_alone(admin: psycopg.Connection[Any], postgres_dsn: str):
    admin.execute("DROP TABLE IF EXISTS taken_jobs")
    admin.execute("CREATE TABLE taken_jobs (id int PRIMARY KEY, body text)")
    with pytest.raises(SchemaError, match=r'"taken_jobs" already exists, and is not fleet\'s: .*\?prefix='):
        fleet.connect(f"{postgres_dsn}?prefix=taken")
    made = admin.execute("SELECT relname FROM pg_class WHERE relname LIKE 'taken%' AND relkind = 'r'")
    assert made.fetchall() == [("taken_jobs",)]


def test_tables_of_a_newer_fleet_are_refused(queue: Queue, admin: Any, dsn: str, prefix: str):
    admin.execute(f"UPDATE {prefix}_meta SET value = '999'")
    with pytest.raises(SchemaError, match=r"999.*Update fleet"):
        fleet.connect(dsn)


def test_tables_made_by_hand_are_taken_as_they_are(admin: psycopg.Connection[Any], dsn: str, prefix: str):
    """The file is one script for psql, version included."""
    from fleet.queue.schema import migrate

    admin.execute(migrate.script("postgresql", 1, prefix).encode())
    with fleet.connect(dsn) as queue:
        assert queue.info().schema_found == 1
        queue.put("emails", 1)


def test_a_reason_is_stored_whatever_is_in_it(queue: Queue):
    """A text that the server cannot store must not keep a job from being buried."""
    queue.put("emails", 1)
    job = queue.reserve("emails")
    assert job is not None
    job.bury("zero \0 half \ud800 naïve ☃ 100% \\ '")
    buried = queue.peek_buried("emails")
    assert buried is not None
    assert buried.reason == "zero \ufffd half ? naïve ☃ 100% \\ '"


@pytest.mark.parametrize("options", ["wakeup=never", "connect_timeout=soon", "connect_timeout=0", "nope=1"])
def test_an_option_that_cannot_be_used_is_refused(options: str):
    with pytest.raises(DsnError, match=options.partition("=")[0]):
        fleet.connect(f"postgresql://ada:secret@127.0.0.1:1/shop?{options}")


def test_a_wrong_address_is_said_at_once_and_without_the_password():
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1/shop") as caught:
        fleet.connect("postgresql://ada:secret@127.0.0.1:1/shop")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 2
