"""An item that was set aside, with everything needed to find, understand and replay it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from batchwright.model.block import Place, Position


class Phase(StrEnum):
    """Where an item failed."""

    READ = "read"
    PROCESS = "process"
    WRITE = "write"


class FailureState(StrEnum):
    """What became of a failure."""

    OPEN = "open"
    REPLAYED = "replayed"
    IGNORED = "ignored"

    @property
    def source(self) -> "FailureState":
        """The only state from which this one is reached: what is replayed stays replayed."""
        return FailureState.IGNORED if self is FailureState.OPEN else FailureState.OPEN


class PayloadKind(StrEnum):
    """How a failure's payload is stored: as codec JSON, as the raw text of an unreadable record, or not whole."""

    JSON = "json"
    RAW = "raw"
    TRUNCATED = "truncated"
    DESCRIPTION = "description"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Failure:
    """An item set aside. `position` is where it starts in the input; `payload` is what the reader gave.

    Only a payload of kind `json` can be given to the processor again as it was; all others are read again by position.
    `digest` tells whether what stands there is still the same item; empty: that cannot be told. `note` says why a
    failure is ignored. `partition` is that of a step in partitions, each of which counts its items from 0.
    """

    step: str
    position: Position
    phase: Phase
    error_type: str
    error: str
    attempts: int
    place: Place
    at: datetime
    payload: str | None = None
    payload_kind: PayloadKind = PayloadKind.NONE
    state: FailureState = FailureState.OPEN
    digest: str = ""
    note: str = ""
    partition: int = 0

    @property
    def ordinal(self) -> int:
        """The count of items before this one in its step's input."""
        return self.position.ordinal


def failure_document(run: int, failure: Failure) -> dict[str, Any]:
    """A failure as plain JSON, with the names that the failure file and `failures --format` use."""
    return {
        "run": run,
        "step": failure.step,
        "ordinal": failure.ordinal,
        "source": failure.place.source,
        "line": failure.place.line,
        "byte": failure.place.byte,
        "detail": failure.place.detail,
        "phase": failure.phase.value,
        "error_type": failure.error_type,
        "error": failure.error,
        "attempts": failure.attempts,
        "at": failure.at.isoformat(),
        "state": failure.state.value,
        "note": failure.note or None,
        "payload_kind": failure.payload_kind.value,
        "payload": failure.payload,
        "partition": failure.partition,
    }
