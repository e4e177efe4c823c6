"""The durable statement "done up to this position", what it is stored under, and the counts it carries."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchwright.model.block import Position


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of input items since the start of the lap: read = written + filtered + failed, always.

    `outputs`, `retried`, `commits` and `rollbacks` stand beside them and count other things than input items.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    failed_read: int = 0
    failed_process: int = 0
    failed_write: int = 0
    outputs: int = 0
    retried: int = 0
    commits: int = 0
    rollbacks: int = 0

    @property
    def failed(self) -> int:
        """Items set aside while reading, processing or writing."""
        return self.failed_read + self.failed_process + self.failed_write

    @property
    def balanced(self) -> bool:
        """Whether every item read is accounted for."""
        return self.read == self.written + self.filtered + self.failed

    def __add__(self, other: "Counts") -> "Counts":
        """The sum, field by field."""
        return Counts(
            self.read + other.read,
            self.written + other.written,
            self.filtered + other.filtered,
            self.failed_read + other.failed_read,
            self.failed_process + other.failed_process,
            self.failed_write + other.failed_write,
            self.outputs + other.outputs,
            self.retried + other.retried,
            self.commits + other.commits,
            self.rollbacks + other.rollbacks,
        )

    def __sub__(self, other: "Counts") -> "Counts":
        """What came since, field by field."""
        return Counts(
            self.read - other.read,
            self.written - other.written,
            self.filtered - other.filtered,
            self.failed_read - other.failed_read,
            self.failed_process - other.failed_process,
            self.failed_write - other.failed_write,
            self.outputs - other.outputs,
            self.retried - other.retried,
            self.commits - other.commits,
            self.rollbacks - other.rollbacks,
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything before `position` is durable (or set aside), and these are the counts so far.

    `state` belongs to the sink that stored it (a staged file keeps its length there). `finished` is the mark that the
    step is complete in its target.
    """

    position: Position
    counts: Counts = field(default_factory=Counts)
    state: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """Which work: a job's name and the hash of its identifying parameters."""

    job: str
    parameters_hash: str

    @property
    def digest(self) -> str:
        """A short name for file names and locks, equal for equal keys in every process."""
        return _digest(self.job, self.parameters_hash)

    def step(self, lap: int, step: str) -> "StepKey":
        """What everything durable about a step of a lap is stored under."""
        return StepKey(self.job, self.parameters_hash, lap, step)


@dataclass(frozen=True, slots=True)
class StepKey:
    """What everything durable about a step is stored under; never a ledger's own id."""

    job: str
    parameters_hash: str
    lap: int
    step: str
    partition: int = 0

    @property
    def digest(self) -> str:
        """A short name for stage files, equal for equal keys in every process."""
        return _digest(self.job, self.parameters_hash, str(self.lap), self.step, str(self.partition))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
