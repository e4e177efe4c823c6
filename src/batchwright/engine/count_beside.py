"""Count what the other partitions of a step have done, so that a limit of failures holds for the step as a whole.

The one rule: near a limit that is a count, those who commit failures do so one after the other, each of them knowing
what the one before has committed: with a limit of 10 the 11th is never committed, however many are at work. A limit
that is a rate is judged by what is committed at that moment.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from batchwright.model.checkpoint import Counts
from batchwright.model.policy import Skip
from batchwright.ports import Sink
from batchwright.ports.partitions import HasPartitions
from batchwright.step import Step


def counting_beside(sink: Sink[Any], step: Step[Any, Any], limit: Skip | None) -> Callable[[Counts], Counts] | None:
    """The counts of all other partitions, asked in the transaction of a chunk whose own counts are given."""
    if not isinstance(sink, HasPartitions):
        return None
    most = limit.most if limit else None
    # As many failures as the others may be about to commit.
    margin = step.chunk_size * (step.partitions or 1)

    def beside(ours: Counts) -> Counts:
        rows = sink.partitions(writing=True)
        others = rows.elsewhere(exactly=False)
        if most is not None and ours.failed + others.failed + margin > most:
            others = rows.elsewhere(exactly=True)
        return others

    return beside


def limit_of(step: Step[Any, Any], most: int | str | None) -> Skip | None:
    """What a step skips; with the limit of this run, where it has one."""
    return step.skip if step.skip is None or most is None else replace(step.skip, limit=most)
