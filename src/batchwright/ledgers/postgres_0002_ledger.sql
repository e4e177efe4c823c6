-- Who asked this execution to stop, and when; empty: nobody. The one column that others than the owner may write.

ALTER TABLE {schema}.batchwright_job_executions ADD COLUMN stop_requested text NOT NULL DEFAULT '';
