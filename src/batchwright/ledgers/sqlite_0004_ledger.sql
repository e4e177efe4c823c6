-- What the run of a step's execution is: an attempt at the lap (run), or at its failures (replay).

ALTER TABLE batchwright_step_executions ADD COLUMN kind TEXT NOT NULL DEFAULT 'run';

-- `kind` goes before `run`: the newest execution of one kind is looked for.
DROP INDEX batchwright_executions_of_step;
CREATE INDEX batchwright_executions_of_step
    ON batchwright_step_executions (job, parameters_hash, lap, step, partition, kind, run);

-- Steps of a run that are not run again, each with the lap that it was complete in.
ALTER TABLE batchwright_job_executions ADD COLUMN kept TEXT NOT NULL DEFAULT '{"v":1,"value":{}}';
