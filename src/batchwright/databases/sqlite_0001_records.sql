-- Checkpoints and failures, kept beside the data (or in the ledger, for targets that cannot keep them).
-- The key never holds a ledger's own id: job, parameters, lap, step, partition.

CREATE TABLE batchwright_checkpoints (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    step            TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    ordinal         INTEGER NOT NULL,
    anchor          TEXT    NOT NULL,
    "offset"        INTEGER NOT NULL,
    read            INTEGER NOT NULL,
    written         INTEGER NOT NULL,
    filtered        INTEGER NOT NULL,
    failed_read     INTEGER NOT NULL,
    failed_process  INTEGER NOT NULL,
    failed_write    INTEGER NOT NULL,
    outputs         INTEGER NOT NULL,
    retried         INTEGER NOT NULL,
    commits         INTEGER NOT NULL,
    rollbacks       INTEGER NOT NULL,
    state           TEXT    NOT NULL,
    finished        INTEGER NOT NULL,
    updated_at      TEXT    NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition)
) WITHOUT ROWID;

CREATE TABLE batchwright_failures (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    step            TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    ordinal         INTEGER NOT NULL,
    anchor          TEXT    NOT NULL,
    "offset"        INTEGER NOT NULL,
    phase           TEXT    NOT NULL,
    error_type      TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    attempts        INTEGER NOT NULL,
    source          TEXT    NOT NULL,
    line            INTEGER,
    byte            INTEGER,
    detail          TEXT    NOT NULL,
    payload         TEXT,
    payload_kind    TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    at              TEXT    NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal)
);

-- Who may commit: each owner of a step raises its epoch before it reads the checkpoint, and commits under it only.
CREATE TABLE batchwright_fences (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    step            TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition)
) WITHOUT ROWID;
