"""Every statement of the MySQL back end, with the checked table prefix filled in once."""

from __future__ import annotations

# The server's clock in UTC, whatever the time zones are, in microseconds.  Each statement reads it anew.
NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

NEVER = 2**63 - 1  # later than every time, less urgent than every priority


class Statements:
    """
    State numbers are literals (0 ready, 1 delayed, 2 reserved, 3 buried).

    `turn` is what orders the jobs of a state: the priority of a ready job, the
    due time of a delayed one, the end of the lease of a reserved one.  FORCE
    INDEX, because a plan that sorts would lock every row it reads.
    """

    def __init__(self, prefix: str) -> None:
        names = ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")
        jobs, pipelines, pulses, minutes, errors, meta = (f"{prefix}_{name}" for name in names)
        by_turn = f"{jobs} FORCE INDEX (turn)"

        # -- put
        # (@fleet_at instead of the expression in each of thousands of rows)
        self.insert_at = f"SET @fleet_at = {NOW} + %s"
        self.insert = f"""INSERT INTO {jobs}
            (pipeline, state, priority, ttr, run_at, unique_key, uid, payload) VALUES """
        self.step = "SELECT @@auto_increment_increment"
        # A locking read sees what was committed after the caller's snapshot.
        self.by_uid = f"SELECT id, uid, payload FROM {jobs} WHERE uid IN (%s) LOCK IN SHARE MODE"
        self.by_unique = f"""
            SELECT id FROM {jobs} WHERE pipeline = %s AND unique_key = %s LOCK IN SHARE MODE"""

        self.restore = f"""INSERT INTO {jobs}
            (id, pipeline, state, priority, ttr, attempts, crashes, run_at, unique_key, uid, reason, payload)
            VALUES """

        # -- look: what a claim has to know; plain reads, which pass 40 million dead index entries a second
        # Led by a constant: every table behind it may be empty.
        self.facts = f"""
            SELECT {NOW}, IFNULL(paused_until, 0), IFNULL(returns, -1), IFNULL(delays, 0),
                IFNULL((SELECT MAX(id) FROM {jobs}), 0),
                IFNULL((SELECT turn FROM {by_turn} WHERE pipeline = %s AND state = 1
                    ORDER BY turn LIMIT 1), {NEVER}),
                IFNULL((SELECT turn FROM {by_turn} WHERE pipeline = %s AND state = 2
                    ORDER BY turn LIMIT 1), {NEVER})
            FROM (SELECT 1) AS one LEFT JOIN {pipelines} ON name = %s"""
        self.below = f"""
            SELECT priority, id FROM {by_turn}
            WHERE pipeline = %s AND state = 0 AND (turn < %s OR (turn = %s AND id <= %s))
            ORDER BY turn, id LIMIT %s"""
        # One text column, because the driver takes 15 microseconds to read the description of each.
        # @fleet_passed keeps the statements behind it, in the same packet, from locking what would be let go.
        self.glance = f"""
            SELECT CONCAT_WS(' ', {NOW}, IFNULL((SELECT paused_until FROM {pipelines} WHERE name = %s), 0),
                IFNULL(MAX(id), 0), IFNULL(MIN(IF(state = 1 AND pipeline = %s, run_at, NULL)), {NEVER}),
                @fleet_passed := IFNULL(MAX(state = 0 AND pipeline = %s AND priority < %s), 0) OR IFNULL(
                    (SELECT returns <> %s OR ({NOW} >= %s AND (delays <> %s OR {NOW} >= %s))
                        FROM {pipelines} WHERE name = %s), 1))
            FROM {jobs} FORCE INDEX (PRIMARY) WHERE id > %s"""
        self.introduce = f"INSERT IGNORE INTO {pipelines} (name) VALUES (%s)"

        # -- claim
        # Likewise, and a microsecond for each value of each row.
        claimed = """CONCAT_WS(',', id, priority, ttr, attempts, crashes, run_at,
                HEX(IFNULL(uid, '')), HEX(IFNULL(unique_key, '')), HEX(reason)), payload"""
        unless_passed = "(%s OR NOT @fleet_passed)"
        self.scan = f"""
            SELECT {claimed} FROM {by_turn}
            WHERE {unless_passed} AND pipeline = %s AND state = 0 AND (turn > %s OR (turn = %s AND id > %s))
            ORDER BY turn, id LIMIT %s FOR UPDATE SKIP LOCKED"""
        # In the order of ids: to sort, it would lock all of them before it leaves out those behind the limit.
        self.pick = f"""
            SELECT {claimed} FROM {jobs} FORCE INDEX (PRIMARY)
            WHERE {unless_passed} AND id %s AND pipeline = %s AND state = 0
            ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"""
        # Right even where the rows could not be locked: the loser of a race changes none.
        self.claim = f"""
            UPDATE {jobs} SET state = 2, token = %s, deadline = {NOW} + ttr, attempts = attempts + 1
            WHERE id %s AND state = 0 LIMIT %s"""
        self.found_again = f"""
            SELECT pipeline, deadline - {NOW}, {claimed} FROM {by_turn}
            WHERE pipeline IN ({{names}}) AND state = 2 AND turn > {NOW} AND token = %s"""

        # -- due delayed jobs and lost leases become ready, so that one index gives the order
        self.due = f"""
            SELECT id FROM {by_turn} WHERE pipeline = %s AND state = %s AND turn <= {NOW}
            ORDER BY turn, id LIMIT %s FOR UPDATE SKIP LOCKED"""
        self.promote = f"UPDATE {jobs} SET state = 0 WHERE id %s AND state = 1"
        # The token stays: until somebody claims the job again, its late holder may still settle it.
        self.rescue = f"""
            UPDATE {jobs} SET crashes = crashes + 1, run_at = {NOW}, state = 0
            WHERE id %s AND state = 2"""
        # In the transaction that makes older jobs ready, last of all: see `Mark`.
        self.returned = f"""
            INSERT INTO {pipelines} (name, returns) VALUES (%s, 1)
            ON DUPLICATE KEY UPDATE returns = returns + 1"""
        self.delayed = f"""
            INSERT INTO {pipelines} (name, delays) VALUES (%s, 1)
            ON DUPLICATE KEY UPDATE delays = delays + 1"""

        # -- settle: id and token together are the fence
        self.delete = f"DELETE FROM {jobs} WHERE id %s AND token = %s LIMIT %s"
        # A holder who comes back after a rescue has not crashed: `state = 0` takes that count away again.
        # MySQL carries the assignments out from left to right, so `state` is read before it changes.
        self.put_back = f"""
            UPDATE {jobs} SET crashes = crashes - (state = 0), state = %s, run_at = {NOW} + %s,
                priority = IFNULL(%s, priority), reason = %s, attempts = attempts - %s, token = 0
            WHERE id %s AND token = %s LIMIT %s"""
        self.touch = f"""
            UPDATE {jobs} SET crashes = crashes - (state = 0), state = 2, deadline = {NOW} + %s
            WHERE id %s AND token = %s"""
        self.held = f"SELECT id FROM {jobs} WHERE id %s AND token = %s"
        self.tokens = f"SELECT id, token FROM {jobs} WHERE id %s"

        # -- operators; {where} and its like are filled in by the back end, never by a caller's text
        self.select = """
            SELECT id FROM {table} WHERE pipeline = %s AND state = %s{where}
            ORDER BY {order} LIMIT %s"""
        self.kick = f"""
            UPDATE {jobs} SET state = 0, attempts = 0, crashes = 0, token = 0, run_at = {NOW}
            WHERE id %s AND state = 3"""
        self.discard = f"DELETE FROM {jobs} WHERE id %s AND state = %s"
        # `crashes` before `state`: from left to right.
        self.release = f"""
            UPDATE {jobs} SET crashes = crashes + (state = 2), run_at = {NOW}, state = 0
            WHERE id %s AND state = %s"""
        self.bury = f"""
            UPDATE {jobs} SET state = 3, token = 0, reason = %s, run_at = {NOW}
            WHERE id %s AND state = %s"""
        self.move = f"UPDATE {jobs} SET pipeline = %s WHERE id %s AND state = %s"
        self.lease_is_over = f"AND turn <= {NOW}"
        self.key_is_free = f"""
            AND NOT EXISTS (SELECT 1 FROM {jobs} AS there
                WHERE there.pipeline = %s AND there.unique_key = {jobs}.unique_key)"""
        columns = f"""id, pipeline, payload, priority, ttr, attempts, crashes, state, run_at - {NOW},
            CAST(reason AS BINARY), uid, unique_key"""
        self.peek = f"""
            SELECT {columns} FROM {{table}} WHERE pipeline = %s AND state = %s{{where}}
            ORDER BY {{order}} LIMIT %s"""
        self.by_turn, self.by_id = by_turn, f"{jobs} FORCE INDEX (PRIMARY)"
        self.find = f"SELECT {columns} FROM {jobs} WHERE id = %s"

        # -- pauses and waiting
        self.pause = f"""
            INSERT INTO {pipelines} (name, paused_until) VALUES (%s, {{until}})
            ON DUPLICATE KEY UPDATE paused_until = {{until}}"""
        self.next_due = f"""
            SELECT {NOW},
                (SELECT paused_until FROM {pipelines} WHERE name = %s),
                EXISTS (SELECT 1 FROM {by_turn} WHERE pipeline = %s AND state = 0),
                (SELECT turn FROM {by_turn} WHERE pipeline = %s AND state = 1 ORDER BY turn LIMIT 1),
                (SELECT turn FROM {by_turn} WHERE pipeline = %s AND state = 2 ORDER BY turn LIMIT 1)"""

        # -- numbers: each count stops at the cap
        def count(condition: str) -> str:
            return f"""(SELECT COUNT(*) FROM (
                SELECT 1 FROM {by_turn} WHERE pipeline = %s AND {condition} LIMIT %s) AS counted)"""

        self.counts = f"""
            SELECT {NOW},
                (SELECT paused_until FROM {pipelines} WHERE name = %s),
                {count("state = 0")}, {count(f"state = 1 AND turn <= {NOW}")}, {count("state = 1")},
                {count("state = 2")}, {count(f"state = 2 AND turn <= {NOW}")}, {count("state = 3")},
                (SELECT turn FROM {by_turn} WHERE pipeline = %s AND state = 1 ORDER BY turn LIMIT 1)"""
        self.first_of_next_priority = f"""
            SELECT priority, run_at FROM {by_turn} WHERE pipeline = %s AND state = 0 AND turn > %s
            ORDER BY turn, id LIMIT 1"""
        # "Using index for group-by": one hop per name.
        self.pipelines = f"""
            SELECT DISTINCT pipeline FROM {by_turn}
            UNION SELECT name FROM {pipelines} WHERE paused_until > {NOW}"""

        # -- pulses and the tables' own facts
        self.publish = f"""
            INSERT INTO {pulses} (host, process, at, body) VALUES (%s, %s, {NOW}, %s)
            ON DUPLICATE KEY UPDATE at = {NOW}, body = %s"""
        self.pulses = f"""
            SELECT {NOW} - at, body FROM {pulses} WHERE at > {NOW} - %s ORDER BY host, process"""
        self.put_minute = f"""
            INSERT INTO {minutes} (minute, pipeline, process, body) VALUES (%s, %s, %s, %s)
            ON DUPLICATE KEY UPDATE body = VALUES(body)"""
        self.put_error = f"""
            INSERT INTO {errors} (pipeline, kind, cause, place, count, first_at, last_at, job, sample)
            VALUES (%s, %s, %s, %s, %s, {NOW}, {NOW}, %s, %s)
            ON DUPLICATE KEY UPDATE count = count + VALUES(count), last_at = VALUES(last_at),
                job = VALUES(job), sample = VALUES(sample)"""
        self.minutes = f"""
            SELECT pipeline, minute, process, body FROM {minutes}
            WHERE minute > ({NOW} - %s) DIV 60000000 - 1 AND pipeline = COALESCE(%s, pipeline)
            ORDER BY minute"""
        self.errors = f"""
            SELECT pipeline, kind, cause, place, count, job, sample, {NOW} - first_at, {NOW} - last_at
            FROM {errors} WHERE last_at > {NOW} - %s AND pipeline = COALESCE(%s, pipeline)
            ORDER BY last_at DESC LIMIT 200"""
        self.prune_minutes = f"""
            DELETE FROM {minutes} WHERE minute < ({NOW} DIV 1000000 - %s) DIV 60 ORDER BY minute LIMIT 500"""
        self.prune_errors = f"DELETE FROM {errors} WHERE last_at < {NOW} - %s * 1000000 LIMIT 500"
        self.prune_pulses = f"DELETE FROM {pulses} WHERE at < {NOW} - %s * 1000000 LIMIT 500"
        self.get_meta = f"SELECT CAST(value AS BINARY) FROM {meta} WHERE name = %s"
        self.set_meta = f"""
            INSERT INTO {meta} (name, value) VALUES (%s, %s) ON DUPLICATE KEY UPDATE value = %s"""
        self.engines = f"""
            SELECT table_name, engine FROM information_schema.tables
            WHERE table_schema = DATABASE()
                AND table_name IN
                    ('{jobs}', '{pipelines}', '{pulses}', '{minutes}', '{errors}', '{meta}')"""
        self.fits = (
            f"SELECT id, pipeline, state, priority, ttr, attempts, crashes, token, run_at, deadline, "
            f"unique_key, uid, reason, payload, turn FROM {jobs} LIMIT 0",
            f"SELECT name, paused_until, returns, delays FROM {pipelines} LIMIT 0",
            f"SELECT host, process, at, body FROM {pulses} LIMIT 0",
            f"SELECT minute, pipeline, process, body FROM {minutes} LIMIT 0",
            f"SELECT pipeline, kind, cause, place, count, first_at, last_at, job, sample "
            f"FROM {errors} LIMIT 0",
        )

        for name, text in vars(self).items():
            if isinstance(text, str):
                setattr(self, name, " ".join(text.split()))  # each blank is read again with every claim
