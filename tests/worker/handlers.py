"""What the workers under test run.  Each writes a line to the file `out` in the working directory."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from fleet import Bury, Hooks, Job, JobTimeout, Retry

hoard: list[bytes] = []


def say(text: object, name: str = "out") -> None:
    with open(name, "a") as file:
        file.write(f"{text}\n")


def note(job: Job) -> None:
    say(job.id)


def nap(job: Job) -> None:
    """Sleeps the payload's seconds."""
    say(job.id, "begun")
    time.sleep(job.data)
    say(f"{job.id} {job.attempt} {job.crashes} {job.lost}")


def held(job: Job) -> None:
    """Is not done before the file `go` is there."""
    say(job.id, "begun")
    while not Path("go").exists():
        time.sleep(0.01)
    say(job.id)


async def held_async(job: Job) -> None:
    say(job.id, "begun")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    say(job.id)


def stubborn(job: Job) -> None:
    """Swallows every error that is raised in it."""
    say(job.id, "begun")
    until = time.monotonic() + job.data
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except Exception as error:
            say(type(error).__name__, "swallowed")


def polite(job: Job) -> None:
    say(job.id, "begun")
    try:
        time.sleep(job.data)
    except JobTimeout as error:
        say(type(error).__name__)
        raise


def spin(job: Job) -> None:
    """Never waits in a system call, so that a blow can fall in any thread."""
    say(job.id, "begun")
    until = time.monotonic() + job.data
    while time.monotonic() < until:
        time.sleep(0.01)
    say(job.id)


def outcomes(job: Job) -> None:
    verb = job.data
    say(f"{verb} {job.attempt}")
    if verb == "bury":
        raise Bury("not an address")
    if verb == "retry":
        if job.attempt == 1:
            raise Retry("later", after=0.05)
        return
    if verb == "exit":
        sys.exit(3)
    if verb == "deep":
        outcomes(job) if False else _deep(0)
    if verb == "own":
        job.bury("by hand")
        return
    raise KeyError(verb)


def _deep(level: int) -> int:
    return _deep(level + 1) + 1


def poison(job: Job) -> None:
    """Job "kill" ends its process at once; the others are only noted."""
    if job.data == "kill":
        say(job.id, "killed")
        os.kill(os.getpid(), signal.SIGKILL)
    say(job.id)


def secret(job: Job) -> None:
    raise ValueError(f"cannot log in as ada with password={job.data['password']}\x1b[31m and hunter2 again")


def show_environment(job: Job) -> None:
    for name in job.data:
        say(f"{name}={os.environ.get(name)}")


def talk(job: Job) -> None:
    print("said", job.id, "x" * 2000)
    sys.stderr.write("and complained\n")
    say(job.id)


def side_by_side(job: Job) -> None:
    """Done once four of them run at the same time."""
    say(f"{job.id} {threading.get_ident()}", "begun")
    until = time.monotonic() + 8
    while time.monotonic() < until:
        with open("begun") as file:
            if len(file.readlines()) >= 4:
                say(job.id)
                return
        time.sleep(0.02)
    raise RuntimeError("alone")


async def side_by_side_async(job: Job) -> None:
    say(job.id, "begun")
    for _ in range(400):
        with open("begun") as file:
            if len(file.readlines()) >= 4:
                say(job.id)
                return
        await asyncio.sleep(0.02)
    raise RuntimeError("alone")


async def nap_async(job: Job) -> None:
    say(job.id, "begun")
    await asyncio.sleep(job.data)
    say(job.id)


async def block(job: Job) -> None:
    """Stops the loop for the payload's seconds, as a call does that is no coroutine."""
    say(job.id, "begun")
    time.sleep(job.data)
    await asyncio.sleep(0.01)
    say(job.id)


def vandal(job: Job) -> None:
    """Payload "spoil" changes what it can of its process; another tells what it finds."""
    if job.data == "spoil":
        os.closerange(0, 3)
        os.umask(0o777)
        os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
    mask = os.umask(0)
    os.umask(mask)
    print("said", job.data)
    with open(os.environ["DIARY"], "a") as diary:
        diary.write(f"{job.data} {Path.cwd()} {mask:03o} {signal.getsignal(signal.SIGTERM)!r:.20}\n")


async def vandal_async(job: Job) -> None:
    vandal(job)


def own_loop(job: Job) -> None:
    """An event loop that hears of SIGINT, and so takes the descriptor that every signal is written to."""

    async def listen() -> None:
        interrupted = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
        say(job.id, "begun")
        if job.data == "wait":
            await interrupted.wait()

    asyncio.run(listen())
    say(job.id)


def fork(job: Job) -> None:
    """A child that is told to end, as multiprocessing and subprocess pools do."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    say(os.waitstatus_to_exitcode(status))


def fork_with_a_handler(job: Job) -> None:
    """A child that is to end in a way of its own when it is told to."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    child = os.fork()
    if child == 0:
        signal.pause()
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def fork_and_return(job: Job) -> None:
    """The child comes back as well: by sys.exit, by an error, or as the parent does."""
    child = os.fork()
    say(f"{job.data} {'child' if child == 0 else 'parent'}")
    if child == 0 and job.data == "exit":
        sys.exit(3)
    if child == 0 and job.data == "error":
        raise KeyError(job.data)
    if child:
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "codes")


def fork_and_log(job: Job) -> None:
    """A child writes to the stream that it got from the parent, as a handler of `logging` does."""
    stream = sys.stderr
    child = os.fork()
    if child == 0:
        stream.write(f"child of {job.id}\n")
        os._exit(0)
    os.waitpid(child, 0)


def bomb(job: Job) -> None:
    """Joins the group of processes that is the payload, and forks until it is full, its children too."""
    if job.data is None:
        say(job.id)
        return
    Path(job.data, "cgroup.procs").write_text(f"{os.getpid()}")
    while True:
        try:
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except BlockingIOError:
            time.sleep(60)


def forgotten_thread(job: Job) -> None:
    threading.Thread(target=time.sleep, args=(60,)).start()
    say(job.id)


def hold_the_interpreter(job: Job) -> None:
    """Stops every thread of the process, as a C extension does that never lets go of the lock."""
    say(job.id, "begun")
    ctypes.PyDLL(None).usleep(int(job.data * 1e6))
    say(f"{job.id} {job.attempt} {job.crashes} {job.lost}")


def allocate(job: Job) -> None:
    """As many bytes as the payload says."""
    bytes(job.data)
    say(job.id)


def make_much(job: Job) -> bytearray:
    """Gives 200 MB back, or fails with as much in a variable."""
    say(job.id)
    much = bytearray(200_000_000)
    if job.data == "fail":
        raise KeyError(job.data)
    return much


def grow(job: Job) -> None:
    """Keeps 40 MB more each time."""
    hoard.append(os.urandom(1) * 40_000_000)
    say(job.id)


class Diary(Hooks):
    """Writes what it is told; payload "skip" is refused before the handler."""

    def before(self, job: Job) -> None:
        say(f"before {job.id}")
        if job.data == "skip":
            raise Bury("refused by a hook")

    def after(self, job: Job) -> None:
        say(f"after {job.id}")

    def error(self, job: Job, error: BaseException) -> None:
        say(f"error {job.id} {type(error).__name__}")
        raise RuntimeError("broken hook")


no_hooks = 7


async def _begin(job: Job) -> None:
    note(job)


def decorated(job: Job) -> object:
    """As a plain decorator makes of an `async def`: gives a coroutine that nobody awaits."""
    return _begin(job)
