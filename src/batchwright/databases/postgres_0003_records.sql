-- The keys that `distinct` has let pass, committed together with the checkpoint of their chunk. `scope` says whose keys
-- they are (job, parameters, step, partition, and lap unless they count across laps), `digest` is the key's, 128 bits.

CREATE TABLE {schema}.batchwright_keys (
    scope  bytea  NOT NULL,
    digest bytea  NOT NULL,
    lap    bigint NOT NULL,
    PRIMARY KEY (scope, digest)
);
