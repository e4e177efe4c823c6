-- What steps did outside, call by call: the effect log. One row an effect, its last word.

CREATE TABLE batchwright_effects (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    step            TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    ordinal         INTEGER NOT NULL,
    output_index    INTEGER NOT NULL,
    effect_key      TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    output          TEXT,
    receipt         TEXT,
    error           TEXT    NOT NULL,
    updated_at      TEXT    NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal, output_index)
);
