-- fleet's tables in MySQL 8.0 and MariaDB 10.6, version 1.  {prefix} is "fleet" unless the DSN says otherwise.
-- Can be run by hand: sed 's/{prefix}/fleet/g' mysql_001.sql | mariadb DATABASE
-- IF NOT EXISTS: each CREATE commits by itself, and a run that was cut short is simply run again.

CREATE TABLE IF NOT EXISTS {prefix}_jobs (
    id         BIGINT       NOT NULL AUTO_INCREMENT,   -- never reused; the order of puts
    pipeline   VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    state      TINYINT      NOT NULL,                  -- 0 ready, 1 delayed, 2 reserved, 3 buried
    priority   INT UNSIGNED NOT NULL,                  -- 0 is most urgent
    ttr        BIGINT       NOT NULL,                  -- microseconds a lease lasts
    attempts   INT          NOT NULL DEFAULT 0,        -- how often it was begun
    crashes    INT          NOT NULL DEFAULT 0,        -- leases that ran out
    token      BIGINT       NOT NULL DEFAULT 0,        -- fences the lease; 0 without one
    run_at     BIGINT       NOT NULL,                  -- the server's clock in UTC, microseconds: due, or ready since
    deadline   BIGINT       NOT NULL DEFAULT 0,        -- the same clock: end of the lease
    unique_key VARBINARY(1020),                        -- 255 characters of UTF-8; a VARCHAR would ignore trailing blanks
    uid        BINARY(16),
    reason     MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT (''),
    payload    LONGBLOB     NOT NULL,
    -- There are no partial indexes here.  This column holds what orders the jobs of each state, so that one index
    -- does what four do elsewhere, and a change of state costs one entry instead of two.
    turn       BIGINT GENERATED ALWAYS AS (
        CASE state WHEN 0 THEN priority WHEN 1 THEN run_at WHEN 2 THEN deadline ELSE 0 END) STORED,
    PRIMARY KEY (id),
    KEY turn (pipeline, state, turn, id),
    UNIQUE KEY uid (uid),
    UNIQUE KEY unique_key (pipeline, unique_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}_pipelines (
    name         VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    paused_until BIGINT       NOT NULL DEFAULT 0,      -- the server's clock, microseconds
    returns      BIGINT       NOT NULL DEFAULT 0,      -- counts each time that jobs came back to be ready
    delays       BIGINT       NOT NULL DEFAULT 0,      -- counts each time that jobs came back to be ready later
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}_pulses (
    host    VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    process VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    at      BIGINT       NOT NULL,                     -- the server's clock, microseconds
    body    MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- JSON
    PRIMARY KEY (host, process)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}_minutes (
    minute   BIGINT       NOT NULL,                    -- Unix time / 60, by the worker's clock
    pipeline VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    process  VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- host, name and pid: only it writes the row
    body     TEXT         CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- JSON
    PRIMARY KEY (minute, pipeline, process)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}_errors (
    pipeline VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind     VARCHAR(16)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- buried retried timeout crashed
    cause    VARCHAR(160) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- "KeyError: 'TZ'", # for what differs
    place    VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- "file.py:14 func"
    count    BIGINT       NOT NULL,
    first_at BIGINT       NOT NULL,                    -- the server's clock, microseconds
    last_at  BIGINT       NOT NULL,
    job      BIGINT       NOT NULL,                    -- id of the newest one
    sample   VARCHAR(400) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,  -- its message
    PRIMARY KEY (pipeline, kind, cause, place)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}_meta (
    name  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,    -- "schema", and memos of imports
    value MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
