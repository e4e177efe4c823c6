"""Take complete steps of a lap over into the next one, so that only the others are run again.

The one rule: the run that begins the lap says in the ledger which steps it keeps, and of which lap, before anything
else is done; whoever goes on with it marks those that are not marked yet, and runs none of them.

The states, and what holds in each when the process dies:
  begun     the ledger says what is kept; some of it may have no finished mark in the new lap yet: the next run sets it
  marked    what is kept is finished under the new lap, in its target and in the ledger: nobody runs it again
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from batchwright.engine.restart import Choices, identity_of, require_finished, require_same_addresses
from batchwright.engine.run_step import RunContext
from batchwright.engine.split_step import rows_of
from batchwright.engine.stop import pause
from batchwright.job import Job, ordered_steps
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import NotResumableError
from batchwright.model.execution import StepOutcome
from batchwright.model.failure import Failure, FailureState
from batchwright.model.partition import plan_of
from batchwright.model.status import Status
from batchwright.ports import Scope, Settles, Sink
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class _Mark:
    """A finished step: its checkpoint and failures, and the database that they are in; `parts` are its partitions."""

    checkpoint: Checkpoint
    failures: Sequence[Failure]
    identity: str
    transactional: bool
    parts: Mapping[int, "_Mark"] = field(default_factory=dict)


def steps_from(job: Job, names: Sequence[str]) -> list[str]:
    """These steps and all that come after them, in listed order."""
    before, reached = job.predecessors(), set(names)
    for step in ordered_steps(job):
        if reached.intersection(before[step.name]):
            reached.add(step.name)
    return [step.name for step in job.steps if step.name in reached]


def steps_to_keep(
    job: Job, bound: Mapping[str, BoundStep], from_step: str | None, last: RunContext | None
) -> dict[str, int]:
    """The steps that are kept when the job is run again from a step on, each with the lap that it was complete in.

    Raises GroundChangedError if a target does not show that it is.
    Raises NotResumableError if there is no such step, no lap to take anything over from, or one is not complete.
    """
    if from_step is None:
        return {}
    names = [step.name for step in job.steps]
    if from_step not in names:
        raise NotResumableError(f"job '{job.name}' has no step '{from_step}'", f"its steps are {', '.join(names)}")
    again = steps_from(job, [from_step])
    kept = [name for name in names if name not in again]
    for name in kept:
        found = None if last is None else last.ledger.last_step(last.step_key(name))
        if last is None or found is None or not found.status.complete:
            raise NotResumableError(
                f"job '{job.name}' cannot be run again from step '{from_step}' on",
                f"step '{name}', which would be left as it is, is not complete",
                "run the job to its end first",
            )
        _read_mark(bound[name], last, last.lap)
    return {} if last is None else dict.fromkeys(kept, last.lap)


def take_over(bound: Mapping[str, BoundStep], context: RunContext) -> None:
    """Mark what the run keeps as finished in its lap, as far as that was not done yet.

    Raises GroundChangedError if a target has no mark of the lap that it was complete in.
    """
    for name, lap in context.kept.items():
        known = context.ledger.last_step(context.step_key(name))
        if known is None or not known.status.complete:
            _write_mark(bound[name], context, _read_mark(bound[name], context, lap))


def _read_mark(bound: BoundStep, context: RunContext, lap: int) -> _Mark:
    key, ledger = context.key.step(lap, bound.step.name), context.ledger
    # It is not run again: what has become of its input does not matter.
    choices, wait = Choices(accept_input=True), partial(pause, context.clock, context.stop)
    found = ledger.last_step(key)
    if found is not None:
        require_same_addresses(bound, found, choices)
    with closing(bound.writer.open(Scope(key, ledger, context.clock))) as sink:
        checkpoint, _ = require_finished(bound, sink, wait, choices)
        assert checkpoint is not None  # noqa: S101 - for the type checker: nothing is adopted
        mark = _Mark(checkpoint, list(sink.failures()), identity_of(sink), isinstance(sink, Settles))
        return mark if plan_of(checkpoint) is None else replace(mark, parts=_marks_of_parts(mark, sink))


def _marks_of_parts(mark: _Mark, sink: Sink[Any]) -> dict[int, _Mark]:
    rows = rows_of(sink)
    failures = list(rows.failures())
    return {
        number: replace(mark, checkpoint=found, failures=[one for one in failures if one.partition == number])
        for number, found in rows.checkpoints().items()
    }


def _write_mark(bound: BoundStep, context: RunContext, mark: _Mark) -> None:
    """In the target first: what is complete there is never run again, whatever the ledger knows."""
    step, ledger, key = bound.step, context.ledger, context.step_key(bound.step.name)
    for number, part in mark.parts.items():
        _write_mark(bound, replace(context, partition=number), part)
    if mark.transactional:
        with closing(
            bound.writer.open(Scope(key, ledger, context.clock, claims=True, owned=context.ownership.check))
        ) as target:
            _commit_mark(target, mark.checkpoint, mark.failures)
    else:
        ledger.save_checkpoint(key, mark.checkpoint, mark.failures)
    made = ledger.begin_step(context.run, key, step.source_address, step.target_address, bound.writer.guarantee)
    every = [*mark.failures, *(failure for part in mark.parts.values() for failure in part.failures)]
    still_open = any(failure.state is FailureState.OPEN for failure in every)
    status = Status.COMPLETED_WITH_FAILURES if still_open else Status.COMPLETED
    outcome = StepOutcome(status, mark.checkpoint.counts, target_identity=mark.identity)
    ledger.end_step(made.id, outcome, mark.failures)


def _commit_mark(target: Sink[Any], checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
    known = target.recall()
    if known is None or not known.finished:
        target.commit(checkpoint, failures)
