-- Items over which worker processes died, with how many attempts that makes: one row an item, its last word.

CREATE TABLE batchwright_deaths (
    job             TEXT    NOT NULL,
    parameters_hash TEXT    NOT NULL,
    lap             INTEGER NOT NULL,
    step            TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    ordinal         INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    code            INTEGER,
    digest          TEXT    NOT NULL,
    PRIMARY KEY (job, parameters_hash, lap, step, partition, ordinal)
);
