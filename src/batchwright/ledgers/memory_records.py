"""What the memory ledger asks of its records. The one rule: a record never changes; a changed one is a new one."""

from dataclasses import replace

from batchwright.model.block import Position
from batchwright.model.checkpoint import InstanceKey, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.execution import JobExecution, StepExecution, StepOutcome
from batchwright.model.status import Status


def status_of(found: JobExecution | StepExecution | None) -> Status | None:
    """The status of what was looked for, if it was found."""
    return None if found is None else found.status


def with_outcome(step: StepExecution, outcome: StepOutcome) -> StepExecution:
    """The step with this outcome; its status stays."""
    return replace(
        step,
        counts=outcome.counts,
        seconds=outcome.seconds,
        peak_memory_bytes=outcome.peak_memory_bytes,
        error=outcome.error,
        target_identity=outcome.target_identity,
        waits=outcome.waits,
    )


def through_codec(position: Position) -> Position:
    """The position as a durable ledger would give it back."""
    anchor, fingerprint = decode(encode([position.anchor, position.fingerprint]))
    return replace(position, anchor=anchor, fingerprint=fingerprint)


def of_instance(step: StepKey, key: InstanceKey) -> bool:
    """Whether a step is of this instance."""
    return (step.job, step.parameters_hash) == (key.job, key.parameters_hash)


def is_later(key: StepKey, other: StepKey) -> bool:
    """Whether the other is of the same step in a later lap, which may have fewer partitions."""
    return other.lap > key.lap and replace(other, lap=key.lap, partition=key.partition) == key
