"""The judge and the schedule, on histories made by hand."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.arena import PROFILES
from tests.chaos.checker import check
from tests.chaos.ledger import Ledger
from tests.chaos.pace import Gate, Pace
from tests.chaos.schedule import kinds_for, schedule
from tests.chaos.soak import Row, not_flat
from tests.chaos.work import groups

MS = 1_000_000


class Story:
    """Writes the files of a run, milliseconds for instants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.puts, self.runs = Ledger(folder, "put-0"), Ledger(folder, "run-1")
        self.claims, self.acks = Ledger(folder, "res-1"), Ledger(folder, "ack-1")
        self.faults = Ledger(folder, "fault")
        self.stored: list[dict[str, object]] = []
        self._number = 0

    def put(
        self, uid: str, t: int, *, phase: str = "accepted", priority: int = 1024, delay: float = 0.0
    ) -> None:
        what = {"kind": "quick", "priority": priority, "delay": delay, "ttr": 1.0, "sha": "s"}
        self.puts.write(t=t * MS, uid=uid, phase="try", **what)
        self.puts.write(t=(t + 1) * MS, uid=uid, phase=phase)

    def claim(self, uid: str, t: int, *, pid: int = 1, token: int = 1, took: int = 1) -> None:
        self._number += 1
        head = {"t0": t * MS, "claim": self._number, "pid": pid}
        self.claims.write(**head, result="asked")
        self.claims.write(**head, result="jobs", t1=(t + took) * MS, jobs=[(uid, token)])

    def wait(self, t: int, *, pid: int) -> None:
        """A worker that waits, and makes no claim any more."""
        self.claims.write(t0=t * MS, claim=self._number + 1, pid=pid, result="waits")

    def run(self, uid: str, t: int, *, pid: int = 1, token: int = 1, end: str = "finish") -> None:
        self.runs.write(t=t * MS, uid=uid, token=token, pid=pid, event="start", sha="s")
        if end:
            self.runs.write(t=(t + 1) * MS, uid=uid, token=token, pid=pid, event=end)

    def settle(
        self, uid: str, t: int, result: str = "ok", *, token: int = 1, op: str = "delete", took: int = 1
    ) -> None:
        head = {"t0": t * MS, "uid": uid, "token": token, "op": op, "delay": 0.0}
        self.acks.write(**head, t1=None, result="sent")
        if result:
            self.acks.write(**head, t1=(t + took) * MS, result=result)

    def fault(self, t: int, kind: str, pid: int = 0, proof: str = "seen", **more: object) -> None:
        self.faults.write(t0=t * MS, t1=(t + 10) * MS, kind=kind, pid=pid, proof=proof, **more)

    def whole(self, uid: str, t: int) -> None:
        """A job that fares as it should."""
        self.claim(uid, t)
        self.run(uid, t + 2)
        self.settle(uid, t + 4)

    def store(self, uid: str, state: str, reason: str = "planned") -> None:
        self.stored.append({"uid": uid, "sha": "s", "state": state, "reason": reason})

    def rules(self, backend: str = "sqlite") -> list[str]:
        census = {"backend": backend, "t": 100_000 * MS, "jobs": self.stored}
        (self.folder / "census.json").write_text(json.dumps(census))
        return [violation.rule for violation in check(self.folder).violations]


def test_a_story_without_faults_passes(tmp_path: Path) -> None:
    """Put, claimed, begun, finished, deleted."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.whole("a", 10)
    assert story.rules() == []


def test_a_job_that_is_nowhere_is_lost(tmp_path: Path) -> None:
    """L1; a delete that was sent and never answered may have worked."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.put("b", 0)
    story.claim("b", 10)
    story.run("b", 12)
    story.settle("b", 14, result="")
    assert story.rules() == ["L1"]


def test_an_unknown_put_may_be_there_or_not_and_a_rejected_one_may_not(tmp_path: Path) -> None:
    """P6: honest answers in doubt."""
    story = Story(tmp_path)
    for uid, phase in (("a", "unknown"), ("b", "unknown"), ("c", "rejected")):
        story.put(uid, 0, phase=phase)
    story.whole("a", 10)
    assert story.rules() == []
    story.whole("c", 20)
    assert story.rules() == ["L2"]


def test_a_second_claim_needs_an_end_of_the_first(tmp_path: Path) -> None:
    """L3 before the ttr; L5 after it, unless a proven fault kept the holder from renewing."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.run("a", 12, end="")
    story.claim("a", 500, pid=2, token=2)
    story.run("a", 502, pid=2, token=2)
    story.settle("a", 504, token=2)
    assert story.rules() == ["L3"]

    late = Story(_folder(tmp_path, "late"))
    late.put("a", 0)
    late.claim("a", 10, pid=1, token=1)
    late.run("a", 12, end="")
    late.claim("a", 1500, pid=2, token=2)
    late.run("a", 1502, pid=2, token=2)
    late.settle("a", 1504, token=2)
    assert late.rules() == ["L5"]
    late.fault(20, "kill", pid=1, proof="")
    assert late.rules() == ["F"]
    late.fault(20, "stop", pid=3)
    assert "L5" not in late.rules()  # a process that stands still may hold SQLite's lock


def test_a_fault_of_another_worker_explains_nothing_on_a_server(tmp_path: Path) -> None:
    """L5: only the holder's own fault, or one that touches everybody."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.claim("a", 1500, pid=2, token=2)
    story.run("a", 1502, pid=2, token=2)
    story.settle("a", 1504, token=2)
    story.fault(20, "stop", pid=3)
    assert story.rules("postgresql") == ["L5"]
    story.fault(20, "stop", pid=1)
    assert story.rules("postgresql") == []


def test_what_is_under_way_is_not_confirmed_yet(tmp_path: Path) -> None:
    """L5: a delete that was asked again after an outage may find that the job is gone, and is answered so."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.run("a", 12)
    story.settle("a", 14, token=1, took=3000)
    story.fault(15, "server")
    story.claim("a", 1500, pid=2, token=2)
    story.run("a", 1502, pid=2, token=2)
    story.settle("a", 1504, token=2)
    assert story.rules("postgresql") == []
    assert check(tmp_path).duplicates == {"ack-unknown": 1}
    story.settle("a", 100, token=1, took=1)
    assert story.rules("postgresql") == ["L5"]


def test_a_release_that_was_asked_again_may_have_worked_the_first_time(tmp_path: Path) -> None:
    """L3: with a cut line; a release that was refused before the next claim explains nothing."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, token=1)
    story.settle("a", 20, "lost", op="release", token=1, took=60)
    story.fault(21, "cut")
    story.claim("a", 40, pid=2, token=2)
    story.run("a", 42, pid=2, token=2)
    story.settle("a", 44, token=2)
    assert story.rules("postgresql") == []
    early = Story(_folder(tmp_path, "early"))
    early.put("a", 0)
    early.claim("a", 10, token=1)
    early.settle("a", 20, "lost", op="release", token=1)
    early.fault(22, "cut")
    early.claim("a", 40, pid=2, token=2)
    early.run("a", 42, pid=2, token=2)
    early.settle("a", 44, token=2)
    assert early.rules("postgresql") == ["L3"]


def test_a_put_that_is_repeated_after_its_job_was_done_is_done_twice(tmp_path: Path) -> None:
    """L5: the server forgets a uid with its job; a put of before explains nothing."""
    story = Story(tmp_path)
    story.put("a", 0, phase="unknown")
    story.whole("a", 10)
    story.put("a", 30)
    story.claim("a", 40, token=2)
    story.run("a", 42, token=2)
    story.settle("a", 44, token=2)
    assert story.rules("postgresql") == []
    assert check(tmp_path).duplicates == {"put-again": 1}
    story.claim("a", 50, token=3)
    story.run("a", 52, token=3)
    story.settle("a", 54, token=3)
    assert story.rules("postgresql") == ["L5"]


def test_a_worker_that_dies_may_have_released_what_it_was_asked_to(tmp_path: Path) -> None:
    """L3: its answer is lost with it, also when another job of the same worker killed it."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.put("b", 0)
    story.claim("a", 10, pid=1, token=1)
    story.claim("b", 10, pid=1, token=1)
    story.run("a", 12, end="raise")
    story.settle("a", 14, result="", op="release", token=1)
    story.claim("a", 400, pid=2, token=2)
    story.run("a", 402, pid=2, token=2)
    story.settle("a", 404, token=2)
    story.store("b", "buried")
    assert story.rules("postgresql") == ["L3", "L10"]
    story.run("b", 16, end="suicide")
    assert story.rules("postgresql") == ["L10"]


def test_a_late_delete_that_works_breaks_the_fence(tmp_path: Path) -> None:
    """L4; refused it is what should happen."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.run("a", 12)
    story.fault(20, "stop", pid=1)
    story.claim("a", 1500, pid=2, token=2)
    story.run("a", 1502, pid=2, token=2)
    story.settle("a", 1600, "lost", token=1)
    story.settle("a", 1700, token=2)
    assert story.rules() == []
    story.settle("a", 1800, token=1)
    assert story.rules() == ["L4"]


def test_a_worker_that_was_frozen_while_it_claimed_may_have_come_first(tmp_path: Path) -> None:
    """L4: its answer is read late, when its lease may be over; but not both can settle the job."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1, took=1700)
    story.claim("a", 1500, pid=2, token=2)
    story.run("a", 1502, pid=2, token=2)
    story.settle("a", 1800, token=2)
    assert "L4" in story.rules("mariadb")
    story.fault(20, "stop", pid=1)
    story.settle("a", 1810, "lost", token=1)
    assert story.rules("mariadb") == []
    story.settle("a", 1750, token=1)
    assert "L4" in story.rules("mariadb")


def test_a_job_whose_lease_is_over_must_not_be_passed_over_for_long(tmp_path: Path) -> None:
    """L9: not by a claim that came after the four seconds, and before anybody asked for the job."""
    for name, taken_at, rules in (("beside", 5510, []), ("before", 5400, ["L9"]), ("in time", 4900, [])):
        story = _rescue(_folder(tmp_path, name), b_taken_at=taken_at)
        assert story.rules("mariadb") == rules


def test_a_worker_may_die_with_a_claim_that_nobody_was_told_of(tmp_path: Path) -> None:
    """L9: the four seconds begin when that lease is over; a claim that was answered is none."""
    story = _rescue(tmp_path, b_taken_at=5400)
    head = {"t0": 1100 * MS, "claim": 99, "pid": 4}
    story.claims.write(**head, result="asked")
    assert story.rules("mariadb") == []
    story.claims.write(**head, result="jobs", t1=1101 * MS)
    assert story.rules("mariadb") == ["L9"]


def _rescue(folder: Path, *, b_taken_at: int) -> Story:
    """The worker of a is killed; that lease ends at 1,011 ms, and a is asked for again at 5,500."""
    story = Story(folder)
    story.put("a", 0)
    story.put("b", 5)
    story.claim("a", 10, pid=1, token=1)
    story.fault(12, "kill", pid=1)
    story.claim("a", 5500, pid=2, token=2, took=100)
    story.run("a", 5610, pid=2, token=2)
    story.settle("a", 5620, token=2)
    story.claim("b", b_taken_at, pid=3, token=3)
    story.run("b", b_taken_at + 2, pid=3, token=3)
    story.settle("b", b_taken_at + 4, token=3)
    return story


def test_a_release_may_be_in_force_before_its_worker_is_told(tmp_path: Path) -> None:
    """L3, L5: and be claimed before that worker is killed; of one that lives on, the answer must say so."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.settle("a", 100, "", token=1, op="release")
    story.claim("a", 120, pid=2, token=2)
    story.run("a", 122, pid=2, token=2)
    story.settle("a", 124, token=2)
    assert (story.rules("beanstalkd"), story.rules("mariadb")) == (["L5"], ["L3"])
    story.fault(130, "kill", pid=1)
    assert (story.rules("beanstalkd"), story.rules("mariadb")) == ([], [])


def test_of_two_claims_at_once_the_one_that_was_refused_later_came_first(tmp_path: Path) -> None:
    """L4: answers may overtake each other; not where the second was asked after the first was answered."""

    def rules(folder: Path, asked: int) -> list[str]:
        story = Story(folder)
        story.put("a", 0)
        story.claim("a", 20, token=1)  # answered at 21
        story.run("a", 22, token=1)
        story.claims.write(t0=asked * MS, claim=9, pid=2, result="asked")
        story.claims.write(t0=asked * MS, claim=9, pid=2, result="jobs", t1=23 * MS, jobs=[("a", 2)])
        story.run("a", 24, pid=2, token=2)
        story.settle("a", 26, "lost", token=2)
        story.settle("a", 28, token=1)
        story.fault(15, "clock")
        return story.rules("postgresql")

    assert rules(_folder(tmp_path, "together"), 10) == []
    assert rules(_folder(tmp_path, "after"), 22) == ["L4"]


def test_a_more_urgent_job_that_was_free_must_come_first(tmp_path: Path) -> None:
    """L6: smaller priorities, and inside one priority the earlier put; overlapping puts have no order."""
    story = Story(tmp_path)
    story.put("urgent", 0, priority=10)
    story.put("first", 5)
    story.put("second", 7)
    story.whole("second", 20)
    story.whole("first", 30)
    story.whole("urgent", 40)
    assert story.rules() == ["L6", "L6"]


def test_a_frozen_worker_may_hold_the_one_job_that_its_reserve_waits_for(tmp_path: Path) -> None:
    """L6 on beanstalkd: the server handed it over, and nobody could read so."""
    story = Story(tmp_path)
    story.put("urgent", 20, priority=10)
    story.put("later", 25)
    story.wait(10, pid=2)
    story.whole("later", 30)
    story.whole("urgent", 2500)
    assert story.rules("beanstalkd") == ["L6"]
    story.fault(15, "stop-step", pid=2)
    story.fault(15, "stop", pid=3)
    assert story.rules("beanstalkd") == ["L6"]
    story.fault(15, "stop", pid=2)
    assert story.rules("beanstalkd") == []


def test_a_frozen_worker_holds_no_second_job(tmp_path: Path) -> None:
    """L6: one reserve, one job; and none once the worker went on."""
    story = Story(tmp_path)
    story.wait(10, pid=2)
    story.fault(15, "stop", pid=2)
    story.put("urgent", 20, priority=10)
    story.put("later", 25)
    story.put("also urgent", 30, priority=10)
    story.put("latest", 35)
    story.whole("later", 40)
    story.whole("urgent", 50)
    story.whole("latest", 60)
    story.whole("also urgent", 70)
    assert story.rules("beanstalkd") == ["L6"]

    after = Story(_folder(tmp_path, "after"))
    after.wait(10, pid=2)
    after.fault(15, "stop", pid=2)
    after.put("urgent", 20, priority=10)
    after.put("later", 25)
    after.whole("later", 3000)
    after.whole("urgent", 3010)
    assert after.rules("beanstalkd") == ["L6"]


def test_a_job_that_nobody_put_does_not_end_the_judge(tmp_path: Path) -> None:
    """L2, and the other rules go on."""
    story = Story(tmp_path)
    story.whole("ghost", 10)
    assert story.rules() == ["L2"]


def test_an_early_start_is_seen(tmp_path: Path) -> None:
    """L7."""
    story = Story(tmp_path)
    story.put("a", 0, delay=2.0)
    story.whole("a", 1500)
    assert story.rules() == ["L7"]


def test_what_is_left_at_the_end_is_only_what_was_meant_to_be_buried(tmp_path: Path) -> None:
    """L8 and L10."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.put("b", 0)
    story.store("a", "ready")
    story.store("b", "buried")
    assert sorted(story.rules()) == ["L10", "L8"]


def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path) -> None:
    """kill -9 in the middle of a write."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.whole("a", 10)
    with open(tmp_path / "ack-1.jsonl", "ab") as file:
        file.write(b'{"t0": 17, "uid": "a"')
    assert story.rules() == []


def test_only_the_clock_of_the_store_ends_a_lease_early(tmp_path: Path) -> None:
    """L3 and L7: a worker's own clock explains nothing where a server counts the seconds."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.run("a", 12, end="")
    story.claim("a", 500, pid=2, token=2)
    story.run("a", 502, pid=2, token=2)
    story.settle("a", 504, token=2)
    story.put("b", 0, delay=2.0)
    story.whole("b", 600)
    story.fault(400, "worker-clock", pid=1)
    assert story.rules("postgresql") == ["L3", "L7"]
    story.fault(400, "clock")
    assert story.rules("postgresql") == []


def test_a_worker_whose_clock_was_moved_has_no_excuse_for_its_lease(tmp_path: Path) -> None:
    """L5: leases are counted by a clock that nobody moves, or by the server's."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.claim("a", 1500, pid=2, token=2)
    story.run("a", 1502, pid=2, token=2)
    story.settle("a", 1504, token=2)
    story.fault(20, "worker-clock", pid=1)
    assert story.rules("postgresql") == ["L5"]


def test_a_power_cut_ends_every_worker(tmp_path: Path) -> None:
    """It has no pid of its own, and names those that it killed."""
    story = Story(tmp_path)
    story.put("a", 0)
    story.claim("a", 10, pid=1, token=1)
    story.run("a", 12, end="")
    story.fault(20, "power", killed=(1, 2))
    story.claim("a", 1500, pid=3, token=2)
    story.run("a", 1502, pid=3, token=2)
    story.settle("a", 1504, token=2)
    assert story.rules() == []
    assert check(tmp_path).duplicates == {"kill": 1}


def test_what_is_not_possible_here_is_told_and_no_proof_is_asked(tmp_path: Path) -> None:
    """F: such a fault counts as none."""
    story = Story(tmp_path)
    story.fault(10, "power", proof="", impossible="mount: permission denied")
    assert story.rules() == []
    verdict = check(tmp_path)
    assert verdict.impossible == {("power", "mount: permission denied"): 1}
    assert not verdict.faults


def test_faults_that_meet_no_job_prove_nothing(tmp_path: Path) -> None:
    """F: before the first job, and after the last; a few of many may."""
    story = Story(tmp_path)
    story.put("a", 10_000)
    story.whole("a", 10_010)
    for t in (9_990, 10_005, 10_012):
        story.fault(t, "cut")
    story.fault(20_000, "server")
    assert story.rules() == []
    assert check(tmp_path).idle == {"server": 1}
    story.fault(30_000, "power")
    assert story.rules() == ["F"]


def test_the_work_waits_for_the_faults_and_never_stands_still(tmp_path: Path) -> None:
    """A fault that takes many times what was planned does not find the work over when it ends."""
    gate = Gate(tmp_path)
    gate.open(0.2)
    pace = Pace(gate)
    began = time.monotonic()
    pace.wait_until(0.2)
    near = time.monotonic() - began
    pace.wait_until(0.22)
    beyond = time.monotonic() - began - near
    assert near > 0.4  # slower and slower
    assert beyond > 0.3  # a thirtieth of its speed
    gate.open(math.inf)
    began = time.monotonic()
    pace.wait_until(0.5)
    assert time.monotonic() - began > 0.2


def test_the_work_waits_for_the_latest_of_the_faults(tmp_path: Path) -> None:
    """Those of one worker and those of everybody keep to the plan side by side."""
    gate = Gate(tmp_path)
    gate.open(3.0, "single")
    gate.open(1.0, "wide")
    assert gate.until() == 1.0
    gate.open(math.inf, "wide")
    assert gate.until() == 3.0


def test_memory_and_waits_must_stay_flat() -> None:
    """A soak compares its second part with its last but one."""
    flat = Row(until=60, jobs=100, worker=20.0, server=50.0, p50=0.002, p99=0.01)
    assert not_flat([flat] * 10) == []
    leaky = [replace(flat, worker=20.0 + part) for part in range(10)]
    slower = [replace(flat, p99=0.01 + 0.02 * part) for part in range(10)]
    assert [text.split(" grew")[0] for text in (*not_flat(leaky), *not_flat(slower))] == [
        "the largest worker",
        "p99 of the wait",
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_seed_fixes_faults_and_work(profile: str) -> None:
    """The same seed gives the same schedule; another one gives another."""
    kinds = kinds_for(profile)
    first, again, other = (schedule(seed, kinds, 60, 40, 2.0) for seed in (7, 7, 8))
    assert first == again != other
    assert len(first) == 40
    assert {fault.kind for fault in first} == set(kinds)
    assert [fault.at for fault in first] == sorted(fault.at for fault in first)
    work = [list(groups(seed, 0, 500, 2.0, deadly=True)) for seed in (7, 7, 8)]
    assert work[0] == work[1] != work[2]
    assert sum(map(len, work[0])) == 500


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name
