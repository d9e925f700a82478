"""The statement that settles and claims at once, in each of its forms, and what must be made ready before."""

from __future__ import annotations

from typing import Literal

# Nothing, only deletes under one token (what a drained batch is), only deletes, or anything.
Settles = Literal["", "batch", "deletes", "all"]
KINDS: tuple[Settles, ...] = ("batch", "deletes", "all")

# Microseconds of the server's clock when the question arrived: the same for a whole statement, and good for
# an index condition.  now() is no such thing: it is when the transaction began.
NOW = "(date_part('epoch', statement_timestamp()) * 1000000)::bigint"
_TOOK = "(date_part('epoch', clock_timestamp() - statement_timestamp()) * 1000000)::bigint"
# Of a claimed job, as `rows.reserved` reads it.
CLAIMED = """job.priority, job.id, job.pipeline, payload, ttr, attempts, crashes, run_at, reason, uid,
                    unique_key"""


class Exchange:
    """
    Over the tables of one prefix.

    A claim asks `state < 1`, which no partial index serves: before the server
    has statistics of a backlog, it would rather read the whole index of ready
    jobs than look up each id.
    """

    def __init__(self, jobs: str, pipelines: str) -> None:
        self._jobs, self._pipelines = jobs, pipelines

    def settled(self, settles: Settles) -> str:
        """The CTEs that settle: `settled` holds id and token of each job whose lease was ours."""
        if settles == "batch":  # an index goes through an array in order, whatever order it is in
            return f"""settled AS (
                DELETE FROM {self._jobs} WHERE id = ANY (%(ids)s::bigint[]) AND token = %(held)s
                RETURNING id, token)"""
        delete = f"""DELETE FROM {self._jobs} AS job
                USING unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) AS mine (id, token)
                WHERE job.id = mine.id AND job.token = mine.token RETURNING job.id, job.token"""
        if settles == "deletes":
            return f"settled AS ({delete})"
        # A holder who comes back after a rescue has not crashed: `state = 0` takes that count away again.
        return f"""deleted AS ({delete}), put_back AS (
                UPDATE {self._jobs} AS job SET state = mine.state, run_at = {NOW} + mine.delay,
                    priority = coalesce(mine.priority, job.priority), reason = mine.reason, token = 0,
                    late = true, crashes = crashes - (job.state = 0)::int,
                    attempts = attempts - mine.uncounted
                FROM json_to_recordset(%(back)s::json) AS mine (id bigint, token bigint, state smallint,
                    delay bigint, priority bigint, reason text, uncounted integer)
                WHERE job.id = mine.id AND job.token = mine.token RETURNING job.id, mine.token),
            settled AS (SELECT id, token FROM deleted UNION ALL SELECT id, token FROM put_back)"""

    def _open(self, marked: bool = False) -> str:
        """The wanted pipelines that are not paused, in their order."""
        want = "unnest(%(pipelines)s::text[]) AS want (name)"
        if marked:
            want = """unnest(%(pipelines)s::text[], %(priorities)s::bigint[], %(above)s::bigint[])
                AS want (name, priority, id)"""
        return f"open AS MATERIALIZED (SELECT want.* FROM {want} WHERE NOT {self._paused('want.name')})"

    def _paused(self, name: str) -> str:
        return f"EXISTS (SELECT FROM {self._pipelines} AS p WHERE p.name = {name} AND paused_until > {NOW})"

    def statement(self, settles: Settles, many: bool, marked: bool, looks: bool = False) -> bytes:
        """
        Settle, and claim unless something is due: then that must be made ready first, to keep the order.

        Gives one row for each claimed job, and as its last row what happened beside
        it: how many were settled, which ones if not all, whether something is
        due, the instant, the microseconds it took, and, for *looks*, the
        microseconds until something is due.  One pipeline has a simpler form of
        its own, because most workers serve one.

        Whoever waits for a lock does so before it locks a job to claim: `status`
        reads `settled`, and the choice reads `status`.  So no two exchanges can
        wait for each other, as long as each settles in the order of ids.
        """
        counts = "0::bigint AS settled, NULL::bigint[] AS which"
        if settles:
            counts = """(SELECT count(*) FROM settled) AS settled,
                    CASE WHEN (SELECT count(*) FROM settled) < %(wanted)s
                        THEN (SELECT array_agg(ARRAY[id, token]) FROM settled) END AS which"""
        start = [self.settled(settles)] if settles else []
        if many:
            start.append(self._open(marked))
            due = self._due("open.name", marked, "open, LATERAL")
            paused = "false"
            source = f"open, LATERAL ({self._next('open.name', 'open.priority', 'open.id', marked)}) AS next"
        else:
            name = "%(pipeline)s"
            due = self._due(name, marked)
            paused = self._paused(name)
            source = f"({self._next(name, '%(priority)s', '%(above)s', marked)}) AS next"
        soon = "NULL::bigint"
        if looks:
            sooner = self._soon("open.name") + " FROM open" if many else self._soon("%(pipeline)s")
            pauses = "name = ANY (%(pipelines)s::text[])" if many else "name = %(pipeline)s"
            soon = f"""(SELECT min(at) - {NOW} FROM (
                    SELECT unnest({sooner} UNION ALL
                    SELECT paused_until FROM {self._pipelines} WHERE {pauses} AND paused_until > {NOW}
                ) AS soon (at))"""
        ctes = """,
            """.join(
            [
                *start,
                f"""status AS MATERIALIZED (
                SELECT {counts}, NOT paused AND %(gated)s::boolean AND ({due}) AS due, paused, {NOW} AS now
                FROM (SELECT {paused} AS paused OFFSET 0) AS pause)""",
                f"""claimed AS (
                UPDATE {self._jobs} AS job
                SET state = 2, token = %(token)s, deadline = (SELECT now FROM status) + ttr,
                    attempts = attempts + 1
                WHERE state < 1 AND id = ANY (ARRAY(
                    SELECT next.id FROM {source}
                    WHERE NOT (SELECT due OR paused FROM status) LIMIT %(limit)s))
                RETURNING {CLAIMED})""",
            ]
        )
        return sql(f"""
            WITH {ctes}
            SELECT *, NULL::bigint, NULL::bigint[], NULL::boolean, NULL::bigint, NULL::bigint, NULL::bigint
            FROM claimed
            UNION ALL
            SELECT {", ".join(["NULL"] * 11)}, settled, which, due, now, {_TOOK}, {soon} FROM status""")

    def _due(self, name: str, marked: bool, source: str = "") -> str:
        # Without LATERAL, ORDER BY and LIMIT a planner may read all that is due for one row, or the table.
        return " OR ".join(
            f"""EXISTS (SELECT FROM {source} (
                    SELECT FROM {self._jobs} WHERE pipeline = {name} AND state = {state}
                        {f"AND {at} > %(floor)s" if marked else ""} AND {at} <= {NOW}
                    ORDER BY {at} LIMIT 1) AS one)"""
            for state, at in ((1, "run_at"), (2, "deadline"))
        )

    def _soon(self, name: str) -> str:
        first = ", ".join(
            f"""(SELECT {at} FROM {self._jobs} WHERE pipeline = {name} AND state = {state} AND {at} > {NOW}
                    ORDER BY {at} LIMIT 1)"""
            for state, at in ((1, "run_at"), (2, "deadline"))
        )
        return f"ARRAY[{first}])"

    def _next(self, name: str, priority: str, above: str, marked: bool) -> str:
        """
        Ids of one pipeline in claim order, locked as they are read, and read no further than needed.

        Below a watermark only two kinds can have become ready since it was set: more
        urgent ones, and those that are `late`.  (A third, a put that was under way
        while later ones were taken, is found by the next scan from the start.)
        """

        def scan(condition: str) -> str:
            return f"""SELECT id FROM {self._jobs} WHERE pipeline = {name} AND state = 0{condition}
                        ORDER BY priority, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

        if not marked:
            return scan("")
        ranges = (
            f" AND priority < {priority}",
            # Said so that the primary key cannot serve it, where all that is done since would be in the way.
            f" AND late AND priority >= {priority} AND (priority, id) <= ({priority}, {above})",
            f" AND (priority, id) > ({priority}, {above})",
        )
        return " UNION ALL ".join(
            f"SELECT id FROM ({scan(condition)}) AS part{n}" for n, condition in enumerate(ranges)
        )

    def make_ready(self) -> bytes:
        """Due jobs and lost leases become ready, up to a chunk of each; how many of both."""

        def chosen(state: int, at: str) -> str:
            return f"""state = {state} AND {at} <= {NOW} AND id = ANY (ARRAY(
                    SELECT next.id FROM open, LATERAL (
                        SELECT id FROM {self._jobs}
                        WHERE pipeline = open.name AND state = {state} AND {at} <= {NOW}
                        ORDER BY {at} LIMIT %(chunk)s FOR UPDATE SKIP LOCKED) AS next LIMIT %(chunk)s))"""

        # The token stays: until somebody claims the job again, its late holder may still settle it.
        return sql(f"""
            WITH {self._open()},
            promoted AS (
                UPDATE {self._jobs} SET state = 0, late = true WHERE {chosen(1, "run_at")} RETURNING 1),
            rescued AS (
                UPDATE {self._jobs} SET state = 0, late = true, crashes = crashes + 1, run_at = {NOW}
                WHERE {chosen(2, "deadline")} RETURNING 1)
            SELECT (SELECT count(*) FROM promoted), (SELECT count(*) FROM rescued)""")


def sql(text: str) -> bytes:
    return text.encode()
