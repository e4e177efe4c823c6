"""Checkpoints and failures as rows: columns and values, the same in every database.

The one rule: what is stored is text, integers and truth values; nothing of it needs this version of Python to be read.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.errors import FencedError
from batchwright.model.failure import Failure, FailureState, PayloadKind, Phase

COUNTS = tuple(field.name for field in fields(Counts))

KEY = ("job", "parameters_hash", "lap", "step", "partition")

PROGRESS = ("ordinal", "anchor", '"offset"', *COUNTS, "finished", "updated_at", "ground")
"""The columns of a checkpoint that change with every chunk, in the order of `progress_values`."""

MOVED = (*PROGRESS, "state")
"""The columns of a checkpoint that may change, in the order of `checkpoint_values`."""

FAILURE = (
    "ordinal", "anchor", '"offset"', "phase", "error_type", "error", "attempts",
    "source", "line", "byte", "detail", "payload", "payload_kind", "state", "at", "digest", "note",
)  # fmt: skip
"""The columns of a failure beside its key, in the order of `failure_values`."""

_count_values = attrgetter(*COUNTS)


def key_values(key: StepKey) -> tuple[Any, ...]:
    """The key as the columns hold it."""
    return (key.job, key.parameters_hash, key.lap, key.step, key.partition)


def checkpoint_values(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """A checkpoint as the columns of `MOVED` hold it, updated now."""
    return (*progress_values(checkpoint), storable(encode(dict(checkpoint.state))))


def progress_values(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """A checkpoint as the columns of `PROGRESS` hold it, updated now."""
    position = checkpoint.position
    return (
        position.ordinal,
        storable(encode(position.anchor)),
        position.offset,
        *_count_values(checkpoint.counts),
        checkpoint.finished,
        datetime.now(UTC).isoformat(),
        storable(encode([position.fingerprint, position.witness])),
    )


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """A checkpoint from the columns of `MOVED`."""
    ordinal, anchor, offset, *rest = row
    counts, (finished, _updated_at, ground, state) = rest[: len(COUNTS)], rest[len(COUNTS) :]
    position = Position(ordinal, decode(anchor), offset, *decode(ground))
    return Checkpoint(position, Counts(*counts), decode(state), bool(finished))


def failure_values(failure: Failure) -> tuple[Any, ...]:
    """A failure as the columns of `FAILURE` hold it."""
    position, place = failure.position, failure.place
    return (
        position.ordinal,
        storable(encode(position.anchor)),
        position.offset,
        failure.phase.value,
        failure.error_type,
        storable(failure.error),
        failure.attempts,
        storable(place.source),
        place.line,
        place.byte,
        storable(place.detail),
        None if failure.payload is None else storable(failure.payload),
        failure.payload_kind.value,
        failure.state.value,
        failure.at.isoformat(),
        failure.digest,
        storable(failure.note),
    )


def failure_of(row: Sequence[Any]) -> Failure:
    """A failure from the columns `step` and those of `FAILURE`, in order."""
    step, ordinal, anchor, offset, phase, error_type, error, attempts, source, line, byte, detail, *rest = row
    payload, payload_kind, state, at, digest, note = rest
    return Failure(
        step=step,
        position=Position(ordinal, decode(anchor), offset),
        phase=Phase(phase),
        error_type=error_type,
        error=error,
        attempts=attempts,
        place=Place(source, line, byte, detail),
        at=at.astimezone(UTC) if isinstance(at, datetime) else datetime.fromisoformat(at),
        payload=payload,
        payload_kind=PayloadKind(payload_kind),
        state=FailureState(state),
        digest=digest,
        note=note,
    )


def failure_columns() -> str:
    """The columns that `failure_of` takes, for a SELECT of one's own."""
    return ", ".join(("step", *FAILURE))


def storable(text: str) -> str:
    """The text with lone surrogates escaped (in JSON: without loss), since a database's texts are UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def fenced(key: StepKey) -> FencedError:
    """The error of whoever finds a checkpoint moved by somebody else."""
    return FencedError(
        f"step '{key.step}' of job '{key.job}': its checkpoint in the target is not where this run left it",
        "another run of the same work uses another ledger, or the target has lost commits of this one: it was restored "
        "from a backup, or a standby took over",
        "let the other run end, or see that the target is whole; then run it again",
    )
