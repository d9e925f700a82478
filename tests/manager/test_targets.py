"""What a person means by a target."""

from __future__ import annotations

import pytest

from fleet.errors import ProcessNotFound
from fleet.manager.targets import room, select

PIPELINES = {"emails": "shop-emails", "thumbs": "shop-thumbs", "empty": "shop-empty"}
NAMES = [
    "shop-emails:shop-emails_00",
    "shop-emails:shop-emails_01",
    "shop-emails:shop-emails_10",
    "shop-thumbs:shop-thumbs_00",
    "other:emails_00",
]


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        (["emails"], [0, 1, 2]),
        (["shop-emails"], [0, 1, 2]),
        (["emails_01"], [1]),
        (["shop-emails_01"], [1]),
        (["shop-emails:shop-emails_01"], [1]),
        (["emails_0*"], [0, 1]),
        (["em*"], [0, 1, 2]),
        (["*_00"], [0, 3]),
        (["all"], [0, 1, 2, 3]),
        (["thumbs", "emails_01", "thumbs_00"], [1, 3]),
        (["empty"], []),
        ([], []),
    ],
)
def test_a_target_means(targets: list[str], chosen: list[int]) -> None:
    """A pipeline, a process with or without the project, a glob, or all; a foreign group is never meant."""
    assert select(targets, PIPELINES, NAMES) == tuple(NAMES[index] for index in chosen)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("emials", "Did you mean 'emails'?"),
        ("emails_02", "Did you mean 'emails_"),
        ("other:emails_00", "no pipeline or process is called 'other:emails_00'"),
        ("zzz", "The pipelines are: emails, thumbs, empty."),
        ("zzz*", "The pipelines are: emails, thumbs, empty."),
        ("", "The pipelines are: emails, thumbs, empty."),
    ],
)
def test_a_target_that_does_not_exist_is_answered_with_what_is_near(target: str, said: str) -> None:
    """Exit code 2: nothing was done."""
    with pytest.raises(ProcessNotFound, match="no pipeline or process") as caught:
        select(["emails", target], PIPELINES, NAMES)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_room_is_meant_by_name_only() -> None:
    """`start emails` starts what the manifest asks for; `start emails_10` starts that one."""
    above = room(NAMES, {"shop-emails": 2, "shop-thumbs": 1})
    assert above >= {NAMES[2]}
    assert select(["emails", "em*", "all"], PIPELINES, NAMES, room=above) == tuple(
        NAMES[i] for i in (0, 1, 3)
    )
    assert select(["emails_10"], PIPELINES, NAMES, room=above) == (NAMES[2],)


def test_a_number_by_hand_is_made_of_those_that_run_and_the_lowest_others() -> None:
    """So restart brings back whom it stopped, and start only what lacks."""
    names = [f"shop-emails:shop-emails_{number:02d}" for number in range(6)]
    numprocs = {"shop-emails": 4}

    def meant(by_hand: int, *running: int) -> list[int]:
        active = [names[number] for number in running]
        above = room(names, numprocs, {"shop-emails": by_hand}, active)
        return [names.index(n) for n in select(["emails"], PIPELINES, names, room=above)]

    assert meant(2, 1, 3) == [1, 3]
    assert meant(3, 3) == [0, 1, 3]
    assert meant(5) == [0, 1, 2, 3, 4]
    assert meant(0) == []
