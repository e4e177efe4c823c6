-- What a run's job declared, with the version of batchwright; and which database a step wrote to.

ALTER TABLE batchwright_job_executions ADD COLUMN definition TEXT NOT NULL DEFAULT '{"v":1,"value":{}}';

ALTER TABLE batchwright_step_executions ADD COLUMN target_identity TEXT NOT NULL DEFAULT '';
