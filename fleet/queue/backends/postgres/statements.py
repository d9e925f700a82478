"""Every statement of the PostgreSQL back end, with the checked table prefix filled in once."""

from __future__ import annotations

from typing import Literal

from fleet.queue.backends.postgres.session import LOCK_SECONDS

# Nothing, only deletes under one token (what a drained batch is), only deletes, or anything.
Settles = Literal["", "batch", "deletes", "all"]
KINDS: tuple[Settles, ...] = ("batch", "deletes", "all")

# Microseconds of the server's clock when the question arrived: the same for a whole statement, and good for
# an index condition.  now() is no such thing: it is when the transaction began.
_NOW = "(date_part('epoch', statement_timestamp()) * 1000000)::bigint"
_TOOK = "(date_part('epoch', clock_timestamp() - statement_timestamp()) * 1000000)::bigint"
# A commit that the server would answer before it is on the disk is not good enough for a put.
_DURABLE = """set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
# What a put stores: ready at once and without a unique key, as most jobs are, or any.
_FRESH = {
    "pipeline": "%(pipeline)s",
    "state": "0",
    "priority": "%(priority)s",
    "ttr": "%(ttr)s",
    "run_at": _NOW,
    "uid": "%(uid)s",
    "payload": "%(payload)s",
}
_ANY = {
    **_FRESH,
    "state": "%(state)s::smallint",
    "run_at": f"{_NOW} + %(delay)s",
    "late": "%(delay)s::bigint > 0",
    "unique_key": "%(unique)s",
}
# Of a claimed job, as `rows.reserved` reads it.
_CLAIMED = """job.priority, job.id, job.pipeline, payload, ttr, attempts, crashes, run_at, reason, uid,
                    unique_key"""


class Statements:
    """
    State numbers are literals (0 ready, 1 delayed, 2 reserved, 3 buried): a
    partial index serves only a WHERE that repeats its condition.

    Rows are chosen with FOR UPDATE SKIP LOCKED, and the UPDATE around it asks
    for the state again: on a server where SKIP LOCKED takes no lock the
    statement is slower, and still right.  A claim asks `state < 1`, which no
    partial index serves: before the server has statistics of a backlog, it
    would rather read the whole index of ready jobs than look up each id.
    """

    def __init__(self, prefix: str) -> None:
        names = ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")
        jobs, pipelines, pulses, minutes, errors, meta = (f"{prefix}_{name}" for name in names)
        self._jobs, self._pipelines = jobs, pipelines

        # -- put: a fresh job goes the short way, where nothing can be in the way
        kinds = [(notify, durable) for notify in (False, True) for durable in (False, True)]
        self.put_fresh = {kind: self._put(_FRESH, "", *kind) for kind in kinds}
        # Uid and unique key together decide, and nothing comes back where one is taken.
        self.put = {kind: self._put(_ANY, "ON CONFLICT DO NOTHING", *kind) for kind in kinds}
        self.put_rows = _sql(f"""
            INSERT INTO {jobs} (pipeline, state, priority, ttr, run_at, late, unique_key, uid, payload)
            SELECT %(pipeline)s, %(state)s::smallint, %(priority)s, %(ttr)s, {_NOW} + %(delay)s,
                %(delay)s::bigint > 0, %(unique)s, mine.uid, mine.payload
            FROM unnest(%(uids)s::bytea[], %(payloads)s::bytea[])
                WITH ORDINALITY AS mine (uid, payload, place)
            ORDER BY mine.place
            ON CONFLICT DO NOTHING RETURNING uid, id""")
        self.by_uid = _sql(f"""
            SELECT uid, id, payload FROM {jobs}
            WHERE uid = ANY(%(uids)s::bytea[]) AND (state <> 2 OR uid >= '\\x01')""")
        # What the index leaves out.  IS TRUE keeps IN a hash table that is asked once for each lease.
        self.leased = _sql(f"""
            SELECT uid, id, payload FROM {jobs}
            WHERE state = 2 AND (uid IN (SELECT unnest(%(uids)s::bytea[]))) IS TRUE""")
        self.anywhere = self.by_uid + b" UNION ALL " + self.leased
        self.by_unique = _sql(
            f"SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND unique_key = %(unique)s"
        )
        self.next_ids = _sql(f"""
            SELECT array_agg(nextval('{jobs}_id_seq')), {_NOW} FROM generate_series(1, %(count)s)""")
        self.copy = _sql(f"""
            COPY {jobs} (id, pipeline, state, priority, ttr, run_at, late, uid, payload)
            FROM STDIN (FORMAT binary)""")
        self.durable = _sql(f"SELECT {_DURABLE}")
        self.isolation = _sql("SELECT current_setting('transaction_isolation')")
        # Others may wait for what such a transaction stored, and must not wait for a process that was frozen.
        self.alert = _sql(f"""
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            SET LOCAL idle_in_transaction_session_timeout = '{LOCK_SECONDS}s'""")
        self.notify = _sql("SELECT pg_notify(%(channel)s, name) FROM unnest(%(pipelines)s::text[]) AS name")

        # -- settle: id and token together are the fence
        self.delete = _sql(f"DELETE FROM {jobs} WHERE id = %(id)s AND token = %(token)s")
        self.settle = {
            settles: _sql(f"WITH {self._settled(settles)} SELECT id, token FROM settled") for settles in KINDS
        }
        self.touch = _sql(f"""
            UPDATE {jobs} AS job
            SET state = 2, deadline = {_NOW} + mine.ttr, crashes = crashes - (state = 0)::int
            FROM unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(ttrs)s::bigint[]) AS mine (id, token, ttr)
            WHERE job.id = mine.id AND job.token = mine.token RETURNING job.id, job.token""")
        self.holders = _sql(f"SELECT id, token FROM {jobs} WHERE id = ANY(%(ids)s::bigint[])")

        # -- claim
        self.exchange = {
            (settles, many, marked): self._exchange(settles, many, marked)
            for settles in ("", *KINDS)
            for many in (False, True)
            for marked in (False, True)
        }
        self.look = {many: self._exchange("", many, marked=False, looks=True) for many in (False, True)}
        self.make_ready = self._make_ready()
        self.found = _sql(f"""
            SELECT {_CLAIMED}, deadline - {_NOW}, {_NOW} FROM {jobs} AS job
            WHERE pipeline = ANY(%(pipelines)s::text[]) AND state = 2 AND token = %(token)s
                AND deadline > {_NOW}
            ORDER BY priority, id""")

        # -- operators; {where} and {state} are filled in by the back end, never by a caller's text
        self.kick = _sql(f"""
            UPDATE {jobs} SET state = 0, attempts = 0, crashes = 0, token = 0, late = true, run_at = {_NOW}
            WHERE state = 3 AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = 3{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        self.discard = _sql(f"""
            DELETE FROM {jobs} WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        # State 1, or 2: there it is what a rescue does.
        self.release = _sql(f"""
            UPDATE {jobs} SET state = 0, late = true, run_at = {_NOW}, crashes = crashes + (state = 2)::int
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        self.lease_is_over = _sql(f" AND deadline <= {_NOW}")
        self.bury = _sql(f"""
            UPDATE {jobs} SET state = 3, token = 0, reason = %(because)s, run_at = {_NOW}
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        # `late`: their ids are older than those that claims of that pipeline have passed.
        self.move = _sql(f"""
            UPDATE {jobs} SET pipeline = %(target)s, late = true
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} AS here WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                    AND NOT EXISTS (SELECT FROM {jobs}
                        WHERE pipeline = %(target)s AND unique_key = here.unique_key)
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        columns = f"""id, pipeline, payload, priority, ttr, attempts, crashes, state, run_at - {_NOW},
                reason, uid, unique_key"""
        self.peek = _sql(f"""
            SELECT {columns} FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
            ORDER BY {{order}} LIMIT %(limit)s""")
        self.find = _sql(f"SELECT {columns} FROM {jobs} WHERE id = %(id)s")
        self.pause = _sql(f"""
            INSERT INTO {pipelines} (name, paused_until)
            VALUES (%(pipeline)s, CASE WHEN %(us)s::bigint > 0 THEN {_NOW} + %(us)s ELSE 0 END)
            ON CONFLICT (name) DO UPDATE SET paused_until = excluded.paused_until""")
        self.stats = self._stats()
        self.names = self._names()

        # -- pulses and the tables' own facts
        self.publish = _sql(f"""
            WITH pulse AS (
                INSERT INTO {pulses} (host, process, at, body)
                VALUES (%(host)s, %(process)s, {_NOW}, %(body)s)
                ON CONFLICT (host, process) DO UPDATE SET at = excluded.at, body = excluded.body),
            told AS (
                INSERT INTO {minutes} (minute, pipeline, process, body)
                SELECT * FROM unnest(
                    %(minutes)s::bigint[], %(pipelines)s::text[], %(processes)s::text[], %(bodies)s::text[])
                ON CONFLICT (minute, pipeline, process) DO UPDATE SET body = excluded.body)
            INSERT INTO {errors} AS known
                (first_at, last_at, pipeline, kind, cause, place, count, job, sample)
            SELECT {_NOW}, {_NOW}, * FROM unnest(
                %(of)s::text[], %(kinds)s::text[], %(causes)s::text[], %(places)s::text[],
                %(counts)s::bigint[], %(jobs)s::bigint[], %(samples)s::text[])
            ON CONFLICT (pipeline, kind, cause, place) DO UPDATE SET count = known.count + excluded.count,
                last_at = excluded.last_at, job = excluded.job, sample = excluded.sample""")
        self.minutes = _sql(f"""
            SELECT pipeline, minute, process, body FROM {minutes}
            WHERE minute > ({_NOW} - %(us)s) / 60000000 - 1
                AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s::text)
            ORDER BY minute""")
        self.errors = _sql(f"""
            SELECT pipeline, kind, cause, place, count, job, sample, {_NOW} - first_at, {_NOW} - last_at
            FROM {errors} WHERE last_at > {_NOW} - %(us)s
                AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s::text)
            ORDER BY last_at DESC LIMIT 200""")
        self.prune = _sql(f"""
            WITH old_minutes AS (
                DELETE FROM {minutes} WHERE (minute, pipeline, process) IN (
                    SELECT minute, pipeline, process FROM {minutes}
                    WHERE minute < ({_NOW} / 1000000 - %(minutes)s) / 60 LIMIT 500)),
            old_errors AS (
                DELETE FROM {errors} WHERE (pipeline, kind, cause, place) IN (
                    SELECT pipeline, kind, cause, place FROM {errors}
                    WHERE last_at < {_NOW} - %(errors)s::bigint * 1000000 LIMIT 500))
            DELETE FROM {pulses} WHERE (host, process) IN (
                SELECT host, process FROM {pulses}
                WHERE at < {_NOW} - %(pulses)s::bigint * 1000000 LIMIT 500)""")
        self.pulses = _sql(f"""
            SELECT {_NOW} - at, body FROM {pulses} WHERE at > {_NOW} - %(us)s ORDER BY host, process""")
        # Not to_regclass: it may remember from before a lock was waited for that there was no such table.
        self.has_meta = _sql(f"""
            SELECT EXISTS (SELECT FROM pg_class WHERE relname = '{meta}' AND pg_table_is_visible(oid))""")
        self.get_schema = _sql(f"SELECT value FROM {meta} WHERE name = 'schema'")
        self.set_schema = _sql(f"""
            INSERT INTO {meta} (name, value) VALUES ('schema', %(version)s)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value""")
        self.get_meta = _sql(f"SELECT value FROM {meta} WHERE name = %(name)s")
        self.set_meta = _sql(f"""
            INSERT INTO {meta} (name, value) VALUES (%(name)s, %(value)s)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value""")
        # `late`, because such a job may stand before the place up to which others have taken.
        self.restore = _sql(f"""
            INSERT INTO {jobs} (id, pipeline, state, priority, ttr, attempts, crashes, run_at, late,
                unique_key, uid, reason, payload)
            VALUES (%(id)s, %(pipeline)s, %(state)s, %(priority)s, %(ttr)s, %(attempts)s, %(crashes)s,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + %(due_in)s, true,
                %(unique)s, %(uid)s, %(reason)s, %(payload)s)""")
        self.pass_ids = _sql(f"""
            SELECT setval(pg_get_serial_sequence('{jobs}', 'id'),
                greatest((SELECT max(id) FROM {jobs}), nextval(pg_get_serial_sequence('{jobs}', 'id'))))""")
        self.lock_schema = _sql(f"SELECT pg_advisory_xact_lock(hashtextextended('fleet {meta}', 0))")

    def _put(self, row: dict[str, str], on_conflict: str, notify: bool, durable: bool) -> bytes:
        insert = f"""
            INSERT INTO {self._jobs} ({", ".join(row)})
            SELECT {", ".join(row.values())}
            {f"FROM (SELECT {_DURABLE}) AS durable" if durable else ""}
            {on_conflict} RETURNING id"""
        if notify:
            insert = f"WITH put AS ({insert}) SELECT id, pg_notify(%(channel)s, %(pipeline)s) FROM put"
        return _sql(insert)

    def _settled(self, settles: Settles) -> str:
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
                UPDATE {self._jobs} AS job SET state = mine.state, run_at = {_NOW} + mine.delay,
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
        return f"EXISTS (SELECT FROM {self._pipelines} AS p WHERE p.name = {name} AND paused_until > {_NOW})"

    def _exchange(self, settles: Settles, many: bool, marked: bool, looks: bool = False) -> bytes:
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
        start = [self._settled(settles)] if settles else []
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
            soon = f"""(SELECT min(at) - {_NOW} FROM (
                    SELECT unnest({sooner} UNION ALL
                    SELECT paused_until FROM {self._pipelines} WHERE {pauses} AND paused_until > {_NOW}
                ) AS soon (at))"""
        ctes = """,
            """.join(
            [
                *start,
                f"""status AS MATERIALIZED (
                SELECT {counts}, NOT paused AND %(gated)s::boolean AND ({due}) AS due, paused, {_NOW} AS now
                FROM (SELECT {paused} AS paused OFFSET 0) AS pause)""",
                f"""claimed AS (
                UPDATE {self._jobs} AS job
                SET state = 2, token = %(token)s, deadline = (SELECT now FROM status) + ttr,
                    attempts = attempts + 1
                WHERE state < 1 AND id = ANY (ARRAY(
                    SELECT next.id FROM {source}
                    WHERE NOT (SELECT due OR paused FROM status) LIMIT %(limit)s))
                RETURNING {_CLAIMED})""",
            ]
        )
        return _sql(f"""
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
                        {f"AND {at} > %(floor)s" if marked else ""} AND {at} <= {_NOW}
                    ORDER BY {at} LIMIT 1) AS one)"""
            for state, at in ((1, "run_at"), (2, "deadline"))
        )

    def _soon(self, name: str) -> str:
        first = ", ".join(
            f"""(SELECT {at} FROM {self._jobs} WHERE pipeline = {name} AND state = {state} AND {at} > {_NOW}
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

    def _make_ready(self) -> bytes:
        """Due jobs and lost leases become ready, up to a chunk of each; how many of both."""

        def chosen(state: int, at: str) -> str:
            return f"""state = {state} AND {at} <= {_NOW} AND id = ANY (ARRAY(
                    SELECT next.id FROM open, LATERAL (
                        SELECT id FROM {self._jobs}
                        WHERE pipeline = open.name AND state = {state} AND {at} <= {_NOW}
                        ORDER BY {at} LIMIT %(chunk)s FOR UPDATE SKIP LOCKED) AS next LIMIT %(chunk)s))"""

        # The token stays: until somebody claims the job again, its late holder may still settle it.
        return _sql(f"""
            WITH {self._open()},
            promoted AS (
                UPDATE {self._jobs} SET state = 0, late = true WHERE {chosen(1, "run_at")} RETURNING 1),
            rescued AS (
                UPDATE {self._jobs} SET state = 0, late = true, crashes = crashes + 1, run_at = {_NOW}
                WHERE {chosen(2, "deadline")} RETURNING 1)
            SELECT (SELECT count(*) FROM promoted), (SELECT count(*) FROM rescued)""")

    def _stats(self) -> bytes:
        """Each count stops at the cap, and the rest are index lookups."""
        jobs = self._jobs

        def count(condition: str) -> str:
            return f"""(SELECT count(*) FROM (
                SELECT FROM {jobs} WHERE pipeline = %(pipeline)s AND {condition} LIMIT %(cap)s) AS counted)"""

        # The oldest ready job is the first of some priority: hop from priority to priority, 64 at most.
        return _sql(f"""
            WITH RECURSIVE head (priority, run_at, hops) AS (
                (SELECT priority, run_at, 1 FROM {jobs} WHERE pipeline = %(pipeline)s AND state = 0
                    ORDER BY priority, id LIMIT 1)
                UNION ALL
                SELECT next.priority, next.run_at, hops + 1 FROM head, LATERAL (
                    SELECT priority, run_at FROM {jobs}
                    WHERE pipeline = %(pipeline)s AND state = 0 AND priority > head.priority
                    ORDER BY priority, id LIMIT 1) AS next
                WHERE hops < 64)
            SELECT {count("state = 0")},
                {count(f"state = 1 AND run_at <= {_NOW}")}, {count("state = 1")},
                {count("state = 2")}, {count(f"state = 2 AND deadline <= {_NOW}")}, {count("state = 3")},
                (SELECT paused_until - {_NOW} FROM {self._pipelines} WHERE name = %(pipeline)s),
                {_NOW} - least((SELECT min(run_at) FROM head), (
                    SELECT run_at FROM {jobs} WHERE pipeline = %(pipeline)s AND state = 1
                        AND run_at <= {_NOW} ORDER BY run_at LIMIT 1))""")

    def _names(self) -> bytes:
        """One hop per name through each partial index; DISTINCT would read every row."""
        hops = " UNION ".join(
            f"""SELECT name FROM (
                WITH RECURSIVE hop (name) AS (
                    (SELECT pipeline FROM {self._jobs} WHERE state = {state} ORDER BY pipeline LIMIT 1)
                    UNION ALL
                    SELECT (SELECT pipeline FROM {self._jobs} WHERE state = {state} AND pipeline > hop.name
                            ORDER BY pipeline LIMIT 1)
                    FROM hop WHERE hop.name IS NOT NULL)
                SELECT name FROM hop WHERE name IS NOT NULL) AS names{state}"""
            for state in range(4)
        )
        return _sql(f"{hops} UNION SELECT name FROM {self._pipelines} WHERE paused_until > {_NOW} ORDER BY 1")


def _sql(text: str) -> bytes:
    return text.encode()
