-- What steps did outside, call by call: the effect log. One row an effect, its last word.

CREATE TABLE {schema}.batchwright_effects (
    job             text   NOT NULL,
    parameters_hash text   NOT NULL,
    lap             bigint NOT NULL,
    step            text   NOT NULL,
    partition       bigint NOT NULL,
    ordinal         bigint NOT NULL,
    output_index    bigint NOT NULL,
    effect_key      text   NOT NULL,
    state           text   NOT NULL,
    output          text,
    receipt         text,
    error           text   NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal, output_index)
) WITH (fillfactor = 70);
