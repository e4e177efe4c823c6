-- The ledger: which work there is, and every attempt at it. Checkpoints and failures stand in tables of their own.
-- Like those, everything here is found by job, parameters, lap and step; `id` is only the number people say.

CREATE TABLE batchwright_instances (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    created_at      TEXT    NOT NULL,
    PRIMARY KEY (job, parameters_hash)
) WITHOUT ROWID;

-- `seen_at` is the last sign of life: what a killed execution is later said to have ended at.
CREATE TABLE batchwright_job_executions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    status          TEXT    NOT NULL,
    started_at      TEXT    NOT NULL,
    ended_at        TEXT,
    kind            TEXT    NOT NULL,
    parameters      TEXT    NOT NULL,
    steps           TEXT    NOT NULL,
    origin          TEXT,
    host            TEXT    NOT NULL,
    pid             INTEGER NOT NULL,
    error           TEXT    NOT NULL,
    seen_at         TEXT    NOT NULL,
    FOREIGN KEY (job, parameters_hash) REFERENCES batchwright_instances (job, parameters_hash)
);

CREATE UNIQUE INDEX batchwright_one_live_execution ON batchwright_job_executions (job, parameters_hash, lap)
    WHERE status IN ('STARTING', 'RUNNING', 'STOPPING', 'COMPENSATING');

CREATE INDEX batchwright_executions_of_instance ON batchwright_job_executions (job, parameters_hash, kind);

CREATE INDEX batchwright_executions_of_job ON batchwright_job_executions (job);

CREATE TABLE batchwright_step_executions (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    run               INTEGER NOT NULL REFERENCES batchwright_job_executions (id),
    job               TEXT    NOT NULL,
    parameters_hash   TEXT    NOT NULL,
    lap               INTEGER NOT NULL,
    step              TEXT    NOT NULL,
    partition         INTEGER NOT NULL,
    status            TEXT    NOT NULL,
    started_at        TEXT    NOT NULL,
    ended_at          TEXT,
    read              INTEGER NOT NULL,
    written           INTEGER NOT NULL,
    filtered          INTEGER NOT NULL,
    failed_read       INTEGER NOT NULL,
    failed_process    INTEGER NOT NULL,
    failed_write      INTEGER NOT NULL,
    outputs           INTEGER NOT NULL,
    retried           INTEGER NOT NULL,
    commits           INTEGER NOT NULL,
    rollbacks         INTEGER NOT NULL,
    seconds           REAL    NOT NULL,
    peak_memory_bytes INTEGER NOT NULL,
    error             TEXT    NOT NULL,
    source            TEXT    NOT NULL,
    target            TEXT    NOT NULL,
    guarantee         TEXT    NOT NULL,
    seen_at           TEXT    NOT NULL
);

CREATE INDEX batchwright_executions_of_step
    ON batchwright_step_executions (job, parameters_hash, lap, step, partition, run);

CREATE INDEX batchwright_steps_of_execution ON batchwright_step_executions (run);
