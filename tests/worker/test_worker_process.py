"""A worker process seen from outside: what it does to jobs, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fleet.queue.consumer import SLICE
from tests.waiting import eventually
from tests.worker.conftest import Site

End = Callable[..., int]


def test_jobs_are_done_and_the_worker_leaves_on_sigterm(site: Site, end: End) -> None:
    """Each job runs once, in order, and is deleted; an idle worker leaves before its wait is over."""
    ids = site.queue.put_many("emails", range(300))
    worker = site.worker("note")
    site.wait_until_empty()

    assert site.lines() == [str(id_) for id_ in ids]
    asked_at = time.monotonic()
    assert end(worker) == 0
    assert time.monotonic() - asked_at < SLICE - 1


def test_sigterm_lets_the_job_in_hand_finish_and_gives_back_the_rest(site: Site, end: End) -> None:
    """What was begun is done and settled; what was not begun is ready again, with no attempt counted."""
    site.queue.put_many("emails", range(3))
    worker = site.worker("held")
    site.wait_for(1, "begun")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in site.log)
    site.let_go()

    assert worker.wait(20) == 0
    assert len(site.lines()) == 1
    stats = site.queue.stats("emails")
    assert (stats.ready, stats.reserved) == (2, 0)
    assert [job.attempt for job in site.queue.peek("emails", "ready", 9)] == [0, 0]


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_comes_back_after_its_ttr(site: Site, end: End) -> None:
    """kill -9 in the middle of a job: it runs again, with one crash counted apart from failures."""
    site.queue.put("emails", 1.2, ttr=1.5)
    first = site.worker("nap")
    site.wait_for(1, "begun")
    first.kill()
    first.wait()
    second = site.worker("nap")

    _, attempt, crashes, _ = site.wait_for(1)[0].split()
    assert (attempt, crashes) == ("2", "1")
    site.wait_until_empty()
    assert end(second) == 0


def test_a_second_sigterm_releases_the_job_at_once(site: Site) -> None:
    """Nobody waits for the grace when the signal comes twice; the attempt is not counted."""
    site.queue.put("emails", 30)
    worker = site.worker("nap")
    site.wait_for(1, "begun")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in site.log)
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    job = site.queue.peek_ready("emails")
    assert job is not None and job.attempt == 0 and job.reason == "interrupted"


@pytest.mark.slow
def test_a_job_that_outlasts_the_grace_is_interrupted_and_released(site: Site) -> None:
    """At the end of the grace the handler is told; then the process goes, whether it listened or not."""
    site.queue.put("emails", 30)
    worker = site.worker("stubborn", grace=0.5)
    site.wait_for(1, "begun")
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    assert "Interrupted" in site.lines("swallowed")
    job = site.queue.peek_ready("emails")
    assert job is not None and job.reason == "interrupted"


def test_a_timeout_is_raised_in_the_handler(site: Site, end: End) -> None:
    """The handler may clean up; the attempt counts as a failure."""
    site.queue.put("emails", 30)
    worker = site.worker("polite", timeout=0.3, retries={"max": 0})

    assert site.wait_for(1) == ["JobTimeout"]
    assert site.reason().startswith("JobTimeout: the job ran longer than 0.3 seconds at ")
    assert end(worker) == 0


@pytest.mark.slow
def test_a_handler_that_ignores_its_timeout_is_ended_with_its_process(site: Site) -> None:
    """Supervisord sees an unexpected exit; the job says why and is tried again by its retries."""
    site.queue.put("emails", 60)
    worker = site.worker("stubborn", timeout=0.3, retries={"max": 3, "first": 60})

    assert worker.wait(15) == 70
    job = site.queue.peek_delayed("emails")
    assert job is not None and job.attempt == 1
    assert "did not end when it was told to" in job.reason
    assert "does not end" in site.log


@pytest.mark.slow
def test_a_worker_in_a_shells_pipe_does_not_kill_who_reads_it(site: Site) -> None:
    """`fleet work … | tee log`: a shell with job control gives both one process group, of the first."""
    site.queue.put("emails", 60)
    spec = site.spec("stubborn", timeout=0.3)
    worker = f"{sys.executable} -m fleet.worker.main {spec}"
    shell = f"set -m; {worker} 2>&1 | (cat > log; sleep 0.2; echo read > end)"
    subprocess.run(["bash", "-c", shell], cwd=site.folder, timeout=20, check=True)

    assert "does not end" in site.log
    assert site.lines("end") == ["read"]


def test_each_way_out_of_a_handler_has_its_outcome(site: Site, end: End) -> None:
    """Bury buries, Retry retries, any error follows the retries, and none of them ends the worker."""
    for verb in ("bury", "retry", "exit", "deep", "own", "error"):
        site.queue.put("emails", verb)
    worker = site.worker("outcomes", retries={"max": 1, "first": 0.05, "jitter": False})
    eventually(lambda: site.queue.stats("emails").buried == 5)

    reasons = {job.data: job.reason.splitlines()[0] for job in site.queue.peek("emails", "buried", 9)}
    assert reasons["bury"] == "not an address"
    assert reasons["own"] == "by hand"
    assert reasons["exit"].startswith("SystemExit: 3 at ")
    assert reasons["deep"].startswith("RecursionError: ")
    assert reasons["error"].startswith("KeyError: 'error' at ")
    assert "handlers.py:" in reasons["error"]
    assert site.lines().count("error 1") == site.lines().count("error 2") == 1
    assert "retry 2" in site.lines()
    assert end(worker) == 0


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_coroutine_that_nobody_awaits_is_a_failure(site: Site, end: End, concurrency: int) -> None:
    """The job was not even begun: it is kept, and the reason says what is wrong with the handler."""
    site.queue.put("emails", 1)
    worker = site.worker("decorated", concurrency=concurrency, retries={"max": 0})
    eventually(lambda: site.queue.stats("emails").buried == 1)

    assert "gave back a coroutine that nobody runs" in site.queue.peek("emails", "buried")[0].reason
    assert end(worker) == 0


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_buried_and_its_neighbours_are_not(site: Site, end: End) -> None:
    """The innocents that were claimed beside it come through, and it stops after max_crashes."""
    warm = site.queue.put_many("emails", ["ok"] * 200, ttr=0.7)
    site.queue.put("emails", "kill", ttr=0.7)
    after = site.queue.put_many("emails", ["ok"] * 20, ttr=0.7)
    worker = site.worker("poison", max_crashes=2)

    deadline = time.monotonic() + 25
    while not site.queue.stats("emails").buried and time.monotonic() < deadline:
        if worker.poll() is not None:
            worker = site.worker("poison", max_crashes=2)
        time.sleep(0.05)
    site_done = {str(id_) for id_ in (*warm, *after)}
    eventually(lambda: site_done <= set(site.lines()), within=10)
    assert len(site.lines("killed")) == 2
    assert site.reason().startswith("crashed: 2 workers ")
    assert end(worker) == 0


def test_a_slow_job_never_keeps_ready_jobs_from_an_idle_worker(site: Site) -> None:
    """One long job among a thousand short ones, two workers: the short ones do not wait for it."""
    site.queue.put_many("emails", [0] * 500)
    slow = site.queue.put("emails", 60)
    short = site.queue.put_many("emails", [0] * 500)
    workers = [site.worker("nap"), site.worker("nap")]

    site.wait_for(1000, within=30)
    assert str(slow) in site.lines("begun")
    assert str(short[-1]) in site.lines("begun")
    for worker in workers:
        worker.kill()


@pytest.mark.slow
def test_the_lease_of_a_long_job_is_kept(site: Site, end: End) -> None:
    """A job longer than its ttr runs once, although another worker waits for it."""
    site.queue.put("emails", 3.2, ttr=1.5)
    workers = [site.worker("nap"), site.worker("nap")]

    assert site.wait_for(1) == ["1 1 0 False"]
    site.wait_until_empty()
    assert [end(worker) for worker in workers] == [0, 0]
    assert len(site.lines()) == 1


@pytest.mark.slow
def test_a_stopped_worker_that_comes_back_does_not_settle_what_it_lost(site: Site, end: End) -> None:
    """SIGSTOP longer than the ttr: another worker has the job by then, and its work counts."""
    site.queue.put("emails", 1.0, ttr=0.8)
    zombie = site.worker("nap")
    site.wait_for(1, "begun")
    zombie.send_signal(signal.SIGSTOP)
    other = site.worker("nap")
    site.wait_for(2, "begun")
    zombie.send_signal(signal.SIGCONT)

    eventually(lambda: "lease-lost job=1" in site.log)
    site.wait_for(2)
    site.wait_until_empty()
    assert [end(zombie), end(other)] == [0, 0]
    assert "done=0" in site.log and "lost=1" in site.log


def test_a_worker_recycles_after_so_many_jobs(site: Site) -> None:
    """It leaves with 0 and gives back what it had claimed ahead."""
    site.queue.put_many("emails", range(50))
    worker = site.worker("note", recycle={"jobs": 20})

    def more_work_until_it_left() -> bool:
        site.queue.put("emails", 1)
        return worker.poll() is not None

    eventually(more_work_until_it_left)
    assert worker.returncode == 0
    assert len(site.lines()) >= 20
    assert site.queue.stats("emails").reserved == 0
    assert "recycle: jobs" in site.log


@pytest.mark.slow
def test_a_worker_recycles_by_its_age_and_never_within_startsecs(site: Site) -> None:
    """supervisord would count an earlier exit as a failed start."""
    worker = site.worker("note", recycle={"age": 0.1}, startsecs=2)
    assert worker.wait(20) == 0
    assert "recycle: age" in site.log
    assert float(site.log.rpartition("up=")[2]) >= 2


@pytest.mark.slow
def test_a_worker_recycles_by_its_memory(site: Site) -> None:
    """A handler that leaks is kept in bounds; the job in hand is finished first."""
    site.queue.put_many("emails", range(3))
    worker = site.worker("grow", recycle={"memory": 100_000_000})
    assert worker.wait(20) == 0
    assert "recycle: memory" in site.log
    assert site.is_empty() and len(site.lines()) == 3


@pytest.mark.slow
def test_a_handler_that_holds_the_interpreter_for_ever_is_ended(site: Site) -> None:
    """No thread of ours can act, so the process ends itself, and says where it was."""
    site.queue.put("emails", 60, ttr=60)
    worker = site.worker("hold_the_interpreter", timeout=0.3, env={"SUPERVISOR_PROCESS_NAME": "emails_00"})
    assert worker.wait(30) == 1
    assert "in hold_the_interpreter" in site.log


def test_log_jobs_writes_a_line_for_each_job(site: Site, end: End) -> None:
    """By default only failures are told; every line names job, pipeline and attempt."""
    site.queue.put_many("emails", ["own", "error"])
    worker = site.worker("outcomes", retries={"max": 1, "first": 60})
    eventually(lambda: "failed job=2 pipeline=emails attempt=1 reason=" in site.log)
    assert end(worker) == 0
    assert "done job=" not in site.log

    site.queue.put("emails", 0)
    worker = site.worker("nap", logs={"log_jobs": True, "format": "json"})
    eventually(lambda: site.queue.find(3) is None)
    assert end(worker) == 0
    events = [json.loads(line) for line in site.log.splitlines() if line.startswith("{")]
    (done,) = [event for event in events if event["event"] == "done"]
    assert (done["job"], done["pipeline"], done["attempt"]) == (3, "emails", 1)
    assert done["took"] < 5


def test_a_closed_stdout_stops_no_job(site: Site, end: End) -> None:
    """The reader of the log is gone: prints and log lines are dropped, jobs go on."""
    read, write = os.pipe()
    worker = site.worker("talk", stdout=write, logs={"log_jobs": True})
    os.close(write)
    os.close(read)
    site.queue.put_many("emails", range(50))

    site.wait_for(50)
    site.wait_until_empty()
    assert end(worker) == 0


def test_a_full_stdout_stops_no_job(site: Site, end: End) -> None:
    """Nobody reads the pipe (supervisord hangs): far more than it holds is printed, and every job is done."""
    read, write = os.pipe()
    worker = site.worker("talk", stdout=write)
    os.close(write)
    site.queue.put_many("emails", range(500))

    site.wait_for(500, within=20)
    site.wait_until_empty()
    assert end(worker) == 0
    os.close(read)


@pytest.mark.slow
def test_workers_leave_when_supervisord_dies(site: Site) -> None:
    """Also from behind a wrapper that is not killed with it."""
    spec = site.spec("nap")
    daemon = site.folder / "supervisord"  # what counts is the name in the process table
    daemon.write_text(
        "import subprocess, sys\n"
        f"worker = '{sys.executable} -m fleet.worker.main {spec}'\n"
        "subprocess.run(['/bin/sh', '-c', worker + ' & echo $! > pid; wait'])\n"
    )
    with open(site.folder / "log", "a") as log:
        supervisord = subprocess.Popen(
            [sys.executable, str(daemon)],
            cwd=site.folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "SUPERVISOR_PROCESS_NAME": "emails_00", "SUPERVISOR_GROUP_NAME": "emails"},
        )
    site.started.append(supervisord)  # type: ignore[arg-type]
    eventually(lambda: "started" in site.log)
    # The shell may write it later than its child has come up.
    pid = int(eventually(lambda: site.lines("pid"))[0])
    supervisord.kill()
    supervisord.wait()

    eventually(lambda: not _is_alive(pid), within=8)
    assert "supervisord is gone" in site.log


@pytest.mark.parametrize("handler", ["side_by_side", "side_by_side_async"])
def test_concurrency_runs_jobs_side_by_side(site: Site, end: End, handler: str) -> None:
    """Threads for plain handlers, tasks for async ones."""
    site.queue.put_many("emails", range(4))
    worker = site.worker(handler, concurrency=4)

    site.wait_for(4)
    site.wait_until_empty()
    assert end(worker) == 0


@pytest.mark.parametrize("handler", ["spin", "nap_async"])
def test_a_timeout_ends_one_slot_and_leaves_the_others(site: Site, end: End, handler: str) -> None:
    """The late job fails, its neighbours are done, and the worker goes on."""
    site.queue.put("emails", 30)
    others = site.queue.put_many("emails", [0.1] * 6)
    worker = site.worker(handler, concurrency=3, timeout=1.5, retries={"max": 0})

    assert site.reason().startswith("JobTimeout: the job ran longer than 1.5 seconds")
    assert sorted(site.wait_for(6)) == sorted(str(id_) for id_ in others)
    eventually(lambda: site.queue.stats("emails").reserved == 0)
    assert end(worker) == 0


@pytest.mark.slow
def test_a_task_that_is_late_before_it_begins_ends_like_any_other(site: Site, end: End) -> None:
    """Its time goes by while another one stops the loop; the worker goes on."""
    first = site.queue.put("emails", 3.0)
    worker = site.worker("block", concurrency=2, timeout=0.5, retries={"max": 0})
    site.wait_for(1, "begun")
    second = site.queue.put("emails", 0.0)

    eventually(lambda: site.queue.stats("emails").buried == 2)
    assert site.lines("begun") == [str(first), str(second)]
    assert end(worker) == 0
    assert "does not end" not in site.log


def test_sigterm_drains_every_slot(site: Site, end: End) -> None:
    """All jobs in hand are finished, none is begun."""
    site.queue.put_many("emails", range(5))
    worker = site.worker("held", concurrency=3)
    site.wait_for(3, "begun")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in site.log)
    site.let_go()

    assert worker.wait(20) == 0
    assert len(site.lines()) == 3
    assert site.queue.stats("emails").ready == 2


def test_usr1_pauses_and_cont_resumes(site: Site, end: End) -> None:
    """A paused worker takes nothing; the pulse and the log say so."""
    worker = site.worker("note")
    eventually(lambda: "started" in site.log)
    worker.send_signal(signal.SIGUSR1)
    eventually(lambda: "paused" in site.log)
    time.sleep(0.1)
    site.queue.put("emails", 1)
    time.sleep(0.3)
    assert not site.lines()

    worker.send_signal(signal.SIGCONT)
    site.wait_for(1)
    assert end(worker) == 0


def test_usr2_tells_what_every_slot_is_doing(site: Site, end: End) -> None:
    """With the handler's own line in it."""
    site.queue.put("emails", 1)
    worker = site.worker("held")
    site.wait_for(1, "begun")
    worker.send_signal(signal.SIGUSR2)

    eventually(lambda: "dump-job job=1" in site.log)
    eventually(lambda: "handlers.py:" in site.log)
    site.let_go()
    assert end(worker) == 0


def test_secrets_reach_the_handler_and_not_the_reason(site: Site, end: End) -> None:
    """From a private file and from the environment; redacted keys are masked where an error is kept."""
    private = site.folder / "smtp"
    private.write_text("s3cret\n")
    private.chmod(0o600)
    site.queue.put("emails", ["SMTP", "TOKEN", "PLAIN", "GONE"])
    worker = site.worker(
        "show_environment",
        environment={"PLAIN": 'a "b", %d'},
        secrets={
            "SMTP": {"file": str(private)},
            "TOKEN": {"env": "FLEET_TEST_TOKEN"},
            "GONE": {"credential": "nope", "optional": True},
        },
        env={"FLEET_TEST_TOKEN": "t0ken"},
    )
    assert site.wait_for(4) == ["SMTP=s3cret", "TOKEN=t0ken", 'PLAIN=a "b", %d', "GONE=None"]
    assert end(worker) == 0

    site.queue.put("emails", {"password": "hunter2"})
    worker = site.worker("secret", retries={"max": 0}, redact=["password"])
    reason = site.reason()
    assert "hunter2" not in reason and "\x1b" not in reason
    assert "password=***" in reason
    assert end(worker) == 0


def test_a_secret_that_everybody_can_read_is_refused(site: Site) -> None:
    """With the path and the command that repairs it, before any job is touched."""
    public = site.folder / "smtp"
    public.write_text("s3cret\n")
    public.chmod(0o644)
    worker = site.worker("note", secrets={"SMTP": {"file": str(public)}})

    assert worker.wait(20) == 4
    assert f"chmod o=,g-w {public}" in site.log
    assert "s3cret" not in site.log


def test_a_worker_is_lean(site: Site, end: End) -> None:
    """Neither the command line's libraries nor the drivers of other servers are in its memory."""
    site.queue.put("emails", 1)
    worker = site.worker(handler="lean_handler:modules")
    loaded = set(site.wait_for(1)[0].split())
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))  # KiB
    assert end(worker) == 0

    heavy = {"typer", "click", "rich", "pydantic", "jinja2", "psycopg", "pymysql", "greenstalk", "supervisor"}
    assert not loaded & (heavy | {"asyncio", "logging", "ssl", "fleet.manifest", "fleet.cli"})
    assert rss < 22 * 1024  # 18 MiB where it was measured; the rest is the build of Python


def test_a_worker_that_may_open_too_few_files_ends_in_words(site: Site, end: End) -> None:
    """F50: at each of its steps it names the limit, and leaves the job to a worker that has more."""
    id_ = site.queue.put("emails", 1)
    limits = (6, 7, 9, 12, 14)
    workers = [site.worker("note", before=("prlimit", f"--nofile={most}")) for most in limits]
    assert {worker.wait(20) for worker in workers} <= {6, 71}
    for most in limits:
        assert f"may not open more than {most} files (ulimit -n)" in site.log
    assert "Traceback" not in site.log

    enough = site.worker("note", before=("prlimit", "--nofile=64"))
    assert site.wait_for(1) == [f"{id_}"]
    assert end(enough) == 0


def test_a_job_that_needs_more_memory_than_there_is_fails_alone(site: Site, end: End) -> None:
    """F50: the error is an error like others, and the next job has what it needs."""
    site.queue.put_many("emails", [1 << 30, 1000])
    worker = site.worker("allocate", retries={"max": 0}, before=("prlimit", f"--as={400 << 20}"))
    assert site.wait_for(1) == ["2"]
    assert site.reason().startswith("MemoryError")
    assert end(worker) == 0


@pytest.mark.parametrize("way", ["return", "fail"])
def test_what_a_handler_made_does_not_stay_with_an_idle_worker(site: Site, end: End, way: str) -> None:
    """Neither a result that nobody wants nor what an error's frames hold waits for the next job."""
    site.queue.put("emails", way)
    worker = site.worker("make_much", retries={"max": 0})
    site.wait_for(1)
    eventually(lambda: site.queue.stats("emails").reserved == 0)  # it is over, and settled

    eventually(lambda: psutil.Process(worker.pid).memory_info().rss < 100_000_000)
    assert end(worker) == 0


def test_the_exec_shim_becomes_the_command(site: Site) -> None:
    """Environment and secrets are set, and the process is the command itself."""
    script = 'import os; print(os.environ["WORD"], os.getpid(), os.environ["FLEET_PIPELINE"])'
    spec = site.spec(
        command=f"{sys.executable} -c '{script}'",
        environment={"WORD": "100%"},
    )
    process = site.run("--exec", str(spec))

    assert process.wait(10) == 0
    assert site.log.split() == ["100%", str(process.pid), "emails"]


@pytest.mark.parametrize("has_secret", [True, False])
def test_a_process_with_secrets_leaves_no_core(site: Site, has_secret: bool) -> None:
    """A core file would hold them; where there are none, the limit is the operator's business."""
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    secrets = {"secrets": {"TOKEN": {"env": "HOME"}}} if has_secret else {}
    spec = site.spec(command=f"{sys.executable} -c '{script}'", **secrets)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    most = before[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    try:
        process = site.run("--exec", str(spec))
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert process.wait(10) == 0
    assert site.log.strip() == str((0 if has_secret else most, most))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"handler": "nowhere:send"}, "no module nowhere"),
        ({"handler": "handlers:nothing"}, "handlers has no nothing"),
        ({"timeout": "soon"}, 'timeout: expected a number, got "soon"'),
        ({"schema": "fleet.worker/9"}, "Render it again"),
        ({"directory": "/nowhere/at/all"}, "directory /nowhere/at/all"),
    ],
)
def test_a_spec_that_cannot_be_used_ends_in_words(site: Site, changes: dict[str, object], words: str) -> None:
    """Exit 4 and one line, so that supervisord's FATAL has its reason in the log."""
    worker = site.run(str(site.spec("note", **changes)))
    assert worker.wait(20) == 4
    assert words in site.log
    assert "Traceback" not in site.log


def test_a_signal_to_a_forked_child_is_not_for_the_worker(site: Site, end: End) -> None:
    """The child of a handler inherits descriptors, and dies of SIGTERM as any process does."""
    site.queue.put_many("emails", [1, 2])
    worker = site.worker("fork")

    assert site.wait_for(2) == ["-15", "-15"]
    site.wait_until_empty()
    assert "draining" not in site.log
    assert end(worker) == 0


def test_a_forked_child_keeps_the_signal_handlers_of_its_handler(site: Site, end: End) -> None:
    """It loses the worker's, and no other."""
    site.queue.put("emails", 1)
    worker = site.worker("fork_with_a_handler")

    assert site.wait_for(1) == ["7"]
    site.wait_until_empty()
    assert end(worker) == 0


def test_a_forked_child_that_comes_back_is_no_second_worker(site: Site, end: End) -> None:
    """F8: it ends where its handler ends, settles nothing, and runs nothing of what was claimed ahead."""
    jobs = ["exit", "error", "return", "return", "return"]
    site.queue.put_many("emails", jobs)
    worker = site.worker("fork_and_return")
    site.wait_until_empty()

    assert sorted(site.lines()) == sorted(f"{what} {who}" for what in jobs for who in ("child", "parent"))
    assert site.lines("codes") == ["3", "1", "0", "0", "0"]
    assert "KeyError: 'error'" in site.log
    assert end(worker) == 0
    assert "done=5 failed=0 buried=0 lost=0" in site.log


def test_what_a_forked_child_logs_is_in_the_log(site: Site, end: End) -> None:
    """The thread that writes lines is the parent's."""
    ids = site.queue.put_many("emails", [1, 2])
    worker = site.worker("fork_and_log")
    site.wait_until_empty()

    assert end(worker) == 0
    assert [line for line in site.log.splitlines() if line.startswith("child")] == [
        f"child of {id_}" for id_ in ids
    ]


@pytest.mark.parametrize("handler", ["vandal", "vandal_async"])
def test_what_a_handler_does_to_its_process_is_not_for_the_next_job(
    site: Site, end: End, handler: str
) -> None:
    """F10: descriptors, umask, working directory and signals; what it prints then is logged all the same."""
    diary = site.folder / "diary"
    diary.touch()
    site.queue.put_many("emails", ["before", "spoil", "after"])
    worker = site.worker(handler, env={"DIARY": str(diary)})
    site.wait_until_empty()
    before, spoil, after = (line.split(maxsplit=1) for line in diary.read_text().splitlines())

    assert spoil[1].startswith("/ 777 <Handlers.SIG_IGN")
    assert before[1].startswith(f"{site.folder} ") and "function" in before[1]
    assert after[1] == before[1]
    assert [line for line in site.log.splitlines() if line.startswith("said")] == [
        *("said before", "said spoil", "said after"),
    ]
    site.queue.put("emails", "later")
    eventually(lambda: "later" in diary.read_text())
    assert end(worker) == 0
    assert "draining why=SIGTERM" in site.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_after_a_loop_of_the_handlers_own(site: Site, number: signal.Signals) -> None:
    """F10: asyncio drops the descriptor with its last signal, which gets back a handler of Python's own."""
    site.queue.put("emails", "leave")
    worker = site.worker("own_loop")
    site.wait_until_empty()
    worker.send_signal(number)

    assert worker.wait(10) == 0
    assert f"draining why={number.name}" in site.log


def test_a_stop_is_heard_beside_a_loop_of_the_handlers_own(site: Site) -> None:
    """The loop goes on hearing what it asked for."""
    site.queue.put("emails", "wait")
    worker = site.worker("own_loop")
    site.wait_for(1, "begun")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining why=SIGTERM" in site.log)
    worker.send_signal(signal.SIGINT)

    assert worker.wait(10) == 0
    assert "done=1 failed=0" in site.log


def test_a_supervisord_that_died_during_our_start_is_missed(site: Site) -> None:
    """No parent is left to change, but the pipe that supervisord gave as stdin has no writer any more."""
    read, write = os.pipe()
    os.close(write)
    worker = site.worker("note", stdin=read, env={"SUPERVISOR_PROCESS_NAME": "emails_00"})
    os.close(read)

    assert worker.wait(10) == 0
    assert "supervisord is gone" in site.log


@pytest.mark.slow
def test_a_forgotten_thread_does_not_keep_the_worker(site: Site, end: End) -> None:
    """The interpreter would wait for it for ever."""
    site.queue.put("emails", 1)
    worker = site.worker("forgotten_thread")
    site.wait_until_empty()
    assert end(worker) == 0


@pytest.mark.slow
def test_a_forgotten_thread_does_not_hide_an_error(site: Site) -> None:
    """The exit code is that of the error also where the interpreter would wait for a thread."""
    (site.folder / "broken.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nraise KeyError\n"
    )
    assert site.worker(handler="broken:run", path=[str(site.folder)]).wait(20) == 4


def test_tables_that_are_too_new_end_the_worker_in_words(site: Site) -> None:
    """Exit 6, unlike an outage, which is waited out."""
    with sqlite3.connect(site.folder / "queue.db") as db:
        db.execute("UPDATE fleet_meta SET value = '99' WHERE name = 'schema'")
    db.close()
    assert site.worker("note").wait(20) == 6
    assert "fleet-worker: " in site.log and "99" in site.log
    assert "Traceback" not in site.log


@pytest.mark.slow
def test_a_locked_database_is_waited_out(site: Site, end: End) -> None:
    """The worker stays, says since when in its pulse and its log, and goes on by itself."""
    site.queue.put("emails", 0.5)
    worker = site.worker("nap", env={"SUPERVISOR_PROCESS_NAME": "emails_00"})
    site.wait_for(1, "begun")
    blocker = sqlite3.connect(site.folder / "queue.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    eventually(lambda: "waiting back end away since" in site.log, within=20)
    blocker.execute("ROLLBACK")
    blocker.close()

    site.queue.put("emails", 0)
    site.wait_for(2)
    eventually(lambda: "back-end-back" in site.log)
    assert any(pulse.pid == worker.pid for pulse in site.queue.pulses())
    assert end(worker) == 0


def test_help_and_wrong_usage(site: Site) -> None:
    """--help is data on stdout; anything else that is no spec is exit 2."""
    assert site.run("--help").wait(10) == 0
    assert "usage: fleet-worker SPEC.json" in site.log
    assert site.run("--nonsense").wait(10) == 2


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_tells_what_it_did_and_what_went_wrong(site: Site, end: End) -> None:
    """Minutes and error groups reach the queue's tables, at the latest when the worker leaves."""
    site.queue.put_many("emails", ["fail", "bury", "bury"])
    names = {"SUPERVISOR_PROCESS_NAME": "emails_00", "SUPERVISOR_GROUP_NAME": "emails"}
    worker = site.worker("outcomes", env=names)
    eventually(lambda: site.queue.stats("emails").buried == 2)
    assert end(worker) == 0

    rows = site.queue.minutes(120)
    assert (sum(row.retried for row in rows), sum(row.buried for row in rows)) == (1, 2)
    assert rows[0].process.split()[1] == "emails:emails_00"
    groups = {group.kind: group for group in site.queue.errors(60)}
    assert {kind: group.count for kind, group in groups.items()} == {"buried": 2, "retried": 1}
    assert groups["retried"].cause == "KeyError: 'fail'"
    assert "handlers.py:" in groups["buried"].place
    assert groups["buried"].place.endswith(" outcomes")
