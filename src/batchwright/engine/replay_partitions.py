"""Replay the failures of a step partition by partition: each has its own, under its own checkpoint.

The one rule: a step without a plan is its own and only part.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from batchwright.engine.recall_checkpoint import ask
from batchwright.engine.run_step import RunContext
from batchwright.engine.split_step import parts_of
from batchwright.engine.stop import pause
from batchwright.model.failure import FailureState
from batchwright.model.partition import plan_of
from batchwright.model.replay_result import Replayed
from batchwright.ports import Scope
from batchwright.step import BoundStep


def replayed_parts(bound: BoundStep, context: RunContext, taken: FailureState) -> list[tuple[BoundStep, RunContext]]:
    """The partitions of a step that have failures in this state, or the step as a whole."""
    if bound.step.partitions is None:
        return [(bound, context)]
    key = context.step_key(bound.step.name)
    with closing(bound.writer.open(Scope(key, context.ledger, context.clock))) as sink:
        specs = plan_of(ask(sink, bound.step.write_retry, partial(pause, context.clock, context.stop)))
    if specs is None:
        return [(bound, context)]
    found = [(part, replace(context, partition=number)) for number, part in parts_of(bound, specs).items()]
    return [(part, within) for part, within in found if _has(within, bound.step.name, taken)]


def added_up(step: str, parts: Sequence[Replayed]) -> Replayed:
    """What became of the failures of a step."""
    numbers = ("replayed", "still_open", "changed", "ignored", "reopened", "unaccepted")
    sums = {name: sum(getattr(part, name) for part in parts) for name in numbers}
    return Replayed(step, **sums, reasons=tuple(reason for part in parts for reason in part.reasons))


def _has(context: RunContext, step: str, taken: FailureState) -> bool:
    return any(failure.state is taken for failure in context.ledger.load_failures(context.step_key(step)))
