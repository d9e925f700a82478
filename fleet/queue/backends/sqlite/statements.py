"""Every statement of the SQLite back end, with the checked table prefix filled in once."""

from __future__ import annotations


class Statements:
    """
    State numbers are literals (0 ready, 1 delayed, 2 reserved, 3 buried): a
    partial index serves only a WHERE that repeats its condition.
    """

    def __init__(self, prefix: str) -> None:
        names = ("jobs", "ids", "pipelines", "pulses", "minutes", "errors", "meta")
        jobs, ids, pipelines, pulses, minutes, errors, meta = (f"{prefix}_{name}" for name in names)

        # -- put
        next_id = f"1 + max((SELECT last FROM {ids}), (SELECT coalesce(max(id), 0) FROM {jobs}))"
        self.next_id = f"SELECT {next_id}"
        self.insert_as = f"""
            INSERT INTO {jobs} (id, pipeline, state, priority, ttr, run_at, payload)
            VALUES (?, ?, ?, ?, ?, ?, ?)"""
        self.insert = self.insert_as.replace("?", next_id, 1)
        self.insert_named = f"""
            INSERT INTO {jobs} (id, pipeline, state, priority, ttr, run_at, payload, unique_key, uid)
            VALUES ({next_id}, ?, ?, ?, ?, ?, ?, ?, ?)"""
        self.by_uid = f"SELECT id, payload FROM {jobs} WHERE uid = ?"
        self.by_unique = f"SELECT id FROM {jobs} WHERE pipeline = ? AND unique_key = ?"

        self.restore = f"""
            INSERT INTO {jobs} (id, pipeline, state, priority, ttr, attempts, crashes, run_at,
                unique_key, uid, reason, payload)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

        # -- claim: if gated (?5), nothing while the pipeline is paused or has due jobs or lost leases
        paused = f"EXISTS (SELECT 1 FROM {pipelines} WHERE name = ?1 AND paused_until > ?2)"
        due = f"""EXISTS (SELECT 1 FROM {jobs} WHERE pipeline = ?1 AND state = 1 AND run_at <= ?2)
                OR EXISTS (SELECT 1 FROM {jobs} WHERE pipeline = ?1 AND state = 2 AND deadline <= ?3)"""
        self.why_none = f"SELECT {paused}, {due}"
        # They become ready first, so that one index gives the order.
        self.promote = f"""
            UPDATE {jobs} SET state = 0 WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = 1 AND run_at <= ?
                ORDER BY run_at LIMIT ?)"""
        # The token stays: until somebody claims the job again, its late holder may still settle it.
        self.rescue = f"""
            UPDATE {jobs} SET state = 0, deadline = 0, crashes = crashes + 1, run_at = ? WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = 2 AND deadline <= ?
                ORDER BY deadline LIMIT ?)"""
        first = f"""FROM {jobs} WHERE pipeline = ?1 AND state = 0 AND NOT (?5 AND ({paused} OR {due}))
            ORDER BY priority, id LIMIT ?4"""
        # RETURNING collects its rows in a table of its own: many jobs are cheaper to read first.
        self.first = f"""
            SELECT id, payload, priority, ttr, attempts + 1, crashes, run_at, reason, uid, unique_key
            {first}"""
        self.lease = f"""
            UPDATE {jobs} SET state = 2, token = ?, deadline = ? + ttr, attempts = attempts + 1
            WHERE id IN (SELECT value FROM json_each(?))"""
        self.claim_one = f"""
            UPDATE {jobs} SET state = 2, token = ?6, deadline = ?3 + ttr, attempts = attempts + 1
            WHERE id = (SELECT id {first})
            RETURNING id, payload, priority, ttr, attempts, crashes, run_at, reason, uid, unique_key"""

        # -- settle: before jobs up to some id are deleted, the newest of all leaves its own if it is one
        newest = f"(SELECT max(id) FROM {jobs})"
        self.keep_last = f"UPDATE {ids} SET last = {newest} WHERE last < {newest} AND {newest} <= ?"
        # Id and token together are the fence.
        self.delete = f"DELETE FROM {jobs} WHERE id = ? AND token = ?"
        self.delete_many = f"DELETE FROM {jobs} WHERE id IN (SELECT value FROM json_each(?)) AND token = ?"
        self.delete_older = f"{self.delete} AND id < {newest}"
        # A holder who comes back after a rescue has not crashed: `state = 0` takes that count away again.
        self.put_back = f"""
            UPDATE {jobs} SET state = ?1, run_at = ?2, priority = coalesce(?3, priority), reason = ?4,
                token = 0, deadline = 0, crashes = crashes - (state = 0), attempts = attempts - ?5
            WHERE id = ?6 AND token = ?7"""
        self.touch = f"""
            UPDATE {jobs} SET deadline = ?, crashes = crashes - (state = 0), state = 2
            WHERE id = ? AND token = ?"""
        self.end_leases = f"UPDATE {jobs} SET deadline = 0 WHERE state = 2"

        # -- operators; {where} and its like are filled in by the back end, never by a caller's text
        self.kick = f"""
            UPDATE {jobs} SET state = 0, attempts = 0, crashes = 0, token = 0, run_at = ? WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = 3{{where}} ORDER BY id LIMIT ?)"""
        self.discard = f"""
            DELETE FROM {jobs} WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = {{state}}{{where}}
                ORDER BY {{order}} LIMIT ?)"""
        # State 1, or 2: there it is what `rescue` does.
        self.release = f"""
            UPDATE {jobs} SET state = 0, deadline = 0, run_at = ?, crashes = crashes + (state = 2)
            WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = {{state}}{{where}}
                ORDER BY {{order}} LIMIT ?)"""
        self.bury = f"""
            UPDATE {jobs} SET state = 3, token = 0, deadline = 0, reason = ?, run_at = ? WHERE id IN (
                SELECT id FROM {jobs} WHERE pipeline = ? AND state = {{state}}{{where}}
                ORDER BY {{order}} LIMIT ?)"""
        self.move = f"""
            UPDATE {jobs} SET pipeline = ? WHERE id IN (
                SELECT id FROM {jobs} AS here WHERE pipeline = ? AND state = {{state}}{{where}}
                    AND NOT EXISTS (SELECT 1 FROM {jobs}
                        WHERE pipeline = ? AND unique_key = here.unique_key)
                ORDER BY {{order}} LIMIT ?)"""
        columns = """id, pipeline, payload, priority, ttr, attempts, crashes, state, run_at,
                reason, uid, unique_key"""
        self.peek = f"""
            SELECT {columns} FROM {jobs} {{indexed}} WHERE pipeline = ? AND state = {{state}}{{where}}
            ORDER BY {{order}} LIMIT ?"""
        self.find = f"SELECT {columns} FROM {jobs} WHERE id = ?"

        # -- pauses and waiting
        self.paused = f"SELECT name, paused_until FROM {pipelines} WHERE paused_until > ?"
        self.pause = f"""
            INSERT INTO {pipelines} (name, paused_until) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET paused_until = excluded.paused_until"""
        self.next_due = f"""
            SELECT EXISTS (SELECT 1 FROM {jobs} WHERE pipeline = :pipeline AND state = 0),
                (SELECT min(run_at) FROM {jobs} WHERE pipeline = :pipeline AND state = 1),
                (SELECT min(deadline) FROM {jobs} WHERE pipeline = :pipeline AND state = 2)"""

        # -- numbers: each count stops at :cap, and the rest are index lookups
        def count(condition: str) -> str:
            return f"""(SELECT count(*) FROM (
                SELECT 1 FROM {jobs} WHERE pipeline = :pipeline AND {condition} LIMIT :cap))"""

        # The oldest ready job is the first of some priority: hop from priority to priority, 64 at most.
        ready = "pipeline = :pipeline AND state = 0"
        self.stats = f"""
            WITH RECURSIVE head (priority) AS (
                SELECT min(priority) FROM {jobs} WHERE {ready}
                UNION ALL
                SELECT (SELECT min(priority) FROM {jobs} WHERE {ready} AND priority > head.priority)
                FROM head WHERE head.priority IS NOT NULL LIMIT 64),
            first (run_at) AS (
                SELECT (SELECT run_at FROM {jobs}
                        WHERE {ready} AND priority = head.priority ORDER BY id LIMIT 1)
                FROM head WHERE priority IS NOT NULL
                UNION ALL
                SELECT min(run_at) FROM {jobs} WHERE pipeline = :pipeline AND state = 1 AND run_at <= :now)
            SELECT {count("state = 0")}, {count("state = 1 AND run_at <= :now")}, {count("state = 1")},
                {count("state = 2")}, {count("state = 2 AND deadline <= :boot")}, {count("state = 3")},
                (SELECT paused_until FROM {pipelines} WHERE name = :pipeline),
                (SELECT min(run_at) FROM first)"""
        # One hop per name through each partial index; DISTINCT would read every row.
        hops = " UNION ".join(
            f"""SELECT name FROM (
                WITH RECURSIVE hop (name) AS (
                    SELECT min(pipeline) FROM {jobs} WHERE {held}
                    UNION ALL
                    SELECT (SELECT min(pipeline) FROM {jobs} WHERE {held} AND pipeline > hop.name)
                    FROM hop WHERE hop.name IS NOT NULL)
                SELECT name FROM hop WHERE name IS NOT NULL)"""
            for held in ("state = 0", "state = 1", "state = 2", "state = 3")
        )
        self.pipelines = f"""
            {hops} UNION SELECT name FROM {pipelines} WHERE paused_until > ? ORDER BY 1"""

        # -- pulses and the tables' own facts
        self.publish = f"""
            INSERT INTO {pulses} (host, process, at, body) VALUES (?, ?, ?, ?)
            ON CONFLICT (host, process) DO UPDATE SET at = excluded.at, body = excluded.body"""
        self.pulses = f"SELECT at, body FROM {pulses} WHERE at > ? ORDER BY host, process"
        self.put_minute = f"""
            INSERT INTO {minutes} (minute, pipeline, process, body) VALUES (?, ?, ?, ?)
            ON CONFLICT (minute, pipeline, process) DO UPDATE SET body = excluded.body"""
        self.minutes = f"""
            SELECT pipeline, minute, process, body FROM {minutes}
            WHERE minute > ?1 AND (?2 IS NULL OR pipeline = ?2) ORDER BY minute"""
        self.put_error = f"""
            INSERT INTO {errors} (pipeline, kind, cause, place, count, first_at, last_at, job, sample)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)
            ON CONFLICT (pipeline, kind, cause, place) DO UPDATE SET count = count + excluded.count,
                last_at = excluded.last_at, job = excluded.job, sample = excluded.sample"""
        self.errors = f"""
            SELECT pipeline, kind, cause, place, count, job, sample, ?1 - first_at, ?1 - last_at
            FROM {errors} WHERE last_at > ?1 - ?2 AND (?3 IS NULL OR pipeline = ?3)
            ORDER BY last_at DESC LIMIT 200"""
        self.prune_minutes = f"""
            DELETE FROM {minutes} WHERE (minute, pipeline, process) IN (
                SELECT minute, pipeline, process FROM {minutes} WHERE minute < ? ORDER BY minute LIMIT 500)"""
        self.prune_errors = f"""
            DELETE FROM {errors} WHERE (pipeline, kind, cause, place) IN (
                SELECT pipeline, kind, cause, place FROM {errors} WHERE last_at < ? LIMIT 500)"""
        self.prune_pulses = f"""
            DELETE FROM {pulses} WHERE (host, process) IN (
                SELECT host, process FROM {pulses} WHERE at < ? LIMIT 500)"""
        self.get_meta = f"SELECT value FROM {meta} WHERE name = ?"
        self.set_meta = f"""
            INSERT INTO {meta} (name, value) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
