"""
JobQueue: the names of the PHP library simple-job-queue over `Queue`.

A worker loop ported line by line runs: every public name, argument order and
default is there in snake_case.  What differs on purpose is in
docs/from-simple-job-queue.md: leases are real, errors are raised, priority
survives, and the four back ends mean the same.
"""

from __future__ import annotations

import copy
from typing import Any

from fleet.errors import JobNotFound
from fleet.queue.backends import open_backend
from fleet.queue.job import Job
from fleet.queue.queue import Queue

_TYPES = ("mysql", "pgsql", "sqlite", "beanstalkd")
_DEFAULTS: dict[str, Any] = {
    "mysql": {"table_name": "job_queue_jobs", "use_compression": True},
    "pgsql": {"table_name": "job_queue_jobs"},
    "sqlite": {"table_name": "job_queue_jobs"},
    "beanstalkd": {},
    "stale_timeout": 300,
}


class SimpleJob(Job):
    """A Job that also answers to ``job["id"]`` and ``job["payload"]``, as PHP's arrays did."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        if name not in ("id", "payload", "pipeline", "priority"):
            raise KeyError(name)
        return getattr(self, name)


class JobQueue:
    """
    A queue by simple-job-queue's names.

    `add_queue_connection` takes the caller's own sqlite3, psycopg or PyMySQL
    connection or greenstalk client, or a DSN.  Inside the caller's open
    transaction verbs join it; outside of one each verb commits by itself, as
    with PDO.  Jobs are `SimpleJob` objects; an empty result is None, which is
    as false as PHP's empty array, and comes at once on every back end.
    """

    QUEUE_TYPE_MYSQL = "mysql"
    QUEUE_TYPE_PGSQL = "pgsql"
    QUEUE_TYPE_SQLITE = "sqlite"
    QUEUE_TYPE_BEANSTALKD = "beanstalkd"

    def __init__(self, type: str = "mysql", options: dict[str, Any] | None = None) -> None:
        """
        *type* is mysql, pgsql, sqlite or beanstalkd.

        *options* may hold, under the type's name, `table_name`: the prefix of
        fleet's own tables, so that the PHP library's table is never touched.
        `use_compression` and `stale_timeout` are accepted and have no effect:
        payloads are stored as they are, and a job is stale when its ttr is over.

        Raises:
            ValueError: unknown type.
        """
        if type not in _TYPES:
            raise ValueError(f"queue type: expected one of {', '.join(_TYPES)}, got {type!r}")
        self._type = type
        self._options = copy.deepcopy(_DEFAULTS)
        self._pipeline = ""
        self._queue: Queue | None = None
        self._cache: dict[str, Any] = {}
        self.set_options(options or {})

    # -- options and connection -------------------------------------------

    def set_options(self, options: dict[str, Any]) -> JobQueue:
        """Merge *options* into those in force, key by key on both levels."""
        for name, value in options.items():
            if isinstance(value, dict) and isinstance(self._options.get(name), dict):
                self._options[name] |= value
            else:
                self._options[name] = value
        return self

    def get_options(self) -> dict[str, Any]:
        return copy.deepcopy(self._options)

    def add_queue_connection(self, connection: Any) -> JobQueue:
        """
        Use the caller's *connection*, or a DSN; the tables are made when they are missing.

        Raises:
            DsnError: not a connection of this queue type.
        """
        prefix = self._options[self._type].get("table_name")
        if isinstance(connection, str):
            backend = open_backend(connection, prefix=prefix)
        else:
            backend = open_backend(connection=connection, commits=True, prefix=prefix)
        self._queue = Queue(backend)
        return self

    @property
    def queue(self) -> Queue:
        """The `Queue` behind it.  Raises ValueError before add_queue_connection."""
        if self._queue is None:
            raise ValueError("no connection yet: call add_queue_connection first")
        return self._queue

    def is_mysql_queue_type(self) -> bool:
        return self._type == self.QUEUE_TYPE_MYSQL

    def is_pgsql_queue_type(self) -> bool:
        return self._type == self.QUEUE_TYPE_PGSQL

    def is_sqlite_queue_type(self) -> bool:
        return self._type == self.QUEUE_TYPE_SQLITE

    def is_beanstalkd_queue_type(self) -> bool:
        return self._type == self.QUEUE_TYPE_BEANSTALKD

    def get_cache(self) -> dict[str, Any]:
        """A dict of the caller's own; nothing here depends on it."""
        return self._cache

    def flush_cache(self) -> None:
        self._cache.clear()

    # -- pipelines ---------------------------------------------------------

    def set_pipeline(self, pipeline: str) -> None:
        self._pipeline = pipeline

    def get_pipeline(self) -> str:
        return self._pipeline

    def select_pipeline(self, pipeline: str) -> JobQueue:
        """The pipeline that jobs are added to and taken from."""
        self.set_pipeline(pipeline)
        return self

    def watch_pipeline(self, pipeline: str) -> JobQueue:
        """The same as `select_pipeline`, on every back end: the last one named counts."""
        return self.select_pipeline(pipeline)

    # -- jobs --------------------------------------------------------------

    def add_job(
        self, payload: object, delay: float = 0, priority: int = 1024, time_to_retry: float = 60
    ) -> dict[str, Any]:
        """
        Store a job; returns its id and payload.

        *payload* is text (stored as it is, PHP's json_encode output is at
        home here), bytes, or a JSON value.  *time_to_retry* is the seconds a
        worker may hold it before another one gets it.
        """
        raw = payload.encode() if isinstance(payload, str) else payload
        job_id = self.queue.put(self._chosen(), raw, delay=delay, priority=priority, ttr=time_to_retry)
        return {"id": job_id, "payload": payload}

    def get_next_job_and_reserve(self) -> SimpleJob | None:
        """The most urgent ready job, leased, or None at once when nothing is ready."""
        return _simple(self.queue.reserve(self._chosen()))

    def get_next_buried_job(self) -> SimpleJob | None:
        """The buried job that `kick_job` would be for; it stays buried."""
        return _simple(self.queue.peek_buried(self._chosen()))

    def delete_job(self, job: Job) -> None:
        """
        Settle a reserved job, or delete a buried one.

        Raises:
            LeaseLost: somebody else has the job by now.
            JobNotFound: it was buried, and is not any more.
        """
        if job.token:
            job.delete()
        elif not self.queue.discard(job.pipeline, "buried", 1, ids=[job.id]):
            raise JobNotFound(f"job {job.id} is not buried in {job.pipeline}")

    def bury_job(self, job: Job) -> None:
        """Raises LeaseLost when somebody else has the job by now."""
        job.bury()

    def release_job(self, job: Job) -> None:
        """Raises LeaseLost when somebody else has the job by now."""
        job.release()

    def kick_job(self, job: Job) -> None:
        """Make a buried job ready again.  Raises JobNotFound when it is not buried."""
        if not self.queue.kick(job.pipeline, 1, ids=[job.id]):
            raise JobNotFound(f"job {job.id} is not buried in {job.pipeline}")

    def get_job_id(self, job: Job | dict[str, Any]) -> int:
        return int(job["id"]) if isinstance(job, dict) else job.id

    def get_job_payload(self, job: Job | dict[str, Any]) -> str:
        """The payload as text; `job.payload` has the bytes."""
        raw = job["payload"] if isinstance(job, dict) else job.payload
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    # -- counts ------------------------------------------------------------

    def get_ready_count(self, pipeline: str | None = None) -> int:
        """Ready jobs of *pipeline*, by default the selected one, which does not change."""
        return self.queue.stats(pipeline or self._chosen(), cap=2**31 - 1).ready

    def get_buried_count(self, pipeline: str | None = None) -> int:
        return self.queue.stats(pipeline or self._chosen(), cap=2**31 - 1).buried

    def _chosen(self) -> str:
        if not self._pipeline:
            raise ValueError("no pipeline yet: call select_pipeline or watch_pipeline first")
        return self._pipeline


def _simple(job: Job | None) -> SimpleJob | None:
    if job is None:
        return None
    job.__class__ = _with_keys(type(job))  # the same slots: only the PHP keys are added
    return job  # type: ignore[return-value]


def _with_keys(kind: type[Job]) -> type[Job]:
    """A back end may have a Job of its own."""
    if kind not in _KINDS:
        made: Any = type("SimpleJob", (SimpleJob, kind), {"__slots__": ()})
        _KINDS[kind] = made
    return _KINDS[kind]


_KINDS: dict[type[Job], type[Job]] = {Job: SimpleJob}
