"""Connections that die in the middle of a call, and servers that are away."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import psycopg
import pytest

import fleet
from fleet.errors import (
    BackendUnavailable,
    LeaseLost,
    OutcomeUnknown,
    PutUnknown,
)
from fleet.queue import Queue
from tests import servers
from tests.proxy import Proxy
from tests.queue.postgres.tools import process
from tests.waiting import eventually

pytestmark = pytest.mark.server


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


def test_a_settlement_that_the_server_is_still_at_when_it_is_looked_for_is_ours(
    shaky: Queue, proxy: Proxy, admin: psycopg.Connection[Any], postgres_dsn: str, prefix: str
):
    """A job that still had our token, and was gone when we tried again, was settled by our first attempt."""
    shaky.put("emails", 1, ttr=600)
    jobs = shaky.reserve_many("emails", 1)
    done: list[Any] = []
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"

    def at_the_lock() -> int:
        (row,) = admin.execute(waiting, [f"%{prefix}_jobs%"])
        return int(row[0])

    with psycopg.connect(postgres_dsn) as other:
        other.execute(f"SELECT FROM {prefix}_jobs WHERE id = %s FOR UPDATE", [jobs[0].id])
        exchange = threading.Thread(
            target=lambda: done.append(shaky.reserve_many("emails", 1, settle=jobs)), daemon=True
        )
        exchange.start()
        eventually(lambda: at_the_lock() == 1)
        proxy.cut()
        eventually(lambda: at_the_lock() == 2)
    exchange.join(30)
    (more,) = done
    assert shaky.find(jobs[0].id) is None
    assert not more.lost


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
        before = process(queue)
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
        verb()
        assert process(queue) != before


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
