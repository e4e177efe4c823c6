-- What a run's job declared, with the version of batchwright; and which database a step wrote to.
-- {schema} is the schema's quoted name.

ALTER TABLE {schema}.batchwright_job_executions ADD COLUMN definition text NOT NULL DEFAULT '{"v":1,"value":{}}';

ALTER TABLE {schema}.batchwright_step_executions ADD COLUMN target_identity text NOT NULL DEFAULT '';
