"""An item that was set aside, with everything needed to find, understand and replay it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

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

    @property
    def ordinal(self) -> int:
        """The count of items before this one in its step's input."""
        return self.position.ordinal
