-- What tells whether an item is still the one that failed, and why a failure is ignored.

ALTER TABLE {schema}.batchwright_failures ADD COLUMN digest text NOT NULL DEFAULT '';
ALTER TABLE {schema}.batchwright_failures ADD COLUMN note text NOT NULL DEFAULT '';
