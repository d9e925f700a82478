"""A worker process on every back end: draining, leases, kill -9 at each step, outages, refusals."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

import fleet
from fleet.queue.consumer import SLICE
from tests import servers
from tests.proxy import Proxy
from tests.waiting import eventually
from tests.worker.conftest import Site

End = Callable[..., int]
pytestmark = pytest.mark.slow

FAIL_POINTS = Path(__file__).parent / "fail_points"
SERVERS = {"postgresql": "postgres_dsn", "mariadb": "mariadb_dsn", "beanstalkd": "beanstalkd_dsn"}
START = {"postgresql": servers.postgres, "mariadb": servers.mariadb, "beanstalkd": servers.beanstalkd}
_on_server = [pytest.param(name, marks=pytest.mark.server) for name in SERVERS]
_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", *_on_server])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    dsn = "" if request.param == "sqlite" else str(request.getfixturevalue(SERVERS[request.param]))
    with contextlib.closing(Site(tmp_path, dsn, f"w{os.getpid()}-{next(_numbers)}")) as site:
        yield site


@pytest.fixture(params=_on_server)
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A server of its own, which the test may end and start again."""
    try:
        with START[request.param](durable=True) as server:
            yield server
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))


Away = tuple[Site, Proxy, str]


@pytest.fixture
def away(postgres_dsn: str, mariadb_dsn: str, beanstalkd_dsn: str, tmp_path: Path) -> Iterator[list[Away]]:
    """All servers at once, each with a proxy before it and its DSN without host and port."""
    with contextlib.ExitStack() as stack:
        made = []
        for dsn in (postgres_dsn, mariadb_dsn, beanstalkd_dsn):
            port = urlsplit(dsn).port
            assert port
            proxy = stack.enter_context(Proxy(port))
            folder = tmp_path / f"{port}"
            folder.mkdir()
            site = stack.enter_context(contextlib.closing(Site(folder, dsn, f"away-{next(_numbers)}")))
            made.append((site, proxy, dsn.replace(f"127.0.0.1:{port}", "{}:{}")))
        yield made


def test_a_worker_drains_its_pipeline_and_leaves(site: Site, end: End) -> None:
    """Each job once and in order; an idle worker hears SIGTERM at once."""
    ids = site.queue.put_many(site.pipeline, range(500))
    worker = site.worker("note")
    site.wait_until_empty(within=30)

    assert site.lines() == [str(id_) for id_ in ids]
    time.sleep(0.2)  # it waits for jobs by now
    asked_at = time.monotonic()
    assert end(worker) == 0
    assert time.monotonic() - asked_at < SLICE - 1
    assert "done=500 failed=0 buried=0 lost=0" in site.log


def test_a_job_put_while_the_worker_waits_is_done_at_once(site: Site, end: End) -> None:
    """Well before the next claim that would find it anyhow."""
    worker = site.worker("note")
    for count in range(1, 4):
        time.sleep(0.3)
        put_at = time.monotonic()
        site.queue.put(site.pipeline, 1)
        site.wait_for(count)
        assert count == 1 or time.monotonic() - put_at < SLICE / 2  # the first one waits for the start
    assert end(worker) == 0


def test_the_lease_of_a_long_job_is_kept(site: Site, end: End) -> None:
    """A job longer than its ttr runs once, although another worker waits for it."""
    site.queue.put(site.pipeline, 4.5, ttr=2)
    workers = [site.worker("nap"), site.worker("nap")]

    assert [line.split()[1:] for line in site.wait_for(1, within=20)] == [["1", "0", "False"]]
    site.wait_until_empty()
    assert [end(worker) for worker in workers] == [0, 0]
    assert len(site.lines()) == 1


@pytest.mark.parametrize("handler", ["held", "held_async"])
def test_sigterm_drains_every_slot(site: Site, handler: str) -> None:
    """The jobs in hand are finished and settled, the others are left ready for the next worker."""
    site.queue.put_many(site.pipeline, range(6))
    worker = site.worker(handler, concurrency=3)
    site.wait_for(3, "begun", within=20)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in site.log)
    site.let_go()

    assert worker.wait(20) == 0
    assert len(site.lines()) == 3
    stats = site.queue.stats(site.pipeline)
    assert (stats.ready, stats.reserved) == (3, 0)


@pytest.mark.parametrize(
    ("point", "attempt", "crashes"),
    [
        ("claim-not-sent", 1, 0),
        ("claim-not-committed", 1, 0),
        ("claim-committed", 2, 1),
        ("handler-running", 2, 1),
        ("handler-done", 2, 1),
        ("ack-not-sent", 2, 1),
        ("ack-not-committed", 2, 1),
        ("ack-sent", None, None),
        ("ack-confirmed", None, None),
    ],
)
def test_kill_9_at_each_step_loses_no_job(
    site: Site, point: str, attempt: int | None, crashes: int | None
) -> None:
    """
    The census adds up, starts are counted, and the rescue takes no longer than the rest of the lease.

    A job whose acknowledgement had reached the server is done; every other one comes back.
    """
    if point.endswith("not-committed") and not site.dsn.startswith("sqlite"):
        pytest.skip("one message there: it is sent or not")
    ttr = 1.5 if site.queue.capabilities.subsecond else 2
    id_ = site.queue.put(site.pipeline, 0, ttr=ttr)
    worker = site.worker("nap", env={"PYTHONPATH": str(FAIL_POINTS), "FLEET_TEST_KILL_AT": point})
    assert worker.wait(20) == -9

    job = site.queue.reserve(site.pipeline, timeout=ttr + 4 if attempt else 0.2)
    if attempt is None:
        assert job is None
    else:
        assert job is not None
        assert (job.id, job.attempt, job.crashes) == (id_, attempt, crashes)
        job.delete()
    assert site.is_empty()
    assert len(site.lines()) == (0 if point.startswith(("claim", "handler-running")) else 1)


def test_fail_points_are_not_shipped() -> None:
    """They live beside the tests, and no line of the package knows their switch."""
    package = Path(fleet.__file__).parent
    assert not [path for path in package.rglob("*.py") if "KILL_AT" in path.read_text("utf-8")]


def test_an_outage_is_waited_out(server: servers.Server, tmp_path: Path, end: End) -> None:
    """For any time: the process stays, says so, costs next to nothing, and works again by itself."""
    with contextlib.closing(Site(tmp_path, server.dsn)) as site:
        site.queue.put(site.pipeline, 1)
        worker = site.worker("note")
        site.wait_for(1, within=20)
        server.kill()
        eventually(lambda: "waiting back end away since" in site.log, within=SLICE + 10)
        time.sleep(2)  # its pauses have grown by then
        process = psutil.Process(worker.pid)
        before = process.cpu_times()
        time.sleep(5)
        after = process.cpu_times()
        assert (after.user + after.system - before.user - before.system) / 5 < 0.05
        assert worker.poll() is None
        assert site.log.count("waiting back end away since") == 1

        server.start()
        back_at = time.monotonic()
        with fleet.connect(server.dsn) as fresh:
            fresh.put(site.pipeline, 2)
        site.wait_for(2, within=10 - (time.monotonic() - back_at))
        eventually(lambda: "back-end-back" in site.log)
        assert end(worker) == 0


@pytest.mark.server
def test_a_slow_line_costs_no_lease(away: list[Away], end: End) -> None:
    """F44: half a second there and back, and 10 KiB a second, which for a ttr of 60 s were half of one."""
    for site, proxy, dsn in away:
        site.queue.put(site.pipeline, 3.6, ttr=3)
        site.worker("nap", queue={"dsn": dsn.format("127.0.0.1", proxy.port)})
    for site, proxy, _ in away:
        site.wait_for(1, "begun", within=20)
        proxy.slow(delay=0.25, rate=10_240)
    rivals = [site.worker("nap") for site, _, _ in away]
    for site, proxy, _ in away:
        assert [line.split()[1:] for line in site.wait_for(1)] == [["1", "0", "False"]]
        site.wait_until_empty()
        assert proxy.delayed > 100
    assert [end(rival) for rival in rivals] == [0, 0, 0]
    for site, _, _ in away:
        assert end(site.started[0]) == 0
        assert "done=1 failed=0 buried=0 lost=0" in site.log
        assert "waiting back end away" not in site.log


@pytest.mark.server
def test_a_name_that_does_not_resolve_is_waited_for(away: list[Away], tmp_path: Path, end: End) -> None:
    """F46: as any outage; and when the name means another address, the next connection goes there."""
    (tmp_path / "hosts").write_text("")
    (tmp_path / "nsswitch.conf").write_text("hosts: files\n")  # nobody on the network is asked
    mounts = [f"mount --bind '{tmp_path}/{name}' /etc/{name}" for name in ("hosts", "nsswitch.conf")]
    script = " && ".join([*mounts, 'exec "$@"'])
    inside = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    if subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("no mounts here")
    for site, proxy, dsn in away:
        site.worker("note", queue={"dsn": dsn.format("jobs.test", proxy.port)}, before=inside)
        site.queue.put(site.pipeline, 1)
    for site, _, _ in away:
        eventually(lambda: "waiting back end away since" in site.log)  # noqa: B023
    (tmp_path / "hosts").write_text("127.0.0.1 jobs.test\n")
    for site, _, _ in away:
        site.wait_for(1)
        site.wait_until_empty()  # beanstalkd would give a job that is not settled yet out again

    (tmp_path / "hosts").write_text("127.0.0.2 jobs.test\n")
    with contextlib.ExitStack() as stack:
        moved = []
        for site, proxy, _ in away:
            proxy.close()
            moved.append(stack.enter_context(Proxy(proxy.target, ("127.0.0.2", proxy.port))))
            site.queue.put(site.pipeline, 2)
        for site, _, _ in away:
            site.wait_for(2)
            site.wait_until_empty()
            assert end(site.started[0]) == 0
            assert len(site.lines()) == 2
        assert all(proxy.accepted for proxy in moved)


def test_a_worker_waits_for_a_server_that_is_not_there_yet(
    server: servers.Server, tmp_path: Path, end: End
) -> None:
    """Started before its server, as after a boot."""
    with contextlib.closing(Site(tmp_path, server.dsn)) as site:
        server.stop()
        worker = site.worker("note")
        eventually(lambda: "waiting back end away since" in site.log, within=20)
        assert worker.poll() is None
        server.start()
        with fleet.connect(server.dsn) as fresh:
            fresh.put(site.pipeline, 1)
        site.wait_for(1)
        assert end(worker) == 0


@pytest.mark.server
def test_a_refused_permission_is_no_outage(postgres_dsn: str, tmp_path: Path) -> None:
    """Waiting would not heal it: exit 6, in words."""
    import psycopg

    role = f"weak_{os.getpid()}"
    with contextlib.closing(Site(tmp_path, postgres_dsn)) as site:
        with psycopg.connect(postgres_dsn, autocommit=True) as db:
            db.execute(f"CREATE ROLE {role} LOGIN")
        weak = site.spec("note", queue={"dsn": postgres_dsn.replace("fleet@", f"{role}@")})
        worker = site.run(str(weak))
        assert worker.wait(20) == 6
        assert "permission" in site.log and "Traceback" not in site.log
