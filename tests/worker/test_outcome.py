"""From how a handler ended to what becomes of the job.  No process, no queue."""

from __future__ import annotations

import json

import pytest

from fleet.queue.job import Job, Settlement
from fleet.worker.outcome import (
    MAX_REASON,
    Bury,
    Interrupted,
    JobTimeout,
    Policy,
    Retry,
    after_error,
    clean,
    crashed,
    delay_before_retry,
    describe,
    group_of,
)

STEADY = Policy(max=3, first=10, factor=2, cap=60, jitter=False)


def job(attempt: int = 1, crashes: int = 0, payload: object = None) -> Job:
    return Job(7, "emails", json.dumps(payload).encode(), attempt=attempt, crashes=crashes, token=1)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_retries_wait_longer_each_time_and_end_in_a_burial() -> None:
    """max = 3: three retries after the first attempt, then buried."""
    verdicts = [after_error(job(attempt), raised(ValueError("no")), STEADY, 0.5) for attempt in (1, 2, 3, 4)]

    assert [(v.verb, v.delay) for v in verdicts] == [
        ("release", 10),
        ("release", 20),
        ("release", 40),
        ("bury", 0),
    ]
    assert all(v.counted for v in verdicts)


def test_crashes_do_not_use_up_retries() -> None:
    """Attempt 4 of which two ended in a crash is the second failure."""
    verdict = after_error(job(attempt=4, crashes=2), raised(ValueError("no")), STEADY, 0.5)
    assert (verdict.verb, verdict.delay) == ("release", 20)


def test_the_wait_is_capped_and_jitter_only_shortens_it() -> None:
    """Also where the power overflows."""
    assert delay_before_retry(STEADY, 4, 0.5) == 60
    assert delay_before_retry(STEADY, 10_000, 0.5) == 60
    loose = Policy(first=10, factor=2, cap=60)
    assert [delay_before_retry(loose, 1, chance) for chance in (0, 1)] == [10, 7.5]


def test_retry_says_when_and_still_counts() -> None:
    """after= wins over the schedule; a job cannot go round for ever."""
    assert after_error(job(), raised(Retry(after="30s")), STEADY, 0).delay == 30
    assert after_error(job(), raised(Retry("busy")), STEADY, 0).delay == 10
    assert after_error(job(attempt=4), raised(Retry(after=1)), STEADY, 0).verb == "bury"
    with pytest.raises(ValueError, match="expected a duration"):
        Retry(after="soon")


def test_bury_keeps_its_reason_alone() -> None:
    """No class, no traceback: it is a decision and not an accident."""
    verdict = after_error(job(), raised(Bury("not an address")), STEADY, 0)
    assert (verdict.verb, verdict.reason) == ("bury", "not an address")


class Unfit(Bury):
    def __init__(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "reason"), [(Bury(KeyError("to")), "KeyError: 'to'"), (Bury(404), "404"), (Unfit(), "Bury")]
)
def test_a_burial_is_one_whatever_its_reason_is_made_of(error: Bury, reason: str) -> None:
    """``raise Bury(error)`` is a natural thing to write; such a job must not go round for ever."""
    verdict = after_error(job(), raised(error), STEADY, 0)
    assert (verdict.verb, verdict.reason) == ("bury", reason)
    assert group_of(job(), raised(error), verdict, STEADY) is not None


def test_an_interrupted_job_is_not_to_blame() -> None:
    """Released at once, the attempt given back."""
    verdict = after_error(job(attempt=9), raised(Interrupted("the worker has to end")), STEADY, 0)
    assert (verdict.verb, verdict.counted, verdict.reason) == ("release", False, "interrupted")


def test_a_job_that_kills_its_workers_is_buried() -> None:
    """Not before it has killed as many as it may."""
    policy = Policy(max_crashes=3)
    assert crashed(job(crashes=2), policy) is None
    verdict = crashed(job(crashes=3), policy)
    assert verdict is not None and verdict.verb == "bury"
    assert verdict.reason.startswith("crashed: 3 workers ")


def test_the_first_line_names_class_message_and_place() -> None:
    """The place is the user's own code, not the library that it called; the traceback follows."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    first, *rest = describe(caught.value, job()).splitlines()

    assert first.startswith("JSONDecodeError: Expecting property name")
    assert "test_outcome.py:" in first
    assert rest[0].startswith("Traceback")


def test_reasons_are_short_clean_and_masked() -> None:
    """At most 8 KiB, no control characters, redacted keys and their payload values hidden."""
    secret = job(payload={"user": {"password": "hunter2", "pin": 1234}, "list": [{"token": "abcdef"}]})
    text = describe(
        ValueError("hunter2 \x1b[31m 1234 password='x y' token: q, abcdef \u202e"),
        secret,
        ["Password", "token", "pin"],
    )
    for hidden in ("hunter2", "1234", "x y", "abcdef", "\x1b", "\u202e", " q,"):
        assert hidden not in text
    assert "password=***" in text

    long = clean("head" + "x" * 50_000 + "tail")
    assert len(long.encode()) <= MAX_REASON
    assert long.startswith("head") and long.endswith("tail")


def test_an_error_that_cannot_be_printed_is_still_described() -> None:
    """A broken __str__ must not hide the failure."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(raised(Broken()), job()).startswith("Broken: (no message")


def test_failures_of_one_cause_are_one_group() -> None:
    """Class, message without its numbers, place and function; how the attempt ended is the kind."""
    groups = []
    for number, attempt in ((17, 1), (18, 4)):
        error = raised(ValueError(f"row {number} is bad"))
        verdict = after_error(job(attempt), error, STEADY, 0.5)
        groups.append(group_of(job(attempt), error, verdict, STEADY))
    assert all(group is not None for group in groups)
    first, last = groups
    assert first.cause == last.cause == "ValueError: row # is bad"
    assert first.place == last.place
    assert first.place.endswith(" raised")
    assert (first.kind, last.kind) == ("retried", "buried")
    assert first.sample == "ValueError: row 17 is bad"


def test_what_is_counted_under_a_cause() -> None:
    """A reason given by Bury, a time limit, a worker that died; but not an interruption."""
    late = raised(JobTimeout("the job ran longer than 5 seconds"))
    wish = raised(Bury("no such address"))
    verdict = crashed(job(crashes=3), STEADY)
    assert verdict is not None

    def kind_and_cause(error: BaseException | None, verdict: Settlement) -> tuple[str, str]:
        group = group_of(job(), error, verdict, STEADY)
        assert group is not None
        return group.kind, group.cause

    assert kind_and_cause(late, after_error(job(), late, STEADY, 0)) == (
        "timeout",
        "JobTimeout: the job ran longer than # seconds",
    )
    assert kind_and_cause(wish, after_error(job(), wish, STEADY, 0)) == ("buried", "no such address")
    assert kind_and_cause(None, verdict)[0] == "buried"
    told = Interrupted("the worker has to end")
    assert group_of(job(), told, after_error(job(), told, STEADY, 0), STEADY) is None


def test_a_secret_in_a_message_is_masked_in_its_group_too() -> None:
    """The same redaction as the reason that is kept with the job."""
    policy = Policy(redact=("password",))
    error = raised(ValueError("login hunter22 failed"))
    its_job = job(payload={"password": "hunter22"})
    group = group_of(its_job, error, after_error(its_job, error, policy, 0), policy)
    assert group is not None
    assert "hunter22" not in group.cause + group.sample


def test_the_place_in_a_file_with_a_strange_name_can_be_stored() -> None:
    """Linux has names that are no UTF-8; a pulse that cannot be written for that would end the worker."""
    names: dict[str, object] = {}
    code = compile("def fail():\n    raise KeyError('to')", "caf\udce9.py", "exec")
    exec(code, names)  # noqa: S102 - for a frame in a file of that name
    try:
        names["fail"]()  # type: ignore[operator]
    except KeyError as error:
        verdict = after_error(job(), error, STEADY, 0)
        group = group_of(job(), error, verdict, STEADY)
    assert group is not None
    assert group.place.encode() == b"caf?.py:2 fail"
