"""
A reserved job whose details are asked for when somebody looks at them.

beanstalkd answers a reserve with id and body only.  Everything else, the ttr
included, costs a `stats-job`, which would double the work of a drain.  The
first look at any of them asks for all jobs of the connection in one go, so a
worker that looks at each job pays one round trip a batch.
"""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from fleet.queue.backends.beanstalkd.protocol import Link, Lost
from fleet.queue.job import DEFAULT_PRIORITY, Job, JobState

# It runs on while the host sleeps, as the server's does.  CLOCK_MONOTONIC stands still meanwhile.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SHORTEST_TTR = 1.0  # seconds: beanstalkd raises a smaller one
_ASKED = frozenset(("attempt", "crashes", "expires_at", "priority", "ttr", "waited"))
_STATES = {state.encode(): state for state in JobState}
# Taken apart by one pattern, because a worker reads one of these for every job.
_STATS_JOB = re.compile(
    rb'tube: "?([^"\n]+)"?\nstate: (ready|delayed|reserved|buried)\npri: (\d+)\nage: (-?\d+)\n'
    rb"delay: (\d+)\nttr: (\d+)\ntime-left: (-?\d+)\nfile: \d+\n"
    rb"reserves: (\d+)\ntimeouts: \d+\nreleases: (\d+)\nburies: (\d+)\nkicks: (\d+)\n"
)
# Most jobs are reserved for the first time: there is little to read, and nothing to work out.
_FIRST_TIME = re.compile(
    rb"state: reserved\npri: (\d+)\nage: (-?\d+)\ndelay: (\d+)\nttr: (\d+)\ntime-left: -?\d+\nfile: \d+\n"
    rb"reserves: 1\ntimeouts: 0\nreleases: 0\nburies: 0\nkicks: 0\n"
)
_ALWAYS: dict[str, Any] = {"delay": 0.0, "reason": "", "uid": b"", "unique": None}


def clock() -> float:
    """Seconds by which leases are judged: not those of `expires_at`, which is `time.monotonic()`."""
    return time.clock_gettime(_CLOCK)


class Facts(NamedTuple):
    """What `stats-job` tells, in our words."""

    pipeline: str
    state: JobState
    priority: int
    ttr: float
    age: int  # seconds since the put
    delay: int  # seconds of the last put or release
    left: int  # seconds until a delayed job is ready, or a lease is over
    attempt: int
    crashes: int
    fresh: bool  # never reserved before this reservation


class ReservedJob(Job):
    """
    A `Job` bound to the connection that reserved it.

    `attempt`, `crashes`, `expires_at`, `priority`, `ttr` and `waited` are asked
    for at the first look.  Once the job is settled or its connection is gone
    nobody can tell them: then attempt is 0, and the others are the defaults.
    """

    __slots__ = ("_asked_at", "_known", "_link", "_sure_until")

    def __init__(
        self, id: int, pipeline: str, payload: bytes, token: int, link: Link, asked_at: float
    ) -> None:
        # Not the base's: what is not set here is found by __getattr__.
        self.id = id
        self.pipeline = pipeline
        self.payload = payload
        self.state = JobState.RESERVED
        self.token = token
        self.lost = False
        self.settled = False
        self._queue = None
        self._link = link
        self._asked_at = asked_at
        self._known = False
        # Whatever its ttr, the lease lasts until then: no question is needed before.
        self._sure_until = asked_at + SHORTEST_TTR

    def __getattr__(self, name: str) -> Any:
        if name in _ALWAYS:
            return _ALWAYS[name]
        if name not in _ASKED:
            raise AttributeError(name)
        if self.is_held():
            learn(self._link)
        if not self._known:
            self._never_known()
        return getattr(self, name)

    def __repr__(self) -> str:
        attempt = f" attempt {self.attempt}" if self._known else ""  # a debugger must not ask the server
        return f"<Job {self.id} {self.pipeline} {self.state}{attempt}>"

    def is_held(self) -> bool:
        """Whether this handle still names the lease; says nothing about its deadline."""
        link = self._link
        return link.leases.get(self.id) is self and not link.closed

    def is_over(self, now: float) -> bool:
        """Whether the deadline has passed; asks for the ttr when that decides it."""
        if now < self._sure_until:
            return False
        if not self._known and self.is_held():
            learn(self._link)
        return now >= self._sure_until

    def renewed(self, asked_at: float) -> None:
        """The lease began anew, at *asked_at* or later."""
        self._asked_at = asked_at
        self._lasts(asked_at + self.ttr)

    def read(self, answer: bytes, now: float) -> None:
        """Take in the answer to `stats-job`."""
        found = _FIRST_TIME.search(answer)
        if found is None:
            self.know(facts_of(answer), now)
            return
        priority, age, delay, ttr = found.groups()
        self._known = True
        self.priority = int(priority)
        self.ttr = seconds = float(ttr)
        self.attempt = 1
        self.crashes = 0
        self._lasts(self._asked_at + seconds)
        waited = int(age) - int(delay) - (now - self._asked_at)
        self.waited = waited if waited > 0.0 else 0.0

    def know(self, facts: Facts, now: float) -> None:
        self._known = True
        self.priority = facts.priority
        self.ttr = facts.ttr
        self.attempt = facts.attempt
        self.crashes = facts.crashes
        self._lasts(self._asked_at + facts.ttr)
        self.waited = max(0.0, facts.age - facts.delay - (now - self._asked_at)) if facts.fresh else 0.0

    def _lasts(self, until: float) -> None:
        self._sure_until = until
        self.expires_at = time.monotonic() + until - clock()

    def _never_known(self) -> None:
        self.lost = self.lost or self._link.closed
        self.priority = DEFAULT_PRIORITY
        self.ttr = SHORTEST_TTR
        self.attempt = self.crashes = 0
        self._lasts(self._sure_until)
        self.waited = 0.0


def forget(link: Link) -> None:
    """Drop the leases that are over and that nobody settled."""
    now = clock()
    for job in list(link.leases.values()):
        if job.is_over(now) and link.leases.get(job.id) is job:
            del link.leases[job.id]


def learn(link: Link) -> None:
    """Ask for the facts of every job that the connection holds and nobody looked at yet."""
    if not link.is_ours():
        return
    try:
        with link:
            unknown = [job for job in list(link.leases.values()) if not job._known]
            link.send(b"".join([b"stats-job %d\r\n" % job.id for job in unknown]))
            now = clock()
            for job in unknown:  # read one by one: the server writes the next meanwhile
                answer = link.data()
                if answer is not None:
                    job.read(answer, now)
                else:  # deleted by somebody else, after the lease had run out
                    job.lost = True
                    link.leases.pop(job.id, None)
    except Lost:
        return


def facts_of(answer: bytes) -> Facts:
    """
    A `stats-job` answer in our words.

    The server counts reserves, releases, buries and kicks over the job's whole
    life.  A reservation ends in a release, in a bury, or uncounted: its worker
    vanished.  A buried job leaves that state by a kick only, so the kicks
    beyond that are ours: a job that was never begun is given back by a release
    with a delay and a kick that ends it (`settling`).  So failures are
    the releases that no kick followed and the buries, and crashes are the rest.
    The counters never go back; each kick out of buried forgives one failure and
    one crash, which gives the job one more try.
    """
    found = _STATS_JOB.search(answer)
    if found is None:
        raise Lost(f"it told of a job in a way that is not known here: {answer[:60]!r}")
    tube, state, *numbers = found.groups()
    priority, age, delay, ttr, left, reserves, releases, buries, kicks = map(int, numbers)
    running = 1 if state == b"reserved" else 0
    forgiven = min(kicks, buries - (1 if state == b"buried" else 0))
    crashes = max(0, reserves - running - releases - buries - forgiven)
    return Facts(
        tube.decode("ascii"),
        _STATES[state],
        priority,
        float(ttr),
        age,
        delay,
        max(0, left),
        max(0, releases + buries - kicks) + crashes + running,
        crashes,
        reserves == running,
    )
