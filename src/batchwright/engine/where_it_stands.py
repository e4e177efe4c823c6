"""Where work that was interrupted stands: what each step has committed, and the place at which it would go on.

The one rule: it is only looked at; nothing is claimed, put back or written. So the last word has the restart itself: a
staged file's latest second may still be cut off, an old owner may still commit.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from batchwright.engine.record_failure import place_of
from batchwright.engine.split_step import standing_in
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.partition import plan_of
from batchwright.ports import CheckpointStore, Clock, History, Scope, Settles
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class StepStanding:
    """What a step has committed. `place` is where it goes on; empty: from the start, or it is complete.

    With `partitions` it goes on behind the last chunk of each. `staged` are items of an atomic step: nobody sees them.
    Not `asked`: its target, which may know more than the ledger, could not be.
    """

    step: str
    begun: bool
    complete: bool
    counts: Counts
    place: str = ""
    partitions: int = 0
    staged: bool = False
    asked: bool = True


def where_it_stands(
    run: JobExecution, bound: Mapping[str, BoundStep], history: History, store: CheckpointStore, clock: Clock
) -> tuple[StepStanding, ...]:
    """How far each step of this run's lap is; by the ledger alone where a step is not at hand or its target not there.

    `store` is handed to sinks and must hold nothing: only targets that keep their checkpoints themselves are asked.
    """
    last = {step.key.step: step for step in history.steps(run.id)}
    found = (_standing(name, run, last.get(name), bound.get(name), (history, store, clock)) for name in run.steps)
    return tuple(replace(each, staged=each.step in run.atomic and not each.complete) for each in found)


def _standing(
    name: str,
    run: JobExecution,
    last: StepExecution | None,
    bound: BoundStep | None,
    around: tuple[History, CheckpointStore, Clock],
) -> StepStanding:
    if last is None:
        return StepStanding(name, begun=False, complete=False, counts=Counts())
    if last.status.complete:
        return StepStanding(name, begun=True, complete=True, counts=last.counts)
    checkpoint, asked = _checkpoint(bound, run.key.step(run.lap, name), around)
    if (specs := plan_of(checkpoint)) is not None and checkpoint is not None and not checkpoint.finished:
        counts = checkpoint.counts if checkpoint.counts.read > last.counts.read else last.counts
        return StepStanding(name, True, False, counts, "the last chunk of each partition", partitions=len(specs))
    if checkpoint is None:
        read = last.counts.read
        return StepStanding(name, True, False, last.counts, f"item {read + 1:,}" if read else "", asked=asked)
    place, found = f"item {checkpoint.position.ordinal + 1:,}", bound and place_of(bound.reader, checkpoint.position)
    if found:
        place = str(found) if "item" in found.detail else f"{place} ({found})"
    return StepStanding(name, True, checkpoint.finished, checkpoint.counts, place)


def _checkpoint(
    bound: BoundStep | None, key: StepKey, around: tuple[History, CheckpointStore, Clock]
) -> tuple[Checkpoint | None, bool]:
    """The target's word where it has one, else the ledger's; and whether that is all that can be known."""
    history, store, clock = around
    if bound is not None:
        try:
            with closing(bound.writer.open(Scope(key, store, clock))) as sink:
                if isinstance(sink, Settles):
                    return standing_in(sink, sink.recall()), True
        except Exception:  # noqa: BLE001 - a target that cannot be asked now: then the ledger's word is shown
            return None, False
    return history.load_checkpoint(key), bound is not None
