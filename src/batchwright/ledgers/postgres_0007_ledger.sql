-- Items over which worker processes died, with how many attempts that makes: one row an item, its last word.

CREATE TABLE {schema}.batchwright_deaths (
    job             text    NOT NULL,
    parameters_hash text    NOT NULL,
    lap             bigint  NOT NULL,
    step            text    NOT NULL,
    partition       bigint  NOT NULL,
    ordinal         bigint  NOT NULL,
    attempts        bigint  NOT NULL,
    code            bigint,
    digest          text    NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal)
);
