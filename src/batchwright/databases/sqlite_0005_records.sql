-- Keys that `distinct` has let pass lately: one row a chunk, its digests one behind the other. They move to
-- batchwright_keys many at once, since each of them touches a page of its own there. `total` counts the keys from the
-- first row on; `stamp` tells a row from one that was rolled back.

CREATE TABLE batchwright_new_keys (
    scope   BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    stamp   BLOB    NOT NULL,
    total   INTEGER NOT NULL,
    lap     INTEGER NOT NULL,
    digests BLOB    NOT NULL,
    PRIMARY KEY (scope, number)
) WITHOUT ROWID;
