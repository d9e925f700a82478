"""What operators and dashboards do with a tube, each over one connection in one conversation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fleet.queue.backends.beanstalkd.lease import Facts, facts_of
from fleet.queue.backends.beanstalkd.protocol import Link, must, parse_list, unexpected
from fleet.queue.job import Job, JobState, PipelineStats

_PEEK = {
    JobState.READY: b"peek-ready\r\n",
    JobState.DELAYED: b"peek-delayed\r\n",
    JobState.BURIED: b"peek-buried\r\n",
}


def kick(link: Link, tube: str, limit: int, ids: Sequence[int] | None) -> int:
    """
    Kick buried jobs, one after the other; returns how many.

    Not the server's own ``kick N``: once nothing is buried it moves delayed
    jobs.  This way it can happen to a single one, if others kick it, reserve
    it and release it with a delay between our look and our command.
    """
    return _move(link, tube, JobState.BURIED, limit, ids, b"kick-job %d\r\n", b"KICKED")


def release(link: Link, tube: str, limit: int, ids: Sequence[int] | None) -> int:
    """Make delayed jobs ready, the first that is due first: ``kick-job`` is for these too."""
    return _move(link, tube, JobState.DELAYED, limit, ids, b"kick-job %d\r\n", b"KICKED")


def discard(link: Link, tube: str, state: JobState, limit: int, ids: Sequence[int] | None) -> int:
    """Delete jobs of one state, one after the other; returns how many."""
    return _move(link, tube, state, limit, ids, b"delete %d\r\n", b"DELETED")


def _move(
    link: Link,
    tube: str,
    state: JobState,
    limit: int,
    ids: Sequence[int] | None,
    command: bytes,
    done: bytes,
) -> int:
    if ids is not None:
        chosen = [id_ for id_, _, facts in _look(link, ids) if _is(facts, tube, state)][:limit]
        link.send(b"".join([command % id_ for id_ in chosen]))
        return sum([_is_done(link, done) for _ in chosen])
    link.use(tube)
    link.send(b"stats-tube %b\r\n" % tube.encode() + _PEEK[state])
    # No more than there are now: jobs that are buried again meanwhile must not make this endless.
    count = int(must(link.table())[f"current-jobs-{state}"])
    moved = 0
    for _ in range(min(limit, count)):
        front = link.found()
        if front is None:
            return moved
        link.send(command % front[0] + _PEEK[state])
        moved += _is_done(link, done)
    link.found()
    return moved


def peek(link: Link, tube: str, state: JobState, ids: Sequence[int] | None) -> list[Job]:
    """The first job of that state, which is all that beanstalkd shows, or those of these *ids*."""
    if ids is None:
        link.use(tube)
        link.send(_PEEK[state])
        front = link.found()
        ids = () if front is None else (front[0],)
    return [_job(*seen) for seen in _look(link, ids) if _is(seen[2], tube, state)]


def find(link: Link, job_id: int) -> Job | None:
    seen = _look(link, (job_id,))
    return _job(*seen[0]) if seen else None


def pause(link: Link, tube: str, seconds: float) -> None:
    """Whole seconds; 0 ends it."""
    link.use(tube)  # makes the tube, which must exist
    link.send(b"pause-tube %b %d\r\n" % (tube.encode(), math.ceil(seconds)))
    link.expect(b"PAUSED")


def stats(link: Link, tube: str) -> PipelineStats:
    """The server's own counters, and how long ago the next ready job was put."""
    link.send(b"stats-tube %b\r\n" % tube.encode())
    table = link.table()
    if table is None:
        return PipelineStats(pipeline=tube, ready=0, delayed=0, reserved=0, buried=0, stale=0)
    ready = int(table["current-jobs-ready"])
    return PipelineStats(
        pipeline=tube,
        ready=ready,
        delayed=int(table["current-jobs-delayed"]),
        reserved=int(table["current-jobs-reserved"]),
        buried=int(table["current-jobs-buried"]),
        stale=0,  # the server makes a job ready in the moment its lease is over
        oldest_ready=_age_of_next(link, tube) if ready else None,
        paused=_pause_left(table),
    )


def _age_of_next(link: Link, tube: str) -> float:
    link.use(tube)
    link.send(_PEEK[JobState.READY])
    front = link.found()
    if front is None:
        return 0.0
    link.send(b"stats-job %d\r\n" % front[0])
    data = link.data()
    if data is None:
        return 0.0
    facts = facts_of(data)
    return float(max(0, facts.age - facts.delay))


def names(link: Link) -> list[str]:
    """The tubes that hold jobs or are paused."""
    link.send(b"list-tubes\r\n")
    tubes = parse_list(must(link.data()))
    link.send(b"".join([b"stats-tube %b\r\n" % tube.encode() for tube in tubes]))
    tables = [(tube, link.table()) for tube in tubes]
    return sorted(tube for tube, table in tables if table and (_holds(table) or _pause_left(table)))


def _holds(table: dict[str, str]) -> bool:
    return any(table[f"current-jobs-{state}"] != "0" for state in JobState)


def _pause_left(table: dict[str, str]) -> float:
    """Seconds of a pause that are left, rounded up: the server rounds down, to 0 in the last one."""
    return float(min(int(table["pause"]), max(0, int(table["pause-time-left"])) + 1))


def _look(link: Link, ids: Sequence[int]) -> list[tuple[int, bytes, Facts]]:
    """Body and facts of those ids that exist."""
    asked = [id_ for id_ in ids if 0 <= id_ < 2**64]
    link.send(b"".join([b"peek %d\r\nstats-job %d\r\n" % (id_, id_) for id_ in asked]))
    answers = [(link.found(), link.data()) for _ in asked]
    return [(*found, facts_of(data)) for found, data in answers if found and data]


def _is(facts: Facts, tube: str, state: JobState) -> bool:
    return facts.pipeline == tube and facts.state is state


def _is_done(link: Link, done: bytes) -> bool:
    answer = link.line()
    if answer not in (done, b"NOT_FOUND"):
        raise unexpected(answer)
    return answer == done


def _job(id_: int, body: bytes, facts: Facts) -> Job:
    job = Job(id_, facts.pipeline, body, facts.priority, facts.ttr, facts.attempt, facts.crashes, facts.state)
    job.delay = float(facts.left) if facts.state is JobState.DELAYED else 0.0
    return job
