"""
fleet-worker: what the programs rendered by fleet run.

    fleet-worker SPEC.json          work on the jobs of one pipeline
    fleet-worker --exec SPEC.json   set the environment and the secrets, then become the command

It loads the standard library and one database driver, nothing else.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from fleet.queue.queue import Queue
    from fleet.worker.log import Log

EXIT_LIMIT = 71
_GOODBYE = 3.0  # seconds for the interpreter and its atexit functions

USAGE = """\
usage: fleet-worker SPEC.json
       fleet-worker --exec SPEC.json

Works on the jobs of one pipeline, as the worker spec says that `fleet render`
wrote.  With --exec it sets the spec's environment and secrets and becomes its
command.  supervisord starts it; to try a handler by hand use `fleet work`.

signals   TERM, INT, QUIT, HUP   finish the jobs in hand, then leave; the
                                 second one releases them and leaves at once
          USR1, CONT             pause, go on
          USR2                   write to the log what every job is doing

exit      0   told to leave, or recycled
          2   wrong usage
          4   the spec, a secret or the handler cannot be used
          6   the queue's tables do not fit, or permission was denied
          70  a handler did not end after its timeout
          71  a limit on files, threads or memory was hit
"""


def main() -> None:
    """The console script."""
    code = 1  # of an error that is not ours to name
    try:
        code = run(sys.argv[1:])
    finally:
        _leave_soon(code)
    raise SystemExit(code)


def run(arguments: list[str]) -> int:
    """Do what the arguments say; the exit code."""
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if arguments == ["--version"]:
        from fleet import __version__

        sys.stdout.write(f"fleet-worker {__version__}\n")
        return 0
    shim = arguments[:1] == ["--exec"]
    if shim:
        arguments = arguments[1:]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    from fleet.errors import FleetError, limit_hit

    try:
        if shim:
            become(arguments[0])
        return work(arguments[0])
    except FleetError as error:
        sys.stderr.write(f"fleet-worker: {error}\n")
        return error.exit_code
    except (OSError, RuntimeError, MemoryError) as error:
        if not (limit := limit_hit(error)):
            raise
        sys.stderr.write(f"fleet-worker: {limit}\n")
        return EXIT_LIMIT


def work(path: str) -> int:
    """
    Run the worker of a spec file until it is told to leave.

    Raises:
        FleetError: the spec, a secret, the handler or the queue cannot be used.
    """
    from fleet.queue.lifeline import lifeline_for
    from fleet.worker.hooks import handler_of
    from fleet.worker.log import Log, Stream
    from fleet.worker.loop import Worker
    from fleet.worker.spec import load, prepare, queue_dsn

    spec = load(path)
    prepare(spec)
    log = Log(json_lines=spec.log_format == "json")
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(log, 1), Stream(log, 2)

    def put_back() -> None:
        sys.stdout, sys.stderr = before

    os.register_at_fork(after_in_child=put_back)
    os.register_at_fork(after_in_child=log.forked)  # for a logging handler, which keeps its stream
    try:
        handler = handler_of(spec)
        dsn = queue_dsn(spec)
        queue = open_queue(dsn, log)
        Worker(spec, queue, handler, log, lifeline=lifeline_for(dsn)).run()
        queue.close()
    finally:
        put_back()
        log.close()
    return 0


def open_queue(dsn: str, log: Log) -> Queue:
    """
    Connect; a server that is away is waited for, as it would be later.

    Raises:
        QueueError: something that waiting does not heal.
    """
    import time

    from fleet.errors import BackendUnavailable
    from fleet.queue import connect
    from fleet.queue.outage import Outage

    outage = Outage()
    while True:
        try:
            return connect(dsn)
        except BackendUnavailable as error:
            outage.begin(error)
            if line := outage.line(time.monotonic()):
                log.line(line)
            time.sleep(outage.pause())


def _leave_soon(code: int) -> None:
    """A handler's forgotten thread must not keep a worker that has nothing left to do, nor change its end."""
    import threading
    import time

    def leave() -> None:
        time.sleep(_GOODBYE)
        os._exit(code)

    with suppress(RuntimeError):  # none may be started here
        threading.Thread(target=leave, name="fleet-leave", daemon=True).start()


def become(path: str) -> NoReturn:
    """
    Set environment and secrets, then exec the spec's command.

    Raises:
        SpecError: no command, or a program that cannot be run.
    """
    import shlex

    from fleet.worker.spec import SpecError, load, prepare, queue_dsn

    spec = load(path)
    words = shlex.split(spec.command)
    if not words:
        raise SpecError(f"{path}: --exec needs a command")
    prepare(spec)
    if spec.password is not None:  # the rendered file may not hold it; the command needs it
        os.environ["FLEET_DSN"] = queue_dsn(spec)
    try:
        os.execvp(words[0], words)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        raise SpecError(f"{path}: cannot run {words[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main()
