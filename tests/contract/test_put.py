"""put and put_many: what was accepted is stored, once, as it was given."""

from __future__ import annotations

import math
import uuid

import pytest

from fleet.errors import NotSupported, PayloadError, PayloadTooLarge, UidConflict
from fleet.queue import Queue


@pytest.mark.parametrize(
    "payload",
    [b"", b"plain", b"\x00\xff\r\n\x1a", bytes(range(256)) * 16, "text".encode("utf-16")],
    ids=["empty", "plain", "control", "every-byte", "utf-16"],
)
def test_any_bytes_come_back_as_they_were_put(queue: Queue, pipeline: str, payload: bytes):
    """Payloads are bytes: no character set, no escape, no limit but the size."""
    queue.put(pipeline, payload)
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.payload == payload


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**63 - 1, 1.5, "", "naïve ☃ \u0000", [], {}, {"a": [1, {"b": None}]}],
    ids=repr,
)
def test_any_json_value_comes_back_equal(queue: Queue, pipeline: str, value: object):
    """What is not bytes is JSON, readable from every language."""
    queue.put(pipeline, value)
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.data == value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"when": {1, 2}}, "when"),
        ([1, len], "[1]"),
        ({1: 2}, "1"),
        (math.nan, "nan"),
        ([math.inf], "inf"),
        (2**63, "64 bits"),
        ("\ud800", "surrogate"),
    ],
    ids=repr,
)
def test_a_value_that_json_cannot_hold_is_refused_with_its_place(
    queue: Queue, pipeline: str, value: object, where: str
):
    """The error names the path, and nothing is stored."""
    with pytest.raises(PayloadError, match=where.replace("[", r"\[").replace("]", r"\]")):
        queue.put(pipeline, value)
    assert queue.stats(pipeline).ready == 0


@pytest.mark.parametrize("payload", [b"NaN", b"[-Infinity]", b"9" * 5000, b"[" * 50_000, b"\xff", b"{"])
def test_bytes_that_are_no_json_are_kept_and_not_decoded(queue: Queue, pipeline: str, payload: bytes):
    """What would be refused as a value is refused on the way out too; the bytes are there all the same."""
    queue.put(pipeline, payload)
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.payload == payload
    with pytest.raises(PayloadError, match=r"read job\.payload"):
        _ = job.data


def test_nesting_without_end_is_refused(queue: Queue, pipeline: str):
    """A deep value is an error in words, not a RecursionError."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadError, match="64 levels"):
        queue.put(pipeline, deep)


def test_the_largest_payload_fits_and_one_byte_more_is_refused(queue: Queue, pipeline: str):
    """Too large is said with both sizes before anything is sent."""
    limit = queue.capabilities.max_payload
    queue.put(pipeline, b"x" * limit)
    with pytest.raises(PayloadTooLarge, match=f"{limit + 1:,}.*{limit:,}"):
        queue.put(pipeline, b"x" * (limit + 1))
    job = queue.reserve(pipeline)
    assert job is not None
    assert len(job.payload) == limit
    assert queue.reserve(pipeline) is None


def test_ids_grow_with_the_order_of_puts(queue: Queue, pipeline: str):
    ids = [queue.put(pipeline, n) for n in range(5)]
    assert ids == sorted(set(ids))


def test_put_many_returns_one_id_for_each_payload_in_order(queue: Queue, pipeline: str):
    """The ids belong to the payloads, also over the borders of chunks."""
    count = 12_000 if queue.capabilities.tables else 1_200
    ids = queue.put_many(pipeline, range(count), ttr=30, priority=7)
    assert len(set(ids)) == count
    assert ids == sorted(ids)
    for index in (0, count // 2, count - 1):
        job = queue.find(ids[index])
        assert job is not None
        assert (job.data, job.ttr, job.priority) == (index, 30, 7)


def test_put_many_of_nothing_is_nothing(queue: Queue, pipeline: str):
    assert queue.put_many(pipeline, []) == []


def test_one_bad_payload_stores_none_of_put_many(queue: Queue, pipeline: str):
    """Every payload is checked before the first is sent."""
    with pytest.raises(PayloadError):
        queue.put_many(pipeline, [1, 2, math.nan])
    assert queue.stats(pipeline).ready == 0


def test_delayed_payloads_of_put_many_wait(queue: Queue, pipeline: str):
    queue.put_many(pipeline, [1, 2], delay=60)
    assert queue.reserve(pipeline) is None
    assert queue.stats(pipeline).delayed == 2


@pytest.mark.parametrize(
    "name",
    ["", "-dash", "two words", "a\r\ndelete 1", "a\0b", "naïve", "x" * 201, "a*b"],
    ids=repr,
)
def test_a_name_that_some_server_would_misread_is_refused(queue: Queue, name: str):
    """Pipeline names are the tube names of beanstalkd on every back end: no injection, one meaning."""
    for verb in (lambda: queue.put(name, 1), lambda: queue.reserve(name), lambda: queue.stats(name)):
        with pytest.raises(ValueError, match="pipeline name"):
            verb()


@pytest.mark.parametrize(
    "options",
    [
        {"priority": -1},
        {"priority": 2**32},
        {"priority": 1.5},
        {"priority": True},
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": "5"},
        {"ttr": 0},
        {"ttr": -1},
        {"ttr": math.nan},
        {"ttr": True},
    ],
    ids=repr,
)
def test_a_number_out_of_range_is_refused_before_anything_is_sent(
    queue: Queue, pipeline: str, options: dict[str, object]
):
    """beanstalkd would run the body of such a put as a command; here it never leaves the process."""
    with pytest.raises(ValueError, match=next(iter(options))):
        queue.put(pipeline, b"delete 1", **options)  # type: ignore[arg-type]
    queue.put(pipeline, b"still in step")
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.payload == b"still in step"


def test_the_same_uid_is_stored_once(queue: Queue, rival: Queue, pipeline: str):
    """P6: a put that may have happened is safe to repeat with its uid, from any connection."""
    uid = uuid.uuid4()
    if not queue.capabilities.uid:
        with pytest.raises(NotSupported):
            queue.put(pipeline, 1, uid=uid)
        return
    first = queue.put(pipeline, {"n": 1}, uid=uid)
    assert rival.put(pipeline, {"n": 1}, uid=uid.bytes) == first
    assert queue.stats(pipeline).ready == 1
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.uid == uid.bytes


def test_put_many_with_uids_repeats_only_what_is_missing(queue: Queue, pipeline: str):
    if not queue.capabilities.uid:
        return
    uids = [uuid.uuid4() for _ in range(4)]
    some = queue.put_many(pipeline, [0, 1], uids=uids[:2])
    every = queue.put_many(pipeline, [0, 1, 2, 3], uids=uids)
    assert every[:2] == some
    assert queue.stats(pipeline).ready == 4


def test_a_uid_with_another_payload_is_a_conflict(queue: Queue, pipeline: str):
    """Silently keeping the old payload would lose the new one."""
    if not queue.capabilities.uid:
        return
    uid = uuid.uuid4()
    queue.put(pipeline, 1, uid=uid)
    with pytest.raises(UidConflict):
        queue.put(pipeline, 2, uid=uid)


def test_a_unique_key_is_held_while_the_job_is_stored(queue: Queue, rival: Queue, pipeline: str):
    """No lock row that could outlive its job: the key is free as soon as the job is gone."""
    if not queue.capabilities.unique:
        with pytest.raises(NotSupported):
            queue.put(pipeline, 1, unique="welcome-7")
        return
    first = queue.put(pipeline, 1, unique="welcome-7")
    assert rival.put(pipeline, 2, unique="welcome-7") == first
    assert queue.put(pipeline, 3, unique="welcome-8") != first
    job = queue.reserve(pipeline)
    assert job is not None
    assert job.id == first
    assert rival.put(pipeline, 4, unique="welcome-7") == first  # reserved is still stored
    job.bury("later")
    assert rival.put(pipeline, 5, unique="welcome-7") == first  # so is buried
    assert queue.discard(pipeline, "buried") == 1
    assert rival.put(pipeline, 6, unique="welcome-7") > first


def test_a_unique_key_belongs_to_its_pipeline(queue: Queue, pipeline: str):
    if not queue.capabilities.unique:
        return
    assert queue.put(pipeline, 1, unique="k") != queue.put(pipeline + "-other", 1, unique="k")
    queue.discard(pipeline + "-other", "ready")
