-- What tells whether an item is still the one that failed, and why a failure is ignored.

ALTER TABLE batchwright_failures ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE batchwright_failures ADD COLUMN note TEXT NOT NULL DEFAULT '';
