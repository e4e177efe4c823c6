-- The keys that `distinct` has let pass, committed together with the checkpoint of their chunk. `scope` says whose keys
-- they are (job, parameters, step, partition, and lap unless they count across laps), `digest` is the key's, 128 bits.

CREATE TABLE batchwright_keys (
    scope  BLOB    NOT NULL,
    digest BLOB    NOT NULL,
    lap    INTEGER NOT NULL,
    PRIMARY KEY (scope, digest)
) WITHOUT ROWID;
