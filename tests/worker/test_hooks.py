"""Code of the user's own around each handler."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from fleet import Bury, Hooks, Job
from fleet.worker.handler import HandlerError, is_async
from fleet.worker.hooks import load_hooks, with_hooks
from fleet.worker.testing import FleetQueue, fleet_clock, fleet_queue
from tests.worker.conftest import Site

__all__ = ["fleet_clock", "fleet_queue"]
End = Callable[..., int]


class Notes(Hooks):
    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def before(self, job: Job) -> None:
        self.told.append(f"{self.name} before")

    def after(self, job: Job) -> None:
        self.told.append(f"{self.name} after")

    def error(self, job: Job, error: BaseException) -> None:
        self.told.append(f"{self.name} {type(error).__name__}")


def plain(job: Job) -> None:
    if job.data:
        raise Bury("no")


async def async_(job: Job) -> None:
    plain(job)


@pytest.mark.parametrize("handler", [plain, async_])
def test_hooks_lie_around_the_handler_like_the_skins_of_an_onion(
    fleet_queue: FleetQueue, handler: Callable[[Job], object]
) -> None:
    """The first one is outermost; a job has `after` or `error`, never both."""
    told: list[str] = []
    hooks = [Notes("outer", told), Notes("inner", told)]
    fleet_queue.put("emails", False)
    assert fleet_queue.work("emails", handler, hooks=hooks).ok == 1
    assert told == ["outer before", "inner before", "inner after", "outer after"]

    told.clear()
    fleet_queue.put("emails", True)
    assert fleet_queue.work("emails", handler, hooks=hooks).buried == ["no"]
    assert told == ["outer before", "inner before", "inner Bury", "outer Bury"]


def decorated(job: Job) -> object:
    """As a plain decorator makes of an `async def`."""
    return async_(job)


def yielding(job: Job) -> Iterator[Job]:
    yield job


async def yielding_async(job: Job) -> AsyncIterator[Job]:
    yield job


@pytest.mark.parametrize("handler", [decorated, yielding, yielding_async])
@pytest.mark.parametrize("hooks", [False, True])
def test_a_body_that_nobody_runs_is_no_job_done(
    fleet_queue: FleetQueue, handler: Callable[[Job], object], hooks: bool
) -> None:
    """The body of the handler has not begun: such a job must not be deleted."""
    told: list[str] = []
    fleet_queue.put("emails", False)
    done = fleet_queue.work("emails", handler, hooks=[Notes("hook", told)] if hooks else [])
    assert (done.ok, fleet_queue.count("emails").delayed) == (0, 1)
    assert told == (["hook before", "hook HandlerError"] if hooks else [])


def test_a_handler_without_hooks_is_left_alone() -> None:
    """They cost nothing when there are none, and an async handler stays async."""
    assert with_hooks(plain, []) is plain
    assert is_async(with_hooks(async_, [Hooks()])) and not is_async(with_hooks(plain, [Hooks()]))


@pytest.mark.parametrize("way", ["return", "error"])
def test_a_forked_child_that_comes_back_calls_no_hook(fleet_queue: FleetQueue, way: str) -> None:
    """F8: it ends where the handler ends, and is no second `after` on the same connections."""
    reads, writes = os.pipe()

    class Piped(Hooks):
        def after(self, job: Job) -> None:
            os.write(writes, b"after\n")

        def error(self, job: Job, error: BaseException) -> None:
            os.write(writes, b"error\n")

    def fork(_: Job) -> None:
        if child := os.fork():
            os.write(writes, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        elif way == "error":
            raise KeyError(way)

    fleet_queue.put("emails", None)
    assert fleet_queue.work("emails", fork, hooks=[Piped()]).ok == 1
    assert os.read(reads, 100).split() == [b"0" if way == "return" else b"1", b"after"]
    os.close(reads)
    os.close(writes)


def test_an_error_in_after_counts_as_the_handlers_own(fleet_queue: FleetQueue) -> None:
    """The job was not done as the pipeline wants it done."""

    class Strict(Hooks):
        def after(self, job: Job) -> None:
            raise ValueError("not good enough")

    fleet_queue.put("emails", False)
    assert fleet_queue.work("emails", plain, hooks=[Strict()]).failed == 1


def test_a_worker_calls_the_hooks_of_its_spec(site: Site, end: End) -> None:
    """A hook may refuse a job; one that breaks while it is told of an error changes nothing."""
    done, skipped = site.queue.put_many("emails", [0, "skip"])
    worker = site.worker("nap", hooks=["handlers:Diary"])

    assert site.reason() == "refused by a hook"
    assert site.lines() == [
        f"before {done}",
        f"{done} 1 0 False",
        f"after {done}",
        f"before {skipped}",
        f"error {skipped} Bury",
    ]
    assert end(worker) == 0
    assert f"hook-failed job={skipped} hook=Diary.error error=RuntimeError: broken hook" in site.log


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("handlers:no_hooks", "expected a subclass of fleet.Hooks, found int"),
        ("handlers:nothing", "handlers has no nothing"),
        ("nowhere:Hooks", "no module nowhere"),
    ],
)
def test_hooks_that_cannot_be_used_end_the_worker_in_words(site: Site, path: str, words: str) -> None:
    """Before any job is touched."""
    worker = site.worker("note", hooks=[path])
    assert worker.wait(20) == 4
    assert f"hooks {path!r}: " in site.log and words in site.log


def test_an_object_will_do_as_well_as_a_class() -> None:
    """For hooks that need arguments."""
    assert load_hooks("tests.worker.test_hooks:ready_made").name == "x"  # type: ignore[attr-defined]
    with pytest.raises(HandlerError):
        load_hooks("fleet:Queue.put")


ready_made = Notes("x", [])
