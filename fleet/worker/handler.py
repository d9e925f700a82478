"""The user's function: found by its import path, told apart by what it is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from fleet.errors import FleetError
from fleet.queue.job import Job

Handler = Callable[[Job], Any]
_NOT_BEGUN = (
    "coroutine",
    "generator",
    "async_generator",
)  # the names of their types: `types` is not worth its import
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE; inspect itself costs more than a megabyte


class HandlerError(FleetError):
    """The handler cannot be imported, or is not a function of one job."""

    exit_code = 4


def load_handler(path: str) -> Handler:
    """
    The function at an import path such as ``shop.jobs.email:send``.

    Raises:
        HandlerError: with the place in the user's code when importing it fails.
    """
    target = import_object("handler", path)
    if not callable(target):
        raise HandlerError(f"handler {path!r}: expected a function, found {type(target).__name__}")
    return target  # type: ignore[no-any-return]


def import_object(what: str, path: str) -> Any:
    """
    What is found at an import path; *what* it is meant to be, for messages.

    Raises:
        HandlerError: with the place in the user's code when importing it fails.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise HandlerError(f'{what} {path!r}: expected "package.module:name"')
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise HandlerError(
                f"{what} {path!r}: no module {missing}. Looked in: {', '.join(sys.path[:4]) or 'nowhere'} …"
            ) from error
        raise HandlerError(
            f"{what} {path!r}: {module_name} needs the module {missing}, which is not here"
        ) from error
    except (Exception, SystemExit) as error:
        import traceback

        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
        ]
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
        raise HandlerError(
            f"{what} {path!r}: importing it failed: {type(error).__name__}: {error}{place}"
        ) from error
    for name in attribute.split("."):
        try:
            target = getattr(target, name)
        except AttributeError as error:
            raise HandlerError(f"{what} {path!r}: {module_name} has no {attribute}") from error
    return target


def is_async(handler: Handler) -> bool:
    """True for `async def`, also behind functools.partial or as the `__call__` of an object."""
    target: Any = handler
    while hasattr(target, "func"):
        target = target.func
    if not hasattr(target, "__code__") and not isinstance(target, type):
        target = getattr(type(target), "__call__", target)  # noqa: B004 - the method itself, not a test
    code = getattr(target, "__code__", None)
    return bool(code and code.co_flags & _CO_COROUTINE)


def check_result(result: object) -> None:
    """
    What a plain handler gave back is ignored, unless it shows that nothing was done.

    Raises:
        HandlerError: a coroutine, as from a plain decorator around `async def`, or a generator.
    """
    kind = type(result).__name__
    if kind in _NOT_BEGUN:
        if kind == "coroutine":
            result.close()  # type: ignore[attr-defined]  # else Python warns of it as well
        raise HandlerError(
            f"the handler gave back a {kind} that nobody runs, so nothing was done. "
            "Make it, and each decorator around it, `def` or `async def` without `yield`."
        )
