"""Where a step goes on, and whether the ground is still the one it was begun on.

The one rule: the target's word goes before the ledger's; where they cannot both be true, a person decides.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from batchwright.engine.recall_checkpoint import ask, ask_for
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.errors import GroundChangedError
from batchwright.model.execution import StepExecution
from batchwright.model.failure import Failure
from batchwright.ports import Clock, Ledger, Scope, Settles, Sink
from batchwright.step import BoundStep

BEGIN_AGAIN = "begin again with --again (run(…, again=True) in Python)"


def recall(
    bound: BoundStep, key: StepKey, sink: Sink[object], ledger: Ledger, pause: Callable[[float], None]
) -> Checkpoint | None:
    """The checkpoint to go on from; None for a step that has not begun.

    Raises GroundChangedError for another input, another target, or a target that lacks what was committed to it.
    """
    last = ledger.last_step(key)
    if last is not None:
        require_same_addresses(bound, last)
    checkpoint = ask(sink, bound.step.write_retry, pause)
    if last is not None and isinstance(sink, Settles):
        _target_is_whole(bound, last, checkpoint)
    ledger.void_failures(key, checkpoint.position.ordinal if checkpoint else 0)
    return checkpoint


def failures_behind(key: StepKey, checkpoint: Checkpoint, sink: Sink[object], ledger: Ledger) -> Iterator[Failure]:
    """Failures that a target keeps and the ledger, whose copy follows, may not have."""
    last = ledger.last_step(key)
    if isinstance(sink, Settles) and (last is None or last.counts.failed != checkpoint.counts.failed):
        return sink.failures()
    return iter(())


def lap_in_targets(
    bound: Mapping[str, BoundStep], key: InstanceKey, ledger: Ledger, clock: Clock, pause: Callable[[float], None]
) -> tuple[int, bool]:
    """The highest lap that transactional targets know, and whether it is finished in all of them.

    A ledger that is new, or was lost, or is one of several, must not take a lap for new that its targets have seen. A
    target that cannot be reached now is waited for, as a step does.
    """
    laps: dict[str, int] = {}
    for name, step in bound.items():
        with closing(step.writer.open(Scope(key.step(1, name), ledger, clock))) as sink:
            if isinstance(sink, Settles):
                laps[name] = ask_for(sink, sink.last_lap, step.step.write_retry, pause)
    highest = max(laps.values(), default=0)
    finished = True
    for name in laps:
        with closing(bound[name].writer.open(Scope(key.step(highest, name), ledger, clock))) as sink:
            checkpoint = ask(sink, bound[name].step.write_retry, pause) if highest else None
            finished = finished and checkpoint is not None and checkpoint.finished
    return highest, finished


def require_finished(bound: BoundStep, key: StepKey, sink: Sink[object], pause: Callable[[float], None]) -> Checkpoint:
    """The finished mark of a step that the ledger calls complete. Raises GroundChangedError if its target lacks it."""
    checkpoint = ask(sink, bound.step.write_retry, pause)
    if checkpoint is None or not checkpoint.finished:
        raise GroundChangedError(
            f"step '{key.step}' was completed, but its target does not show it",
            f"{bound.step.target_address} has no finished mark of it",
            f"restore the target, or {BEGIN_AGAIN}",
        )
    return checkpoint


def require_same_addresses(bound: BoundStep, last: StepExecution) -> None:
    """Raise GroundChangedError if the step reads or writes elsewhere than it did then."""
    for word, then, now in (
        ("input", last.source, bound.step.source_address),
        ("target", last.target, bound.step.target_address),
    ):
        if then != now:
            raise GroundChangedError(
                f"step '{bound.step.name}' was begun with another {word}",
                f"it was {then}, now it is {now}",
                f"change it back, or {BEGIN_AGAIN}",
            )


def _target_is_whole(bound: BoundStep, last: StepExecution, checkpoint: Checkpoint | None) -> None:
    # A transactional target is never behind the ledger, whose copy follows it.
    found = checkpoint.counts.read if checkpoint else 0
    if found < last.counts.read:
        raise GroundChangedError(
            f"step '{bound.step.name}': its target lacks work that was committed to it",
            f"{last.counts.read:,} items were committed, {bound.step.target_address} knows of {found:,}",
            f"restore the target, or {BEGIN_AGAIN}",
        )
