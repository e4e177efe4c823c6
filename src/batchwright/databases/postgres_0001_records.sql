-- Checkpoints and failures, kept beside the data (or in the ledger, for targets that cannot keep them).
-- The key never holds a ledger's own id: job, parameters, lap, step, partition. {schema} is the schema's quoted name.

CREATE TABLE {schema}.batchwright_checkpoints (
    job             text    NOT NULL,
    parameters_hash text    NOT NULL,
    lap             bigint  NOT NULL,
    step            text    NOT NULL,
    partition       bigint  NOT NULL,
    ordinal         bigint  NOT NULL,
    anchor          text    NOT NULL,
    "offset"        bigint  NOT NULL,
    read            bigint  NOT NULL,
    written         bigint  NOT NULL,
    filtered        bigint  NOT NULL,
    failed_read     bigint  NOT NULL,
    failed_process  bigint  NOT NULL,
    failed_write    bigint  NOT NULL,
    outputs         bigint  NOT NULL,
    retried         bigint  NOT NULL,
    commits         bigint  NOT NULL,
    rollbacks       bigint  NOT NULL,
    state           text    NOT NULL,
    finished        boolean NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition)
) WITH (fillfactor = 50);  -- one row a step, updated with every chunk: room for the next version on the same page

CREATE TABLE {schema}.batchwright_failures (
    job             text    NOT NULL,
    parameters_hash text    NOT NULL,
    lap             bigint  NOT NULL,
    step            text    NOT NULL,
    partition       bigint  NOT NULL,
    ordinal         bigint  NOT NULL,
    anchor          text    NOT NULL,
    "offset"        bigint  NOT NULL,
    phase           text    NOT NULL,
    error_type      text    NOT NULL,
    error           text    NOT NULL,
    attempts        bigint  NOT NULL,
    source          text    NOT NULL,
    line            bigint,
    byte            bigint,
    detail          text    NOT NULL,
    payload         text,
    payload_kind    text    NOT NULL,
    state           text    NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal)
);

-- Who may commit: each owner of a step raises its epoch before it reads the checkpoint, and commits under it only.
CREATE TABLE {schema}.batchwright_fences (
    job             text   NOT NULL,
    parameters_hash text   NOT NULL,
    lap             bigint NOT NULL,
    step            text   NOT NULL,
    partition       bigint NOT NULL,
    epoch           bigint NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition)
);
