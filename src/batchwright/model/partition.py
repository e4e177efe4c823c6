"""The plan of a step in partitions: how its input was split, once, when its lap was begun.

The one rule: the plan is part of the checkpoint that the step as a whole has in its target, under partition 0. It is
stored before the first row is written, and whatever is declared later, it is the plan that is gone on with.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts

PLAN = "partitions"
"""Where in the state of a checkpoint the plan stands."""

MOST_PARTITIONS = 10_000


def planned(specs: Sequence[Any]) -> Checkpoint:
    """The checkpoint with which a step in partitions begins."""
    return Checkpoint(Position(0), state={PLAN: list(specs)})


def plan_of(checkpoint: Checkpoint | None) -> Sequence[Any] | None:
    """The parts of a step's input, the first of them partition 1; None for a step that has no plan."""
    return None if checkpoint is None else checkpoint.state.get(PLAN)


def in_all(checkpoints: Iterable[Checkpoint]) -> Counts:
    """The counts of the step as a whole."""
    return sum((checkpoint.counts for checkpoint in checkpoints), Counts())


def unfinished(specs: Sequence[Any], checkpoints: Mapping[int, Checkpoint]) -> list[int]:
    """The partitions that are still to be done, in order."""
    return [
        number for number in range(1, len(specs) + 1) if number not in checkpoints or not checkpoints[number].finished
    ]
