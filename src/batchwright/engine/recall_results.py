"""Recall from the ledger what came of a run's steps, where their results are lost."""

from batchwright.engine.run_step import RunContext
from batchwright.job import Job
from batchwright.model.result import StepResult


def recorded_results(job: Job, context: RunContext) -> dict[str, StepResult]:
    """The steps as the ledger knows them, for a run whose results are lost."""
    found = {step.name: context.ledger.last_step(context.step_key(step.name)) for step in job.steps}
    return {
        name: StepResult(
            name, last.status, last.counts, last.seconds, last.peak_memory_bytes, last.error, waits=last.waits
        )
        if last
        else StepResult(name, None)
        for name, last in found.items()
    }
