-- What stood before the checkpoint in the input, so that a restart sees whether it still does; and which database this
-- is: an id that goes along with every copy of it, and that no other database has.

ALTER TABLE batchwright_checkpoints ADD COLUMN ground TEXT NOT NULL DEFAULT '{"v":1,"value":[null,null]}';

CREATE TABLE batchwright_identity (id TEXT NOT NULL);

INSERT INTO batchwright_identity VALUES (lower(hex(randomblob(16))));
