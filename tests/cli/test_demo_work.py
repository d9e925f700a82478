"""The demo's proof: what does not add up is found, whatever the workers claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.cli.demo_run import demo_dir
from fleet.cli.demo_work import Tally, doubts, tally, work
from fleet.queue.job import PipelineStats


def counted(**changed: object) -> Tally:
    fine = {"pipeline": "emails", "put": 300, "left": 0, "buried": 6, "invalid": 6, "right": 294}
    return Tally(**(fine | changed))


def empty(pipeline: str, **counts: int) -> PipelineStats:
    return PipelineStats(
        **{"pipeline": pipeline, "ready": 0, "delayed": 0, "reserved": 0, "buried": 0, **counts}
    )


def test_nothing_is_doubted_when_every_job_left_one_right_result():
    """Done jobs and right results are equal, and what was invalid is buried."""
    assert doubts(counted()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"left": 3, "right": 291}, "3 of 300 jobs were not done"),
        ({"buried": 7, "right": 293}, "7 jobs are buried, where 6 were invalid"),
        ({"right": 293}, "294 jobs were done, but 293 results are right"),
        ({"wrong": ("mail to Ada",)}, "wrong: mail to Ada"),
    ],
    ids=["left over", "buried too many", "lost", "wrong"],
)
def test_each_way_to_lose_work_is_told_in_words(changed, said):
    """A job that is not done, buried without need, lost, or done wrongly is never passed over."""
    assert doubts(counted(**changed)) == [said]


def test_the_work_is_the_library_the_recipients_and_the_texts():
    """One recipient in fifty is invalid; installed packages are not standard library."""
    jobs = work(demo_dir())
    assert len(jobs["checksums"]) > 500
    assert not any("-packages" in payload["path"] for payload in jobs["checksums"])
    assert len(jobs["emails"]) == 300
    assert len(jobs["wordcount"]) == 12
    found = tally(demo_dir(), "emails", jobs["emails"], empty("emails"))
    assert found.invalid == 300 // 50


def test_a_damaged_or_repeated_checksum_is_found(tmp_path):
    """The proof hashes each file itself, so a line that a worker tore or wrote twice does not pass."""
    source = Path(__file__)
    jobs = [{"path": str(source)}]
    sums = tmp_path / "out/checksums"
    sums.mkdir(parents=True)
    (sums / "1.sha256").write_text(f"{'0' * 64}  {source}\n")
    found = tally(tmp_path, "checksums", jobs, empty("checksums"))
    assert (found.right, len(found.wrong)) == (0, 1)


def test_a_mail_that_was_delivered_twice_is_found(tmp_path):
    """At least once is the queue's promise; exactly one mail is the handler's."""
    jobs = [{"name": "Ada Lovelace", "address": "ada@example.org"}]
    box = tmp_path / "out/Maildir"
    for folder in ("tmp", "new", "cur"):
        (box / folder).mkdir(parents=True)
    mail = "To: Ada Lovelace <ada@example.org>\n\nhello\n"
    (box / "new/1").write_text(mail)
    assert tally(tmp_path, "emails", jobs, empty("emails")).right == 1

    (box / "new/2").write_text(mail)
    found = tally(tmp_path, "emails", jobs, empty("emails"))
    assert (found.right, found.wrong) == (0, ("mail to Ada Lovelace <ada@example.org>",))


def test_jobs_in_any_unfinished_state_count_as_left(tmp_path):
    """Ready, delayed and reserved jobs are all work that was not done."""
    jobs = work(demo_dir())["wordcount"]
    found = tally(tmp_path, "wordcount", jobs, empty("wordcount", ready=1, delayed=2, reserved=4))
    assert (found.put, found.left, found.done) == (12, 7, 5)
