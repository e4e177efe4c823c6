-- Who asked this execution to stop, and when; empty: nobody. The one column that others than the owner may write.

ALTER TABLE batchwright_job_executions ADD COLUMN stop_requested TEXT NOT NULL DEFAULT '';
