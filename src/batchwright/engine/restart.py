"""Where a step goes on, and whether the ground is still the one it was begun on.

The one rule: the target's word goes before the ledger's; where they cannot both be true, and where the input is not
what it was, a person decides, before anything is written.

What may change between two runs, and what is said (each with exit code 2, before a single item is written):
  input       another address; what was read is missing, shorter, replaced or other     --accept-input, --again
  finished    its input has changed or grown since (one that is gone is no change)      --accept-input, --again
  target      another address; another database at the same; work lost; mark gone       --adopt, --again
              a table gone that unfinished work has rows in                             --adopt, --again
              a staging table gone                                                      --again
  declaration other steps, order, options: see `describe_job`                           either, as it says
  laps        the targets know one that this ledger has never seen: see `choose_lap`    --adopt, --again
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from batchwright.abilities import Fingerprints, HasIdentity, MissesTables
from batchwright.engine.recall_checkpoint import ask
from batchwright.engine.split_step import parts_of, rows_of, standing_in
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import (
    ACCEPT_INPUT,
    ADOPT,
    BEGIN_AGAIN,
    LEAVE_FINISHED,
    ConfigurationError,
    GroundChangedError,
)
from batchwright.model.execution import StepExecution
from batchwright.model.failure import Failure
from batchwright.model.partition import plan_of
from batchwright.ports import Ledger, Reader, Settles, Sink
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person has decided about ground that has changed. One that was not needed changes nothing."""

    accept_input: bool = False
    adopt: bool = False


def recall(
    bound: BoundStep,
    key: StepKey,
    sink: Sink[object],
    ledger: Ledger,
    pause: Callable[[float], None],
    choices: Choices = Choices(),
) -> Checkpoint | None:
    """The checkpoint to go on from; None for a step that has not begun.

    Raises GroundChangedError for another input, another target, or a target that lacks what was committed to it, unless
    the choices allow it.
    """
    checkpoint = recall_same_target(bound, key, sink, ledger, pause, choices)
    require_whole(bound, checkpoint)
    if checkpoint is not None:
        found = checkpoint.position
        position = on_same_input(bound, found, choices, finished=checkpoint.finished)
        checkpoint = replace(checkpoint, position=position)
    ledger.void_failures(key, checkpoint.position.ordinal if checkpoint else 0)
    return checkpoint


def recall_same_target(
    bound: BoundStep,
    key: StepKey,
    sink: Sink[object],
    ledger: Ledger,
    pause: Callable[[float], None],
    choices: Choices,
) -> Checkpoint | None:
    """The checkpoint in the target. Raises GroundChangedError as `recall` does for another input or target."""
    last = ledger.last_step(key)
    if last is not None:
        require_same_addresses(bound, last, choices)
    checkpoint = ask(sink, bound.step.write_retry, pause)
    require_same_target(bound, last, checkpoint, sink, key, choices)
    require_tables(bound, checkpoint, sink, choices)
    return checkpoint


def require_whole(bound: BoundStep, checkpoint: Checkpoint | None) -> None:
    """Raise GroundChangedError if a step was begun in partitions, and is to be gone on with as a whole."""
    specs = plan_of(checkpoint)
    if checkpoint is not None and not checkpoint.finished and specs is not None:
        raise GroundChangedError(
            f"step '{bound.step.name}' was begun in partitions",
            f"{bound.step.target_address} has a plan of {len(specs):,}",
            f"declare partitions= again, however many: the plan is gone on with; or {BEGIN_AGAIN}",
        )


def failures_behind(key: StepKey, checkpoint: Checkpoint, sink: Sink[object], ledger: Ledger) -> Iterator[Failure]:
    """Failures that a target keeps and the ledger, whose copy follows, may not have."""
    last = ledger.last_step(key)
    if isinstance(sink, Settles) and (last is None or last.counts.failed != checkpoint.counts.failed):
        return sink.failures()
    return iter(())


def require_finished(
    bound: BoundStep,
    sink: Sink[object],
    pause: Callable[[float], None],
    choices: Choices = Choices(),
) -> tuple[Checkpoint | None, str]:
    """The finished mark of a step that the ledger calls complete, and how its input has changed since, if accepted.

    None if its target lacks the mark and is to be adopted. Raises GroundChangedError if it is not to be adopted, and if
    the input has changed or grown since and that is not accepted.
    """
    return finished_mark(bound, ask(sink, bound.step.write_retry, pause), choices, sink)


def finished_mark(
    bound: BoundStep, checkpoint: Checkpoint | None, choices: Choices, sink: Sink[object]
) -> tuple[Checkpoint | None, str]:
    """The same for a target that has been asked."""
    if checkpoint is not None and checkpoint.finished:
        return checkpoint, require_same_ground(bound, checkpoint, choices, sink)
    if not choices.adopt:
        raise GroundChangedError(
            f"step '{bound.step.name}' was completed, but its target does not show it",
            f"{bound.step.target_address} has no finished mark of it",
            f"restore the target, {ADOPT}, or {BEGIN_AGAIN}",
        )
    return None, ""


def on_same_input(bound: BoundStep, position: Position, choices: Choices, *, finished: bool) -> Position:
    """The position to read on from. Raises GroundChangedError for an input that is not what it was there."""
    found = require_same_input(bound, position, choices, finished=finished)
    if choices.accept_input:
        position = replace(position, witness=None)
    if isinstance(bound.reader, Fingerprints) and not finished and (found or position.fingerprint is None):
        # Accepted, or of a version that kept none: from here on it is compared with what is there now.
        position = replace(position, fingerprint=bound.reader.fingerprint(position))
    return position


def require_same_input(bound: BoundStep, position: Position, choices: Choices, *, finished: bool) -> str:
    """How the input differs from what it was at this position. Raises GroundChangedError unless that is accepted."""
    found = changes(bound.reader, position, finished=finished)
    goes_on = finished or not found or _reads_on(bound.reader, position)
    if found and not (choices.accept_input and goes_on):
        way = LEAVE_FINISHED if finished else ACCEPT_INPUT
        raise GroundChangedError(
            f"the input of step '{bound.step.name}' has changed since it was {'completed' if finished else 'begun'}",
            found if goes_on else f"{found}; there is nothing to go on from any more",
            f"put it back as it was, {way}, or {BEGIN_AGAIN}"
            if goes_on
            else f"put it back as it was, or {BEGIN_AGAIN}",
        )
    return found


def _reads_on(reader: Reader[object], position: Position) -> bool:
    """Whether an input that has changed can be read from this position on at all: a block of it is."""
    reached = 0
    try:
        with closing(_closable(reader.read(replace(position, witness=None, fingerprint=None)))) as blocks:
            for block in blocks:
                reached += len(block)
                if reached >= position.offset:
                    break
    except ConfigurationError:
        return False
    except Exception:  # noqa: BLE001 - what else is in its way the step finds out, and says
        return True
    return reached >= position.offset


def _closable(blocks: Iterator[Any]) -> Generator[Any, None, None]:
    yield from blocks


def require_same_ground(bound: BoundStep, checkpoint: Checkpoint, choices: Choices, sink: Sink[object]) -> str:
    """As `require_same_input`, of a step that may have been split: then every part is compared, read or not.

    What is different in a part is not accepted before the step is finished: where other records stand, the ends of the
    parts are not between two of them any more.
    """
    specs, finished = plan_of(checkpoint), checkpoint.finished
    if specs is None:
        return require_same_input(bound, checkpoint.position, choices, finished=finished)
    found, known = "", rows_of(sink).checkpoints()
    for number, part in parts_of(bound, specs).items():
        at = known.get(number, Checkpoint(Position(0)))
        found = found or changes(part.reader, at.position, finished=at.finished)
    if found and not (finished and choices.accept_input):
        raise split_otherwise(bound.step.name, found)
    return found


def split_otherwise(step: str, found: str) -> GroundChangedError:
    """The error of an input that is not the one that was split."""
    return GroundChangedError(
        f"the input of step '{step}' has changed since it was split into partitions",
        found,
        f"put it back as it was, or {BEGIN_AGAIN}",
    )


def changes(reader: Reader[object], position: Position, *, finished: bool) -> str:
    """What is different in the input from what it was when this position was reached, in words; empty: nothing."""
    return reader.changes(position, finished=finished) if isinstance(reader, Fingerprints) else ""


def require_same_addresses(
    bound: BoundStep,
    last: StepExecution,
    choices: Choices = Choices(),
) -> None:
    """Raise GroundChangedError if the step reads or writes elsewhere than it did then."""
    for word, then, now, accepted, way in (
        ("input", last.source, bound.step.source_address, choices.accept_input, ACCEPT_INPUT),
        ("target", last.target, bound.step.target_address, choices.adopt, ADOPT),
    ):
        if then != now and not accepted:
            raise GroundChangedError(
                f"step '{bound.step.name}' was begun with another {word}",
                f"it was {then}, now it is {now}",
                f"change it back, {way}, or {BEGIN_AGAIN}",
            )


def identity_of(sink: Sink[object]) -> str:
    """Which database a sink writes to; empty where that is not known, or not yet."""
    return sink.identity() if isinstance(sink, HasIdentity) else ""


def require_same_target(
    bound: BoundStep,
    last: StepExecution | None,
    checkpoint: Checkpoint | None,
    sink: Sink[object],
    key: StepKey,
    choices: Choices,
) -> None:
    """Raise GroundChangedError for a target that is another one, or knows less than was committed to it."""
    if choices.adopt or not isinstance(sink, Settles):
        return
    _require_identity(bound, last, sink)
    # A transactional target is never behind the ledger, whose copy follows it.
    found, known = _done_in(sink, checkpoint).read, last.counts.read if last else 0
    if found < known:
        raise GroundChangedError(
            f"step '{key.step}': its target lacks work that was committed to it",
            f"{known:,} items were committed, {bound.step.target_address} knows of {found:,}",
            f"restore the target, {ADOPT}, or {BEGIN_AGAIN}",
        )
    lap = sink.last_lap()
    if lap > key.lap:
        raise GroundChangedError(
            f"step '{key.step}': its target is ahead of this ledger, which was restored or is another one",
            f"the target knows lap {lap} of this work, the ledger lap {key.lap}",
            f"restore the ledger, {ADOPT}, or {BEGIN_AGAIN}",
        )


def _done_in(sink: Sink[object], checkpoint: Checkpoint | None) -> Counts:
    """What the step has done, by its target's word; in all its partitions, if it has any."""
    standing = standing_in(sink, checkpoint)
    return Counts() if standing is None else standing.counts


def require_tables(bound: BoundStep, checkpoint: Checkpoint | None, sink: Sink[object], choices: Choices) -> None:
    """Raise GroundChangedError for a table that unfinished work has rows in, and that is gone with them.

    One of a user's own may be begun anew with the rest, by his choice. With a staging table too few would be published.
    """
    if checkpoint is None or checkpoint.finished or not isinstance(sink, MissesTables):
        return
    outputs = _done_in(sink, checkpoint).outputs
    gone = ", ".join(sink.missing(outputs))
    if gone and bound.step.atomic:
        raise GroundChangedError(
            f"step '{bound.step.name}': its staging table is not as it was left",
            f"{outputs:,} outputs were staged, {gone} is gone from {bound.step.target_address}",
            f"restore it, or {BEGIN_AGAIN}",
        )
    if gone and not choices.adopt:
        raise GroundChangedError(
            f"step '{bound.step.name}': a table that it has written to is gone",
            f"{outputs:,} outputs were committed, {gone} is gone from {bound.step.target_address}",
            f"restore it, {ADOPT} and write the rest alone, or {BEGIN_AGAIN}",
        )


def _require_identity(bound: BoundStep, last: StepExecution | None, sink: Sink[object]) -> None:
    then, now = last.target_identity if last else "", identity_of(sink)
    if then and now and then != now:
        raise GroundChangedError(
            f"step '{bound.step.name}' was begun in another database",
            f"{bound.step.target_address} is not the one it was: its batchwright_identity was {then}, now it is {now}",
            f"go back to that one, {ADOPT}, or {BEGIN_AGAIN}",
        )
