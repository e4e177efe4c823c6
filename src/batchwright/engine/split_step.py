"""The parts of a step that has a plan: each a step of its own, read from its own part of the input.

The one rule: a part differs from the step as a whole in its reader, and in nothing that is stored of it but the number.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError
from batchwright.model.failure import Failure
from batchwright.model.partition import in_all, plan_of
from batchwright.ports import Sink
from batchwright.ports.partitions import HasPartitions, PartitionRows, Splits
from batchwright.ports.runners import TakesPartitions
from batchwright.step import BoundStep, set_fields


def parts_of(bound: BoundStep, specs: Sequence[Any]) -> dict[int, BoundStep]:
    """The parts by number, from 1 on. Raises GroundChangedError if the step is not read from such an input any more."""
    reader: object = bound.reader
    if not isinstance(reader, Splits):
        raise GroundChangedError(
            f"step '{bound.step.name}' was begun in {len(specs):,} partitions, and cannot be read in parts now",
            bound.step.source_address,
            f"read it as it was read then, or {BEGIN_AGAIN}",
        )
    step = copy(bound.step)
    # What holds for the step as a whole is the affair of whoever runs it as a whole.
    set_fields(step, partitions=len(specs), timeout_seconds=None, workers=1, runner=None)
    return {
        number: replace(bound, step=step, reader=reader.part(spec), runner=None)
        for number, spec in enumerate(specs, start=1)
    }


def carefully(part: BoundStep, whole: BoundStep, *, suspected: bool = True) -> BoundStep:
    """The part with its function called in a process of its own, if it is suspected, or the step bounds that."""
    runner: object = whole.step.runner
    step = whole.step
    if not isinstance(runner, TakesPartitions) or step.process is None:
        return part
    if suspected or runner.bounds_items or step.item_timeout_seconds is not None:
        return replace(part, runner=runner.for_one())
    return part


def rows_of(sink: Sink[Any]) -> PartitionRows:
    """What the target knows of all partitions of a step that has a plan in it."""
    assert isinstance(sink, HasPartitions)  # noqa: S101 - for the type checker: a plan is kept by such sinks only
    return sink.partitions()


def checkpoints_in(sink: Sink[Any], checkpoint: Checkpoint | None) -> Mapping[int, Checkpoint] | None:
    """How far each partition is; None for a step without a plan, and for one that is finished as a whole."""
    if checkpoint is None or checkpoint.finished or plan_of(checkpoint) is None:
        return None
    return rows_of(sink).checkpoints()


def standing_in(sink: Sink[Any], checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint with the counts of the step as a whole: those of a plan alone are nothing."""
    parts = checkpoints_in(sink, checkpoint)
    if parts is None or checkpoint is None:
        return checkpoint
    return replace(checkpoint, counts=in_all(parts.values()))


def failures_in(sink: Sink[Any], checkpoint: Checkpoint | None) -> Iterator[Failure]:
    """Every failure of a step in its target, those of its partitions included."""
    return sink.failures() if plan_of(checkpoint) is None else rows_of(sink).failures()
