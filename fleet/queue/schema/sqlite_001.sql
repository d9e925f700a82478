-- fleet's tables in SQLite, version 1.  {prefix} is "fleet" unless the DSN says otherwise.
-- Can be run by hand: sed 's/{prefix}/fleet/g' sqlite_001.sql | sqlite3 jobs.db

CREATE TABLE {prefix}_jobs (
    id         INTEGER PRIMARY KEY,                -- never reused; the order of puts
    pipeline   TEXT    NOT NULL,
    state      INTEGER NOT NULL,                   -- 0 ready, 1 delayed, 2 reserved, 3 buried
    priority   INTEGER NOT NULL,                   -- 0 is most urgent
    ttr        INTEGER NOT NULL,                   -- microseconds a lease lasts
    attempts   INTEGER NOT NULL DEFAULT 0,         -- how often it was begun
    crashes    INTEGER NOT NULL DEFAULT 0,         -- leases that ran out
    token      INTEGER NOT NULL DEFAULT 0,         -- fences the lease; 0 without one
    run_at     INTEGER NOT NULL,                   -- wall clock, microseconds: due, or ready since
    deadline   INTEGER NOT NULL DEFAULT 0,         -- boot time clock, microseconds: end of the lease
    unique_key TEXT,
    uid        BLOB,
    reason     TEXT    NOT NULL DEFAULT '',
    payload    BLOB    NOT NULL
);

-- Each index is the order in which its state is read, and holds only that one.
CREATE INDEX {prefix}_jobs_ready    ON {prefix}_jobs (pipeline, priority, id) WHERE state = 0;
CREATE INDEX {prefix}_jobs_reserved ON {prefix}_jobs (pipeline, deadline) WHERE state = 2;
CREATE INDEX {prefix}_jobs_delayed  ON {prefix}_jobs (pipeline, run_at) WHERE state = 1;
CREATE INDEX {prefix}_jobs_buried   ON {prefix}_jobs (pipeline, id) WHERE state = 3;
CREATE UNIQUE INDEX {prefix}_jobs_unique ON {prefix}_jobs (pipeline, unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX {prefix}_jobs_uid ON {prefix}_jobs (uid) WHERE uid IS NOT NULL;

-- No id up to this one is given again.  AUTOINCREMENT would write such a number with each put; here it is written
-- only by who deletes the newest of all jobs.
CREATE TABLE {prefix}_ids (last INTEGER NOT NULL);
INSERT INTO {prefix}_ids (last) VALUES (0);

CREATE TABLE {prefix}_pipelines (
    name         TEXT PRIMARY KEY,
    paused_until INTEGER NOT NULL DEFAULT 0        -- wall clock, microseconds
) WITHOUT ROWID;

CREATE TABLE {prefix}_pulses (
    host    TEXT    NOT NULL,
    process TEXT    NOT NULL,
    at      INTEGER NOT NULL,                      -- wall clock, microseconds
    body    TEXT    NOT NULL,                      -- JSON
    PRIMARY KEY (host, process)
) WITHOUT ROWID;

CREATE TABLE {prefix}_minutes (
    minute   INTEGER NOT NULL,                     -- Unix time / 60, by the worker's clock
    pipeline TEXT    NOT NULL,
    process  TEXT    NOT NULL,                     -- host, name and pid: only this process writes the row
    body     TEXT    NOT NULL,                     -- JSON
    PRIMARY KEY (minute, pipeline, process)
) WITHOUT ROWID;

CREATE TABLE {prefix}_errors (
    pipeline TEXT    NOT NULL,
    kind     TEXT    NOT NULL,                     -- buried retried timeout crashed
    cause    TEXT    NOT NULL,                     -- "KeyError: 'TZ'", # for what differs
    place    TEXT    NOT NULL,                     -- "file.py:14 func"
    count    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,                     -- wall clock, microseconds
    last_at  INTEGER NOT NULL,
    job      INTEGER NOT NULL,                     -- id of the newest one
    sample   TEXT    NOT NULL,                     -- its message
    PRIMARY KEY (pipeline, kind, cause, place)
) WITHOUT ROWID;

CREATE TABLE {prefix}_meta (
    name  TEXT PRIMARY KEY,                        -- "schema", "boot"
    value TEXT NOT NULL
) WITHOUT ROWID;

INSERT INTO {prefix}_meta (name, value) VALUES ('schema', '1');
