"""Facts about something committed. Events follow the commit: one per chunk and per failure, never per item.

StepMoved alone tells of work that is not committed yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchwright.model.checkpoint import Counts
from batchwright.model.failure import Failure
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.model.waits import Waits


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A run has begun. `steps` pairs each step's name with its guarantee; `resumed` says that it goes on."""

    run: int
    job: str
    lap: int
    parameters: Mapping[str, Any]
    steps: tuple[tuple[str, str], ...]
    ledger: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step has begun, from these counts on. `fraction` is the part of the input already done, where known."""

    run: int
    step: str
    counts: Counts
    fraction: float | None


@dataclass(frozen=True, slots=True)
class ChunkCommitted:
    """A chunk is committed. Counts are those of the lap so far; waits are those of this run."""

    run: int
    step: str
    counts: Counts
    fraction: float | None
    waits: Waits = field(default_factory=Waits)


@dataclass(frozen=True, slots=True)
class StepMoved:
    """A chunk is in work, and so many items of the lap are done, not all committed. A few times a second at most.

    The one event that follows no commit: it is for displays. What it tells may be done again after a crash.
    """

    run: int
    step: str
    read: int
    fraction: float | None
    waits: Waits = field(default_factory=Waits)


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """An item was set aside, in a chunk that is committed."""

    run: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step has ended."""

    run: int
    step: str
    status: Status
    counts: Counts
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A run has ended; the last event, which every observer gets."""

    run: int
    result: JobResult


Event = JobStarted | StepStarted | ChunkCommitted | StepMoved | ItemFailed | StepFinished | JobFinished
