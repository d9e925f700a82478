"""Another number of processes: single ones start and stop, and nobody else notices."""

from __future__ import annotations

import time

import pytest

from fleet.errors import SupervisorUnavailable
from fleet.manager import scale as scaling
from fleet.manager.rolling import roll
from fleet.manager.scale import BeyondRoom, targets
from fleet.supervisor.process import Process, ProcessState
from tests.manager.test_change import COMMAND, Killed, Shop, shop  # noqa: F401  (a fixture)


def members(active: set[int], of: int = 8) -> list[Process]:
    return [
        Process(
            group="a",
            name=f"a_{n:02d}",
            state=ProcessState.RUNNING if n in active else ProcessState.STOPPED,
            pid=100 + n if n in active else None,
        )
        for n in range(of)
    ]


def one(number: int, active: set[int], busy: dict[int, float] | None = None) -> tuple[list[str], list[str]]:
    """Numbers of the processes that start, and of those that drain; the manifest asks for four."""
    jobs = {f"a_{n:02d}": seconds for n, seconds in (busy or {}).items()}
    (target,) = targets({"a": number}, {"a": 4}, members(active), lambda p: jobs.get(p.name, 0.0))
    return [n[-2:] for n in target.start], [n[-2:] for n in target.drain]


def test_the_lowest_start_and_the_idle_leave_first() -> None:
    """Then those with the shortest job; of equals the highest number."""
    assert one(6, {0, 1, 2, 3}) == (["04", "05"], [])
    assert one(6, {0, 2, 3}) == (["01", "04", "05"], [])
    assert one(3, {0, 1, 2, 3}) == ([], ["03"])
    assert one(3, {0, 1, 2, 3}, {1: 0.0, 0: 9.0, 2: 5.0, 3: 1.0}) == ([], ["01"])
    assert one(1, {0, 1, 2, 3}, {0: 9.0, 1: 2.0, 2: 5.0, 3: 1.0}) == ([], ["03", "01", "02"])
    assert one(0, {0, 1}) == ([], ["01", "00"])


def test_the_manifests_own_number_is_made_of_its_own_processes() -> None:
    """Those that a restart of supervisord would bring: the next apply then has nothing to do."""
    assert one(4, {0, 2, 3, 6}) == (["01"], ["06"])


def test_beyond_the_room_nothing_is_chosen() -> None:
    """supervisord cannot add to a group that runs."""
    with pytest.raises(BeyondRoom) as refused:
        one(9, {0})
    assert refused.value.room == {"a": 8}


def test_up_and_down_keep_the_others(shop: Shop) -> None:  # noqa: F811
    """2 → 4 → 1; an apply in between leaves the number, a new one in the manifest is the newer word."""
    with pytest.raises(SupervisorUnavailable):
        scaling.scale(shop.place, "shop", {"shop-a": 3}, numprocs={"shop-a": 2})
    shop.apply()
    before = shop.pids()
    numprocs = {"shop-a": 2}
    scaling.scale(shop.place, "shop", {"shop-a": 4}, numprocs=numprocs)
    four = shop.pids()
    assert len(four) == 4
    assert before.items() <= four.items()
    assert shop.apply().is_unchanged
    scaling.scale(shop.place, "shop", {"shop-a": 1}, numprocs=numprocs)
    assert shop.pids() == {"shop-a_00": before["shop-a_00"]}
    assert shop.apply().is_unchanged
    assert scaling.by_hand(shop.place, "shop")["shop-a"].number == 1
    shop.write(COMMAND.format("a", "/bin/sleep 999").replace("2", "3"))
    shop.apply()
    assert len(shop.pids()) == 3
    assert shop.pids()["shop-a_00"] == before["shop-a_00"]


def test_a_scale_leaves_the_numbers_of_others_alone(shop: Shop) -> None:  # noqa: F811
    """Also where the manifest has another number meanwhile: that is for apply, which asks."""
    shop.write(COMMAND.format("a", "/bin/sleep 999"), COMMAND.format("b", "/bin/sleep 999"))
    shop.apply()
    scaling.scale(shop.place, "shop", {"shop-a": 3}, numprocs={"shop-a": 2, "shop-b": 2})
    before = shop.pids("shop-a")
    scaling.scale(shop.place, "shop", {"shop-b": 1}, numprocs={"shop-a": 20, "shop-b": 2})
    assert shop.pids("shop-a") == before
    assert len(shop.pids("shop-b")) == 1


def test_a_time_that_is_over_ends_beside_an_edited_manifest(shop: Shop) -> None:  # noqa: F811
    """Back to what was applied."""
    shop.apply()
    before = shop.pids()
    scaling.scale(shop.place, "shop", {"shop-a": 4}, numprocs={"shop-a": 2}, until=time.time())
    scaling.scale(shop.place, "shop", {}, numprocs={"shop-a": 20})
    assert shop.pids() == before
    assert scaling.by_hand(shop.place, "shop") == {}


def test_an_apply_drains_what_a_killed_scale_was_about_to_drain(
    shop: Shop,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Back at the manifest's number no number by hand is left that would tell of the surplus."""
    shop.apply()
    before = shop.pids()
    scaling.scale(shop.place, "shop", {"shop-a": 4}, numprocs={"shop-a": 2})

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(scaling, "stop", killed)
        with pytest.raises(Killed):
            scaling.scale(shop.place, "shop", {"shop-a": 2}, numprocs={"shop-a": 2})
    assert shop.plan().drains == 2
    shop.apply()
    assert shop.pids() == before


def test_whoever_ends_a_surge_in_the_middle_is_told_what_is_left(shop: Shop) -> None:  # noqa: F811
    """One that was told to stop, and one that runs beside the others: no apply would end that one."""
    shop.apply()
    client = shop.place.client()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    names, beside = ("shop-a:shop-a_00", "shop-a:shop-a_01"), ("shop-a:shop-a_02",)
    for told in ("tell", "tell_drain"):
        with pytest.raises(KeyboardInterrupt) as ended:
            roll(client, names, beside=beside, **{told: interrupted})
        (note,) = ended.value.__notes__
        assert "0 of 2 were restarted" in note
        assert "fleet stop shop-a_02" in note
        assert ("fleet start shop-a_00" in note) is (told == "tell_drain")


def test_a_time_that_is_over_is_ended_by_whoever_comes_next(shop: Shop) -> None:  # noqa: F811
    """Another scale, or an apply."""
    shop.apply()
    numprocs = {"shop-a": 2}
    for end in (
        lambda: scaling.scale(shop.place, "shop", {}, numprocs=numprocs),
        shop.apply,
    ):
        scaling.scale(shop.place, "shop", {"shop-a": 3}, numprocs=numprocs, until=time.time() + 0.2)
        assert len(shop.pids()) == 3
        time.sleep(0.2)
        end()
        assert len(shop.pids()) == 2
        assert scaling.by_hand(shop.place, "shop") == {}
