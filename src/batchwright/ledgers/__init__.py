"""The durable record of instances, executions, checkpoints and failures."""
