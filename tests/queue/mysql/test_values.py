"""Texts, keys and ids, whatever the server's modes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import fleet
from fleet.errors import (
    PayloadTooLarge,
)
from fleet.queue import Queue
from fleet.queue.backends.mysql.literal import literal
from tests import servers

pytestmark = pytest.mark.server


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
