"""A Galera node that has lost the others takes no jobs, says so, and goes on when they are back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import fleet
from fleet.errors import BackendUnavailable, PutUnknown
from fleet.queue import Queue
from tests import drivers, servers
from tests.waiting import eventually
from tests.worker.conftest import Site

pytestmark = [pytest.mark.server, pytest.mark.slow]
_PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
# Seconds after which a silent node is thought dead; the defaults are five and fifteen.
_PATIENCE = "evs.keepalive_period=PT0.3S;evs.suspect_timeout=PT1.5S;evs.inactive_timeout=PT3S"


@pytest.fixture
def nodes() -> Iterator[list[servers.Server]]:
    """A cluster of two nodes: neither is a majority without the other."""
    if not _PROVIDER.exists():
        raise servers.NotInstalled("galera is not installed: apt-get install galera-4")
    found = []
    with contextlib.ExitStack() as stack:
        group, transfer, state = ([stack.enter_context(servers.free_port()) for _ in "12"] for _ in "123")
        for number in range(2):
            here = f"127.0.0.1:{group[number]}"
            flags = [
                *("--wsrep-on=ON", f"--wsrep-provider={_PROVIDER}", "--wsrep-cluster-name=fleet"),
                *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-sst-method=rsync"),
                f"--wsrep-node-address={here}",
                f"--wsrep-sst-receive-address=127.0.0.1:{state[number]}",
                f"--wsrep-provider-options=gmcast.listen_addr=tcp://{here};"
                f"ist.recv_addr=127.0.0.1:{transfer[number]};{_PATIENCE}",
                f"--wsrep-cluster-address=gcomm://{f'127.0.0.1:{group[0]}' if number else ''}",
                *([] if number else ["--wsrep-new-cluster"]),
            ]
            found.append(stack.enter_context(servers.mariadb(*flags)))
        yield found


def seen_by(node: servers.Server) -> tuple[str, str]:
    """How many nodes it sees, and whether they are the cluster ("Primary") or cut off from it."""
    with contextlib.closing(drivers.connect(node.dsn)) as db, db.cursor() as cursor:
        cursor.execute(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status')"
        )
        found = dict(cursor.fetchall())
        return found["wsrep_cluster_size"], found["wsrep_cluster_status"]


class Producer:
    """Puts numbers, and keeps what it was told of each."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.accepted: set[int] = set()
        self.unknown: set[int] = set()
        self.numbers = itertools.count()

    def put(self) -> str:
        """The reason why it was refused; "" when it was not."""
        number = next(self.numbers)
        try:
            self.queue.put("emails", number)
        except PutUnknown:
            self.unknown.add(number)
        except BackendUnavailable as error:
            return str(error)
        else:
            self.accepted.add(number)
        return ""


def test_a_node_that_is_cut_off_is_away_and_loses_nothing(
    nodes: list[servers.Server], tmp_path: Path
) -> None:
    """The other node is frozen and comes back; it is killed, and the one that is left told to go on alone."""
    near, far = nodes
    eventually(lambda: seen_by(near) == ("2", "Primary"), within=30)
    with (
        fleet.connect(near.dsn) as queue,
        contextlib.closing(Site(tmp_path, near.dsn, "notes")) as site,
    ):
        assert any("let all workers and producers use one node" in note for note in queue.info().notes)
        producer = Producer(queue)
        assert [producer.put() for _ in range(3)] == [""] * 3
        job = queue.reserve("emails")
        assert job is not None
        worker = site.worker("note")
        queue.put("notes", 1)
        site.wait_for(1)

        psutil.Process(far.pid).suspend()
        assert "(1047)" in eventually(producer.put, within=30)
        for verb in (job.touch, job.delete, lambda: queue.reserve("emails"), lambda: queue.stats("emails")):
            with pytest.raises(BackendUnavailable, match="1047"):
                verb()
        eventually(lambda: "waiting back end away since" in site.log)
        psutil.Process(far.pid).resume()
        eventually(lambda: producer.put() == "", within=30)
        job.delete()
        queue.put("notes", 2)
        site.wait_for(2)
        site.wait_until_empty()
        assert worker.poll() is None

        far.kill()
        assert "(1047)" in eventually(producer.put, within=30)
        with contextlib.closing(drivers.connect(near.dsn)) as db, db.cursor() as cursor:
            cursor.execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
        eventually(lambda: producer.put() == "", within=30)
        stored = {each.data for each in queue.reserve_many("emails", 1000)}
    first = min(producer.accepted)
    assert producer.accepted - {first} <= stored <= producer.accepted | producer.unknown
    assert first not in stored
