-- What stood before the checkpoint in the input, so that a restart sees whether it still does; and which database this
-- is: an id that goes along with every copy of it, and that no other database has. {schema} is the schema's quoted name.

ALTER TABLE {schema}.batchwright_checkpoints ADD COLUMN ground text NOT NULL DEFAULT '{"v":1,"value":[null,null]}';

CREATE TABLE {schema}.batchwright_identity (id text NOT NULL);

INSERT INTO {schema}.batchwright_identity VALUES (gen_random_uuid()::text);
