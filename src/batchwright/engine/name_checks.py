"""What the next run of an interrupted one compares before it writes anything, in words, from what the ledger knows.

The one rule: it opens nothing and compares nothing; what it names is what `restart` and `describe_job` look at.
"""

from collections.abc import Iterator, Sequence

from batchwright.model.execution import JobExecution, StepExecution


def name_checks(execution: JobExecution, steps: Sequence[StepExecution]) -> list[str]:
    """One sentence each; none for a run that is complete or still at work."""
    if execution.status.complete or execution.status.live:
        return []
    told = [f"the job has the steps and options that run {execution.id} had"] if execution.definition else []
    for step in steps:
        told.extend(_checks_of(step))
    return told


def _checks_of(step: StepExecution) -> Iterator[str]:
    read = step.counts.read
    if step.status.complete:
        yield f"step '{step.key.step}': {step.source} is not other or longer than it was, if it is still there"
        yield f"step '{step.key.step}': {step.target} shows that it is finished"
        return
    if read:
        yield f"step '{step.key.step}': the first {read:,} items of {step.source} are what they were"
    identity = f", in the database {step.target_identity}" if step.target_identity else ""
    yield f"step '{step.key.step}': {step.target} has all that was committed to it{identity}"
