"""What only SQLite has: one file, one host, one writer at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

import fleet
from fleet.errors import (
    BackendBusy,
    BackendUnavailable,
    DsnError,
    NoTables,
    OutcomeUnknown,
    PutUnknown,
    QueueError,
    SchemaError,
)
from fleet.queue import Queue
from fleet.queue.backends.sqlite import SqliteBackend
from fleet.queue.backends.sqlite.statements import Statements
from fleet.queue.backends.sqlite.wake import Nudge
from tests.waiting import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def queue(file: Path) -> Queue:
    return fleet.connect(f"sqlite:///{file}")


@pytest.mark.slow
def test_the_claim_reads_its_index_in_order_at_a_million_rows(file: Path, queue: Queue):
    """No sort and no scan of the table, whatever the backlog."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) "
        "INSERT INTO fleet_jobs (pipeline, state, priority, ttr, run_at, payload) "
        "SELECT 'emails', i % 4, i % 7, 60000000, 0, x'00' FROM n"
    )
    db.execute("ANALYZE")
    sql = Statements("fleet")
    for statement, values in (
        (sql.first, ("emails", 0, 0, 50, True)),
        (sql.lease, (1, 0, "[1, 2]")),
        (sql.claim_one, ("emails", 0, 0, 1, True, 1)),
        (sql.delete_many, ("[1, 2]", 1)),
        (sql.delete_older, (1, 1)),
        (sql.promote, ("emails", 0, 50)),
        (sql.rescue, (0, "emails", 0, 50)),
    ):
        plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + statement, values)]
        assert not any("TEMP B-TREE" in step for step in plan), plan
        assert not any(step.startswith("SCAN fleet_jobs") for step in plan), plan
    peek = sql.peek.format(indexed="NOT INDEXED", state=0, where=" AND id IN (?, ?)", order="priority, id")
    (first, *_) = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + peek, ("emails", 1, 2, 9))]
    assert first == "SEARCH fleet_jobs USING INTEGER PRIMARY KEY (rowid=?)"
    db.close()
    job = queue.reserve("emails")  # a quarter of a million due jobs are made ready first
    assert job is not None
    assert job.priority == 0
    stats = queue.stats("emails")
    assert stats.ready == stats.cap == 1_000
    assert queue.pipelines() == ["emails"]
    queue.close()


def test_an_id_is_never_given_twice(file: Path, queue: Queue):
    """Not even that of the newest job, once it is gone: a late handle must not find another job there."""
    seen = queue.put_many("emails", [1, 2, 3])
    queue.discard("emails", "ready", ids=seen[1:])
    seen.append(queue.put("emails", 4, unique="four"))
    for _ in range(2):
        job = queue.reserve("emails")
        assert job is not None
        job.delete()
    queue.close()
    with fleet.connect(f"sqlite:///{file}") as after:
        seen += [after.put("emails", 5), *after.put_many("emails", [6, 7])]
    assert seen == sorted(set(seen))


def _first_use(path: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    with fleet.connect(f"sqlite:///{path}") as mine:
        mine.put("emails", os.getpid())


def test_many_processes_may_be_the_first_to_use_a_file(file: Path):
    """The tables are made once, and nobody's put is lost."""
    spawn = multiprocessing.get_context("fork")
    barrier = spawn.Barrier(8)
    processes = [spawn.Process(target=_first_use, args=(str(file), barrier)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 8
    with fleet.connect(f"sqlite:///{file}") as queue:
        assert queue.stats("emails").ready == 8


def test_a_new_boot_ends_every_lease(file: Path, queue: Queue):
    """The lease clock starts again at zero: deadlines of a former boot must not last for days."""
    queue.put("emails", 1, ttr=3600)
    assert queue.reserve("emails") is not None
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("UPDATE fleet_meta SET value = 'a former boot' WHERE name = 'boot'")
    db.close()
    with fleet.connect(f"sqlite:///{file}") as after:
        job = after.reserve("emails")
        assert job is not None
        assert (job.attempt, job.crashes) == (2, 1)


def test_a_put_of_another_process_wakes_a_waiting_worker_within_milliseconds(file: Path, queue: Queue):
    """Pushed, not polled: the wake-up comes with the commit, also while earlier writes are looked into."""
    producer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fleet, sys, time; q = fleet.connect(sys.argv[1])\n"
            "for n in range(12):\n time.sleep(0.1)\n q.put('emails', n)\n print(time.monotonic())\n",
            f"sqlite:///{file}",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    woken_at = []
    for _ in range(12):
        job = queue.reserve("emails", timeout=10)
        assert job is not None
        woken_at.append(time.monotonic())
        job.delete()
    said, _ = producer.communicate(timeout=10)
    waits = sorted(at - float(put_at) for at, put_at in zip(woken_at, said.split(), strict=True))
    # A quarter of them: what a busy machine makes late, it makes late now and then, and a poll each time.
    assert waits[3] < 0.015, waits


def test_a_job_that_other_software_commits_is_found_soon(file: Path, queue: Queue):
    """A commit without fleet's nudge, such as the caller's own transaction, is looked for."""
    committed_at = 0.0

    def insert() -> None:
        nonlocal committed_at
        other = sqlite3.connect(file)
        mine = fleet.connect(connection=other)
        mine.put("emails", "theirs")
        other.commit()
        committed_at = time.monotonic()
        other.close()

    timer = threading.Timer(0.2, insert)
    timer.start()
    job = queue.reserve("emails", timeout=10)
    found_at = time.monotonic()
    assert job is not None
    timer.join()
    assert found_at - committed_at < 0.5  # behind that there is a look a second


def test_a_put_touches_the_file_only_while_somebody_waits(file: Path, queue: Queue):
    """Setting a file's times costs a third of a put: who has no listener does not pay for one."""
    wal = Path(f"{file}-wal")
    nudge = Nudge(str(file))

    def touched() -> bool:
        nudge()
        return wal.stat().st_mtime > 0

    os.utime(wal, (0, 0))
    assert not touched()
    worker = threading.Thread(target=queue.reserve, args=("emails", 10))
    worker.start()
    eventually(touched)
    with fleet.connect(f"sqlite:///{file}") as producer:
        producer.put("emails", 1)
    worker.join(10)
    os.utime(wal, (0, 0))
    assert not touched()
    nudge.close()


def test_waiting_costs_no_processor_time(queue: Queue):
    before = time.thread_time()
    assert queue.reserve("emails", timeout=1.0) is None
    assert time.thread_time() - before < 0.05


def test_a_full_disk_rejects_the_put_and_keeps_what_was_there(file: Path, queue: Queue):
    """F29: rejected means nothing is stored; taking jobs goes on."""
    queue.put("emails", b"kept")
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    (pages,) = backend._link.db.execute("PRAGMA page_count").fetchone()
    backend._link.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(BackendUnavailable, match="full"):
        queue.put("emails", b"x" * 100_000)
    job = queue.reserve("emails")
    assert job is not None
    assert job.payload == b"kept"
    job.delete()


def test_a_put_many_that_stops_half_way_tells_how_many_are_stored(file: Path, queue: Queue):
    """An error that says "nothing is stored" would have the caller store the first chunk twice."""
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    backend._link.db.execute("PRAGMA max_page_count = 800")  # enough for the first chunk only
    with pytest.raises(PutUnknown, match=r"full.*the first 5,000 of 12,000 jobs are stored"):
        queue.put_many("emails", [b"x" * 400] * 12_000)
    assert queue.stats("emails", cap=20_000).ready == 5_000


def test_a_signal_in_the_middle_leaves_no_transaction_open(queue: Queue, file: Path, monkeypatch):
    """It may come between BEGIN and what follows it: an open transaction would lock everybody out."""
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    patiently = backend._link._patiently

    def struck(attempt, *values):
        patiently(attempt, *values)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(backend._link, "_patiently", struck)
    with pytest.raises(KeyboardInterrupt):
        queue.put_many("emails", [1, 2])
    monkeypatch.undo()
    with fleet.connect(f"sqlite:///{file}") as rival:
        rival.put_many("emails", [3, 4])
    queue.put_many("emails", [5, 6])
    assert queue.stats("emails").ready == 4


def test_a_signal_handler_that_puts_does_not_end_the_transaction_it_met(queue: Queue, monkeypatch):
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    put_chunk = backend._puts._chunk
    refused: list[QueueError] = []

    def handle(_number, _frame):
        try:
            queue.put_many("emails", ["of the handler", "too"])
        except QueueError as error:
            refused.append(error)

    def struck(*arguments):
        monkeypatch.undo()
        ids = put_chunk(*arguments)
        signal.raise_signal(signal.SIGUSR1)
        return ids

    monkeypatch.setattr(backend._puts, "_chunk", struck)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        queue.put_many("emails", [1, 2])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(refused) == 1
    assert queue.stats("emails").ready == 2


def test_an_operator_who_changes_thousands_leaves_the_lock_to_others_in_between(queue: Queue):
    """A million in one transaction would keep every worker waiting, until it gives up after five seconds."""
    queue.put_many("emails", [b"x"] * 12_000)
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    said: list[str] = []
    backend._link.db.set_trace_callback(said.append)
    assert queue.bury_jobs("emails", "ready", "aside") == 12_000
    assert said.count("COMMIT") == 3
    assert queue.kick("emails", 11_000) == 11_000
    assert queue.move_jobs("emails", "others", "ready") == 11_000
    assert queue.discard("others", "ready", 6_000) == 6_000
    assert queue.discard("others", "ready", 0) == 0
    assert queue.stats("others", cap=20_000).ready == 5_000


def test_an_operator_who_is_locked_out_half_way_is_told_so(file: Path, queue: Queue, monkeypatch):
    queue.put_many("emails", [b"x"] * 12_000)
    backend = queue.backend
    assert isinstance(backend, SqliteBackend)
    backend._link._patience = 0.3
    rival = sqlite3.connect(file, isolation_level=None)
    write = backend._link.write

    def written_and_then_locked(*work, **options):
        monkeypatch.undo()
        result = write(*work, **options)
        rival.execute("BEGIN IMMEDIATE")
        return result

    monkeypatch.setattr(backend._link, "write", written_and_then_locked)
    with pytest.raises(OutcomeUnknown, match="5,000 jobs were changed"):
        queue.bury_jobs("emails", "ready", "aside")
    rival.close()
    assert queue.bury_jobs("emails", "ready", "aside") == 7_000


@pytest.mark.slow
def test_a_writer_that_does_not_let_go_is_said_and_nothing_happened(file: Path, queue: Queue):
    """F27: busy is an error in words after five seconds, never an empty queue."""
    queue.put("emails", 1)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendBusy, match="write lock"):
        queue.reserve("emails")
    assert queue.stats("emails").ready == 1  # readers never wait for a writer
    blocker.execute("ROLLBACK")
    blocker.close()
    assert queue.reserve("emails") is not None


def test_a_put_finds_the_short_gaps_between_busy_writers(file: Path, queue: Queue):
    """Writers that are never idle leave the lock free for moments: nobody may starve beside them."""
    done = threading.Event()

    def hog() -> None:
        db = sqlite3.connect(file, isolation_level=None)
        while not done.is_set():
            db.execute("BEGIN IMMEDIATE")
            time.sleep(0.05)
            db.execute("ROLLBACK")
            time.sleep(0.002)
        db.close()

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        for number in range(3):
            queue.put("emails", number)
    finally:
        done.set()
        thread.join()
    assert queue.stats("emails").ready == 3


def test_a_fork_does_not_inherit_the_queue(queue: Queue):
    """SQLite's locks do not survive a fork: the child is told so."""
    queue.put("emails", 1)
    pid = os.fork()
    if pid == 0:
        try:
            queue.reserve("emails")
        except BackendUnavailable:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda p: p.write_bytes(b"not a database, but long enough to be read as one" * 20),
            QueueError,
            "not a",
        ),
        (lambda p: p.mkdir(), QueueError, "folder"),
    ],
)
def test_a_path_that_is_no_database_is_refused_and_left_alone(file: Path, make, error, text: str):
    make(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(error, match=text):
        fleet.connect(f"sqlite:///{file}")
    assert (file.read_bytes() if file.is_file() else None) == before


def test_somebody_elses_table_is_left_alone(file: Path):
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE fleet_jobs (id INTEGER PRIMARY KEY, body TEXT)")
    db.commit()
    with pytest.raises(SchemaError, match=r"fleet_jobs already exists, and is not fleet's: .*\?prefix="):
        fleet.connect(f"sqlite:///{file}")
    assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["fleet_jobs"]
    fleet.connect(f"sqlite:///{file}?prefix=mine").close()
    db.close()


def test_a_missing_folder_is_said(tmp_path: Path):
    with pytest.raises(QueueError, match="folder must exist"):
        fleet.connect(f"sqlite:///{tmp_path}/missing/jobs.db")


def test_tables_of_a_newer_fleet_are_refused(file: Path, queue: Queue):
    queue.close()
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("UPDATE fleet_meta SET value = '999' WHERE name = 'schema'")
    db.close()
    with pytest.raises(SchemaError, match=r"999.*Update fleet"):
        fleet.connect(f"sqlite:///{file}")


def test_a_table_that_is_gone_is_told_and_not_made_anew(file: Path, queue: Queue):
    """An empty one in its place would hide what was lost; the others stay as they are."""
    queue.pause("emails", 600)
    with closing(sqlite3.connect(file)) as db:
        db.execute("ALTER TABLE fleet_jobs RENAME TO elsewhere")
        with fleet.connect(f"sqlite:///{file}") as again:
            with pytest.raises(SchemaError, match=r"no such table: fleet_jobs\. .* fleet queue migrate$"):
                again.reserve("emails")
            for verb in (again.migrate, again.info):
                with pytest.raises(SchemaError, match=r"fleet_jobs is gone.*fleet queue migrate --sql"):
                    verb()
        db.execute("ALTER TABLE elsewhere RENAME TO fleet_jobs")
    with fleet.connect(f"sqlite:///{file}") as again:
        assert again.migrate() == (1, 1)
        assert again.stats("emails").paused > 500


def test_a_look_leaves_a_file_as_it_is(file: Path):
    """create=False: not made, given no tables, and not switched to WAL: it may be somebody else's."""
    with pytest.raises(NoTables, match="fleet queue migrate"):
        fleet.connect(f"sqlite:///{file}", create=False)
    assert not file.exists()
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE theirs (id int)")
    before = file.read_bytes()
    with fleet.connect(f"sqlite:///{file}", create=False) as queue:
        assert queue.info().schema_found is None
        with pytest.raises(SchemaError, match="fleet queue migrate"):
            queue.stats("emails")
    assert file.read_bytes() == before


def test_a_connection_without_tables_is_not_given_any(file: Path):
    """No DDL on the caller's connection."""
    db = sqlite3.connect(file)
    with pytest.raises(SchemaError, match="fleet queue migrate"):
        fleet.connect(connection=db)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize(
    "dsn",
    [
        "jobs.db",
        "oracle://x",
        "sqlite://",
        "sqlite:///a\nb",
        "sqlite:///jobs.db?synchronous=off",
        "sqlite:///jobs.db?nolock=1",
        "sqlite:///jobs.db?prefix=a.b",
        "sqlite:///jobs%00.db",
        "postgresql://ada:secret@db:70000/x",
        "mysql://ada:secret@db:abc/x",
        "beanstalkd://user@localhost",
    ],
)
def test_a_dsn_that_cannot_be_used_is_refused_without_its_password(dsn: str):
    with pytest.raises(DsnError) as caught:
        fleet.connect(dsn)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_info_tells_the_level_in_force(file: Path):
    with fleet.connect(f"sqlite:///{file}") as full:
        assert full.info().durability == "power"
    with fleet.connect(f"sqlite:///{file}?synchronous=normal") as normal:
        assert normal.info().durability == "process"
        assert any("power cut" in note for note in normal.info().notes)


def test_a_missing_index_is_told_with_the_statement_that_makes_it(file: Path):
    """A copy of the tables may have come without it, and nothing else would tell."""
    with fleet.connect(f"sqlite:///{file}") as queue:
        queue.put("emails", 1)
        assert not any("index" in note for note in queue.info().notes)
        with sqlite3.connect(file) as db:
            db.execute("DROP INDEX fleet_jobs_reserved")
        (note,) = [note for note in queue.info().notes if "index" in note]
        said, mend = note.splitlines()
        assert "fleet_jobs_reserved is missing" in said
        with sqlite3.connect(file) as db:
            db.execute(mend)
        assert not any("index" in note for note in queue.info().notes)


def test_a_million_due_jobs_do_not_stop_the_others_for_long(queue: Queue):
    """Due jobs are made ready in bounded steps, and none is left out of order."""
    queue.put_many("emails", range(25_000), delay=0.01, priority=9)
    queue.put("emails", "urgent", delay=0.01, priority=1)
    time.sleep(0.05)
    job = queue.reserve("emails")
    assert job is not None
    assert job.data == "urgent"
