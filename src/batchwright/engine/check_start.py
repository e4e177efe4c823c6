"""Look, before anything is recorded, whether rows would be added a second time or anything stands in the way.

The one rule: nothing is written here, neither in targets nor in the ledger.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from batchwright.abilities import Looks
from batchwright.engine.compensate_lap import is_undone
from batchwright.engine.restart import (
    Choices,
    finished_mark,
    require_same_addresses,
    require_same_ground,
    require_same_target,
    require_tables,
    require_whole,
)
from batchwright.engine.run_step import RunContext, check_adapters
from batchwright.engine.split_step import standing_in
from batchwright.job import Job
from batchwright.model.errors import ConfirmationError, DamagedOutputError, GroundChangedError
from batchwright.model.execution import StepExecution
from batchwright.ports import Scope, Settles
from batchwright.step import BoundStep


def require_confirmation(bound: Mapping[str, BoundStep], context: RunContext, *, unseen: bool = False) -> None:
    """Beginning again would add rows a second time: a person has to say yes. `unseen`: only targets know of them."""
    for name, step in bound.items():
        adds = getattr(step.writer, "adds_again", False)
        last = context.ledger.last_step(context.step_key(name))
        outputs = last.counts.outputs if last is not None else _outputs_in(step, context) if adds and unseen else 0
        if adds and outputs > 0 and _is_visible(step, context):
            raise ConfirmationError(
                f"step '{name}' adds rows: beginning again writes {outputs:,} of them a second time",
                step.step.target_address,
                "say yes with --yes (run(…, yes=True) in Python), or use upsert",
            )


def _outputs_in(step: BoundStep, context: RunContext) -> int:
    key = context.step_key(step.step.name)
    with closing(step.writer.open(Scope(key, context.ledger, context.clock))) as sink:
        standing = standing_in(sink, sink.recall()) if isinstance(sink, Settles) else None
    return 0 if standing is None else standing.counts.outputs


def _is_visible(step: BoundStep, context: RunContext) -> bool:
    """Whether others see what a step has written: nothing of what is undone; of an atomic one all, or nothing."""
    if not step.step.atomic:
        return not is_undone(step.step, context)
    key = context.step_key(step.step.name)
    with closing(step.writer.open(Scope(key, context.ledger, context.clock))) as sink:
        checkpoint = sink.recall()
    return checkpoint is not None and checkpoint.finished


def check_first_steps(job: Job, bound: Mapping[str, BoundStep], context: RunContext | None) -> None:
    """Find what stands in the way of the steps that wait for no other, before anything is recorded."""
    for name, before in job.predecessors().items():
        last = None if context is None else context.ledger.last_step(context.step_key(name))
        if name in bound and not before and not (last is not None and last.status.complete):
            check_adapters(bound[name])


def check_ground(bound: Mapping[str, BoundStep], context: RunContext, *, unseen: bool = False) -> bool:
    """Raise GroundChangedError if a step that an earlier run of the lap has begun stands on other ground than then.

    With `unseen`, steps of which the ledger knows nothing are looked at, too. Whatever else is in a step's way, a
    target that cannot be reached now, is left to the step: it waits, and says so. False: a step that was completed is
    to be gone on with, since its target, which is adopted, does not show that it was.
    """
    shown = True
    for name, step in bound.items():
        last = context.ledger.last_step(context.step_key(name))
        if last is not None:
            require_same_addresses(step, last, choices_for(name, context))
        if last is not None or unseen:
            shown &= _check_standing(step, last, context)
    return shown


def choices_for(step: str, context: RunContext) -> Choices:
    """What is decided about the ground of a step. One that was kept when the lap was begun is not read again."""
    return replace(context.choices, accept_input=True) if step in context.kept else context.choices


def _check_standing(step: BoundStep, last: StepExecution | None, context: RunContext) -> bool:
    key, choices = context.step_key(step.step.name), choices_for(step.step.name, context)
    try:
        with closing(step.writer.open(Scope(key, context.ledger, context.clock, adopt=choices.adopt))) as sink:
            checkpoint = sink.look() if isinstance(sink, Looks) else sink.recall()
            if last is not None and last.status.complete:
                return finished_mark(step, checkpoint, choices, sink)[0] is not None
            require_same_target(step, last, checkpoint, sink, key, choices)
            if step.step.partitions is None:
                require_whole(step, checkpoint)
            require_tables(step, checkpoint, sink, choices)
            if checkpoint is not None:
                require_same_ground(step, checkpoint, choices, sink)
    except GroundChangedError:
        raise
    except DamagedOutputError as damaged:
        raise GroundChangedError(damaged.wrong, damaged.found, damaged.mend) from damaged
    except Exception:  # noqa: BLE001 - the step asks again, waits for what passes, and fails with what does not
        return True
    return True
