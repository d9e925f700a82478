"""Every statement of the PostgreSQL back end, with the checked table prefix filled in once."""

from __future__ import annotations

from fleet.queue.backends.postgres.exchange import CLAIMED, KINDS, NOW, Exchange, sql
from fleet.queue.backends.postgres.session import LOCK_SECONDS

# A commit that the server would answer before it is on the disk is not good enough for a put.
_DURABLE = """set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
# What a put stores: ready at once and without a unique key, as most jobs are, or any.
_FRESH = {
    "pipeline": "%(pipeline)s",
    "state": "0",
    "priority": "%(priority)s",
    "ttr": "%(ttr)s",
    "run_at": NOW,
    "uid": "%(uid)s",
    "payload": "%(payload)s",
}
_ANY = {
    **_FRESH,
    "state": "%(state)s::smallint",
    "run_at": f"{NOW} + %(delay)s",
    "late": "%(delay)s::bigint > 0",
    "unique_key": "%(unique)s",
}


class Statements:
    """
    State numbers are literals (0 ready, 1 delayed, 2 reserved, 3 buried): a
    partial index serves only a WHERE that repeats its condition.

    Rows are chosen with FOR UPDATE SKIP LOCKED, and the UPDATE around it asks
    for the state again: on a server where SKIP LOCKED takes no lock the
    statement is slower, and still right.
    """

    def __init__(self, prefix: str) -> None:
        names = ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")
        jobs, pipelines, pulses, minutes, errors, meta = (f"{prefix}_{name}" for name in names)
        self._jobs, self._pipelines = jobs, pipelines
        exchange = Exchange(jobs, pipelines)

        # -- put: a fresh job goes the short way, where nothing can be in the way
        kinds = [(notify, durable) for notify in (False, True) for durable in (False, True)]
        self.put_fresh = {kind: self._put(_FRESH, "", *kind) for kind in kinds}
        # Uid and unique key together decide, and nothing comes back where one is taken.
        self.put = {kind: self._put(_ANY, "ON CONFLICT DO NOTHING", *kind) for kind in kinds}
        self.put_rows = sql(f"""
            INSERT INTO {jobs} (pipeline, state, priority, ttr, run_at, late, unique_key, uid, payload)
            SELECT %(pipeline)s, %(state)s::smallint, %(priority)s, %(ttr)s, {NOW} + %(delay)s,
                %(delay)s::bigint > 0, %(unique)s, mine.uid, mine.payload
            FROM unnest(%(uids)s::bytea[], %(payloads)s::bytea[])
                WITH ORDINALITY AS mine (uid, payload, place)
            ORDER BY mine.place
            ON CONFLICT DO NOTHING RETURNING uid, id""")
        self.by_uid = sql(f"""
            SELECT uid, id, payload FROM {jobs}
            WHERE uid = ANY(%(uids)s::bytea[]) AND (state <> 2 OR uid >= '\\x01')""")
        # What the index leaves out.  IS TRUE keeps IN a hash table that is asked once for each lease.
        self.leased = sql(f"""
            SELECT uid, id, payload FROM {jobs}
            WHERE state = 2 AND (uid IN (SELECT unnest(%(uids)s::bytea[]))) IS TRUE""")
        self.anywhere = self.by_uid + b" UNION ALL " + self.leased
        self.by_unique = sql(
            f"SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND unique_key = %(unique)s"
        )
        self.next_ids = sql(f"""
            SELECT array_agg(nextval('{jobs}_id_seq')), {NOW} FROM generate_series(1, %(count)s)""")
        self.copy = sql(f"""
            COPY {jobs} (id, pipeline, state, priority, ttr, run_at, late, uid, payload)
            FROM STDIN (FORMAT binary)""")
        self.durable = sql(f"SELECT {_DURABLE}")
        self.isolation = sql("SELECT current_setting('transaction_isolation')")
        # Others may wait for what such a transaction stored, and must not wait for a process that was frozen.
        self.alert = sql(f"""
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            SET LOCAL idle_in_transaction_session_timeout = '{LOCK_SECONDS}s'""")
        self.notify = sql("SELECT pg_notify(%(channel)s, name) FROM unnest(%(pipelines)s::text[]) AS name")

        # -- settle: id and token together are the fence
        self.delete = sql(f"DELETE FROM {jobs} WHERE id = %(id)s AND token = %(token)s")
        self.settle = {
            settles: sql(f"WITH {exchange.settled(settles)} SELECT id, token FROM settled")
            for settles in KINDS
        }
        self.touch = sql(f"""
            UPDATE {jobs} AS job
            SET state = 2, deadline = {NOW} + mine.ttr, crashes = crashes - (state = 0)::int
            FROM unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(ttrs)s::bigint[]) AS mine (id, token, ttr)
            WHERE job.id = mine.id AND job.token = mine.token RETURNING job.id, job.token""")
        self.holders = sql(f"SELECT id, token FROM {jobs} WHERE id = ANY(%(ids)s::bigint[])")

        # -- claim
        self.exchange = {
            (settles, many, marked): exchange.statement(settles, many, marked)
            for settles in ("", *KINDS)
            for many in (False, True)
            for marked in (False, True)
        }
        self.look = {many: exchange.statement("", many, marked=False, looks=True) for many in (False, True)}
        self.make_ready = exchange.make_ready()
        self.found = sql(f"""
            SELECT {CLAIMED}, deadline - {NOW}, {NOW} FROM {jobs} AS job
            WHERE pipeline = ANY(%(pipelines)s::text[]) AND state = 2 AND token = %(token)s
                AND deadline > {NOW}
            ORDER BY priority, id""")

        # -- operators; {where} and its like are filled in by the back end, never by a caller's text
        self.kick = sql(f"""
            UPDATE {jobs} SET state = 0, attempts = 0, crashes = 0, token = 0, late = true, run_at = {NOW}
            WHERE state = 3 AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = 3{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        self.discard = sql(f"""
            DELETE FROM {jobs} WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY {{order}} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        # State 1, or 2: there it is what a rescue does.
        self.release = sql(f"""
            UPDATE {jobs} SET state = 0, late = true, run_at = {NOW}, crashes = crashes + (state = 2)::int
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY {{order}} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        self.lease_is_over = sql(f" AND deadline <= {NOW}")
        self.bury = sql(f"""
            UPDATE {jobs} SET state = 3, token = 0, reason = %(because)s, run_at = {NOW}
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        # `late`: their ids are older than those that claims of that pipeline have passed.
        self.move = sql(f"""
            UPDATE {jobs} SET pipeline = %(target)s, late = true
            WHERE state = {{state}} AND id = ANY (ARRAY(
                SELECT id FROM {jobs} AS here WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
                    AND NOT EXISTS (SELECT FROM {jobs}
                        WHERE pipeline = %(target)s AND unique_key = here.unique_key)
                ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""")
        columns = f"""id, pipeline, payload, priority, ttr, attempts, crashes, state, run_at - {NOW},
                reason, uid, unique_key"""
        self.peek = sql(f"""
            SELECT {columns} FROM {jobs} WHERE pipeline = %(pipeline)s AND state = {{state}}{{where}}
            ORDER BY {{order}} LIMIT %(limit)s""")
        self.find = sql(f"SELECT {columns} FROM {jobs} WHERE id = %(id)s")
        self.pause = sql(f"""
            INSERT INTO {pipelines} (name, paused_until)
            VALUES (%(pipeline)s, CASE WHEN %(us)s::bigint > 0 THEN {NOW} + %(us)s ELSE 0 END)
            ON CONFLICT (name) DO UPDATE SET paused_until = excluded.paused_until""")
        self.stats = self._stats()
        self.names = self._names()

        # -- pulses and the tables' own facts
        self.publish = sql(f"""
            WITH pulse AS (
                INSERT INTO {pulses} (host, process, at, body)
                VALUES (%(host)s, %(process)s, {NOW}, %(body)s)
                ON CONFLICT (host, process) DO UPDATE SET at = excluded.at, body = excluded.body),
            told AS (
                INSERT INTO {minutes} (minute, pipeline, process, body)
                SELECT * FROM unnest(
                    %(minutes)s::bigint[], %(pipelines)s::text[], %(processes)s::text[], %(bodies)s::text[])
                ON CONFLICT (minute, pipeline, process) DO UPDATE SET body = excluded.body)
            INSERT INTO {errors} AS known
                (first_at, last_at, pipeline, kind, cause, place, count, job, sample)
            SELECT {NOW}, {NOW}, * FROM unnest(
                %(of)s::text[], %(kinds)s::text[], %(causes)s::text[], %(places)s::text[],
                %(counts)s::bigint[], %(jobs)s::bigint[], %(samples)s::text[])
            ON CONFLICT (pipeline, kind, cause, place) DO UPDATE SET count = known.count + excluded.count,
                last_at = excluded.last_at, job = excluded.job, sample = excluded.sample""")
        self.minutes = sql(f"""
            SELECT pipeline, minute, process, body FROM {minutes}
            WHERE minute > ({NOW} - %(us)s) / 60000000 - 1
                AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s::text)
            ORDER BY minute""")
        self.errors = sql(f"""
            SELECT pipeline, kind, cause, place, count, job, sample, {NOW} - first_at, {NOW} - last_at
            FROM {errors} WHERE last_at > {NOW} - %(us)s
                AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s::text)
            ORDER BY last_at DESC LIMIT 200""")
        self.prune = sql(f"""
            WITH old_minutes AS (
                DELETE FROM {minutes} WHERE (minute, pipeline, process) IN (
                    SELECT minute, pipeline, process FROM {minutes}
                    WHERE minute < ({NOW} / 1000000 - %(minutes)s) / 60 LIMIT 500)),
            old_errors AS (
                DELETE FROM {errors} WHERE (pipeline, kind, cause, place) IN (
                    SELECT pipeline, kind, cause, place FROM {errors}
                    WHERE last_at < {NOW} - %(errors)s::bigint * 1000000 LIMIT 500))
            DELETE FROM {pulses} WHERE (host, process) IN (
                SELECT host, process FROM {pulses}
                WHERE at < {NOW} - %(pulses)s::bigint * 1000000 LIMIT 500)""")
        self.pulses = sql(f"""
            SELECT {NOW} - at, body FROM {pulses} WHERE at > {NOW} - %(us)s ORDER BY host, process""")
        # Not to_regclass: it may remember from before a lock was waited for that there was no such table.
        self.has_table = sql("""
            SELECT EXISTS (SELECT FROM pg_class WHERE relname = %(table)s AND pg_table_is_visible(oid))""")
        self.get_schema = sql(f"SELECT value FROM {meta} WHERE name = 'schema'")
        self.set_schema = sql(f"""
            INSERT INTO {meta} (name, value) VALUES ('schema', %(version)s)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value""")
        self.get_meta = sql(f"SELECT value FROM {meta} WHERE name = %(name)s")
        self.set_meta = sql(f"""
            INSERT INTO {meta} (name, value) VALUES (%(name)s, %(value)s)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value""")
        # `late`, because such a job may stand before the place up to which others have taken.
        self.restore = sql(f"""
            INSERT INTO {jobs} (id, pipeline, state, priority, ttr, attempts, crashes, run_at, late,
                unique_key, uid, reason, payload)
            VALUES (%(id)s, %(pipeline)s, %(state)s, %(priority)s, %(ttr)s, %(attempts)s, %(crashes)s,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + %(due_in)s, true,
                %(unique)s, %(uid)s, %(reason)s, %(payload)s)""")
        self.pass_ids = sql(f"""
            SELECT setval(pg_get_serial_sequence('{jobs}', 'id'),
                greatest((SELECT max(id) FROM {jobs}), nextval(pg_get_serial_sequence('{jobs}', 'id'))))""")
        self.lock_schema = sql(f"SELECT pg_advisory_xact_lock(hashtextextended('fleet {meta}', 0))")

    def _put(self, row: dict[str, str], on_conflict: str, notify: bool, durable: bool) -> bytes:
        insert = f"""
            INSERT INTO {self._jobs} ({", ".join(row)})
            SELECT {", ".join(row.values())}
            {f"FROM (SELECT {_DURABLE}) AS durable" if durable else ""}
            {on_conflict} RETURNING id"""
        if notify:
            insert = f"WITH put AS ({insert}) SELECT id, pg_notify(%(channel)s, %(pipeline)s) FROM put"
        return sql(insert)

    def _stats(self) -> bytes:
        """Each count stops at the cap, and the rest are index lookups."""
        jobs = self._jobs

        def count(condition: str) -> str:
            return f"""(SELECT count(*) FROM (
                SELECT FROM {jobs} WHERE pipeline = %(pipeline)s AND {condition} LIMIT %(cap)s) AS counted)"""

        # The oldest ready job is the first of some priority: hop from priority to priority, 64 at most.
        return sql(f"""
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
                {count(f"state = 1 AND run_at <= {NOW}")}, {count("state = 1")},
                {count("state = 2")}, {count(f"state = 2 AND deadline <= {NOW}")}, {count("state = 3")},
                (SELECT paused_until - {NOW} FROM {self._pipelines} WHERE name = %(pipeline)s),
                {NOW} - least((SELECT min(run_at) FROM head), (
                    SELECT run_at FROM {jobs} WHERE pipeline = %(pipeline)s AND state = 1
                        AND run_at <= {NOW} ORDER BY run_at LIMIT 1))""")

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
        return sql(f"{hops} UNION SELECT name FROM {self._pipelines} WHERE paused_until > {NOW} ORDER BY 1")
