"""
Hooks: code of yours around every job of a pipeline.

    class Timing(Hooks):
        def before(self, job: Job) -> None:
            self.started = time.monotonic()

        def after(self, job: Job) -> None:
            statsd.timing(job.pipeline, time.monotonic() - self.started)

and `hooks = ["shop.metrics:Timing"]` in the manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fleet.queue.job import Job
from fleet.worker import family
from fleet.worker.handler import Handler, HandlerError, check_result, import_object, is_async, load_handler
from fleet.worker.spec import WorkerSpec


class Hooks:
    """
    Override what you need.  One object serves the whole process, all its slots included.

    They are plain functions, also around `async def` handlers, run in the
    handler's own thread and share its timeout.
    """

    def before(self, job: Job) -> None:
        """Before the handler, which is not run if this raises; the error counts as its own."""

    def after(self, job: Job) -> None:
        """The handler returned.  An error counts as the handler's own."""

    def error(self, job: Job, error: BaseException) -> None:
        """It did not end well: `Retry`, `Bury` and `JobTimeout` come here too.  What it raises is logged."""


def handler_of(spec: WorkerSpec) -> Handler:
    """
    The spec's handler, with the spec's hooks around it.

    Raises:
        HandlerError: one of them cannot be used.
    """
    return with_hooks(load_handler(spec.handler), [load_hooks(path) for path in spec.hooks])


def load_hooks(path: str) -> Hooks:
    """
    The `Hooks` at an import path; a class is called without arguments.

    Raises:
        HandlerError: it cannot be imported, or is something else.
    """
    target = import_object("hooks", path)
    found = target() if isinstance(target, type) else target
    if not isinstance(found, Hooks):
        raise HandlerError(
            f"hooks {path!r}: expected a subclass of fleet.Hooks, found {type(found).__name__}"
        )
    return found


def with_hooks(handler: Handler, hooks: Sequence[Hooks]) -> Handler:
    """The handler with *hooks* around it: `before` in their order, the others the other way round."""
    if not hooks:
        return handler
    if is_async(handler):

        async def run_async(job: Job) -> None:
            with _around(job, hooks):
                await handler(job)

        return run_async

    def run(job: Job) -> Any:
        with _around(job, hooks):
            check_result(handler(job))

    return run


@contextmanager
def _around(job: Job, hooks: Sequence[Hooks]) -> Iterator[None]:
    since = family.generation
    try:
        for hook in hooks:
            hook.before(job)
        try:
            yield
        except BaseException as error:
            family.end_child(since, error)
            raise
        family.end_child(since, None)
        for hook in reversed(hooks):
            hook.after(job)
    except BaseException as error:
        for hook in reversed(hooks):
            _tell(hook, job, error)
        raise


def _tell(hook: Hooks, job: Job, error: BaseException) -> None:
    try:
        hook.error(job, error)
    except Exception as broken:  # it must not hide the handler's own error
        where = f"{type(hook).__name__}.error"
        sys.stderr.write(f"hook-failed job={job.id} hook={where} error={type(broken).__name__}: {broken}\n")
