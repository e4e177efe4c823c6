"""Why a step cannot be split into partitions, and what to do: said when it is built, and again when it is bound.

The one rule: what is not known to end up the same in any order is refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from batchwright.model.distinct import Distinct
from batchwright.model.errors import DeclarationError
from batchwright.model.partition import MOST_PARTITIONS
from batchwright.model.timeouts import check_count
from batchwright.ports import Writer
from batchwright.ports.partitions import Commutes, Splits
from batchwright.ports.runners import TakesPartitions

LEAVE = "leave partitions out"

Reason = tuple[str, ...]
"""What stands in the way, and the mend."""


def check_partitions(step: Any, reader: object = None) -> None:
    """Raise DeclarationError for a step that cannot be split. The reader is the step's own once that is bound."""
    check_count(f"step '{step.name}': partitions", step.partitions)
    reasons = (
        *_by_its_options(step),
        *_by_its_target(step),
        *_by_its_source(step, step.read if reader is None else reader),
    )
    for wrong, mend in reasons:
        raise DeclarationError(f"step '{step.name}': partitions cannot be used here", wrong, mend)


def _by_its_options(step: Any) -> Iterator[Reason]:
    if step.partitions > MOST_PARTITIONS:
        yield f"at most {MOST_PARTITIONS:,} are kept in one plan", "a few times as many as workers are enough"
    if isinstance(step.process, Distinct):
        yield "distinct looks at all items before: parts would not know of each other's keys", LEAVE
    if step.atomic:
        yield "an atomic step publishes all at once", "leave atomic or partitions out"
    if step.max_in_flight is not None:
        yield "each worker has one chunk of its own partition in flight", "leave max_in_flight out"
    if step.runner is not None and not isinstance(step.runner, TakesPartitions):
        yield "each worker is a thread with a partition of its own", "write workers=, or runner=Processes(…)"


def _by_its_target(step: Any) -> Iterator[Reason]:
    if isinstance(step.write, Commutes) and isinstance(step.write, Writer):
        if step.write.order_matters:
            yield step.write.order_matters
        return
    yield (
        f"{step.target_address} keeps no checkpoint for each partition beside its data",
        f"write into a table, with insert or upsert(…, unique_keys=True); or {LEAVE}",
    )


def _by_its_source(step: Any, reader: object) -> Iterator[Reason]:
    if isinstance(reader, Splits):
        if reader.undivided:
            yield reader.undivided, LEAVE
    elif not isinstance(reader, Sequence):
        yield f"{step.source_address} cannot be read in parts", "read a file, a query with key=, or a list"
