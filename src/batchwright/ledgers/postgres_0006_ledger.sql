-- Whom a step waited for: its reader, its function or workers, its writer.

ALTER TABLE {schema}.batchwright_step_executions
    ADD COLUMN reading_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN processing_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN writing_seconds double precision NOT NULL DEFAULT 0;
