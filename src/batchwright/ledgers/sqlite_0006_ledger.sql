-- Whom a step waited for: its reader, its function or workers, its writer.

ALTER TABLE batchwright_step_executions ADD COLUMN reading_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE batchwright_step_executions ADD COLUMN processing_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE batchwright_step_executions ADD COLUMN writing_seconds REAL NOT NULL DEFAULT 0;
