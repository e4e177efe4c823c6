"""What the ledger knows: instances, executions of jobs and steps, and groups of failures. Plain records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from batchwright.model.checkpoint import Counts, InstanceKey, StepKey
from batchwright.model.status import Status, status_now
from batchwright.model.waits import Waits


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job comes from, so that another process can build it again: `path:function`, and a digest.

    `digest` covers step names and addresses; `path` is absolute. A loop has a script and no function: nothing builds it
    again, it is started again.
    """

    path: str
    function: str
    digest: str = ""

    @property
    def is_script(self) -> bool:
        """Whether this is the script of a loop."""
        return bool(self.path) and not self.function

    def __str__(self) -> str:
        """As the command line takes it."""
        return f"{self.path}:{self.function}" if self.function else self.path


REPLAYS, COMPENSATES, SECRETS = "replays", "compensates", "secrets"
"""What a definition says of what can be done later: steps that replay, and that compensate; secrets that were given."""

ADDS, ATOMIC = "adds", "atomic"
"""What it says of steps for those who look: which add once more when they are run again; how some publish."""


ASKS = "asks"
"""What a definition says of a lap whose calls outside the ledger may have forgotten: each is asked for first."""

OWNER_GONE = "the process that ran it ended without closing"
"""How the error begins of an execution that the next owner closed."""

TARGET_ASKED = "its target was asked since"
"""And how it ends once a step's target has said what the process had not reported."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the engine tells the ledger when it begins an execution.

    `at_least_lap` is for laps that the targets know and this ledger does not. `definition` is what the job's
    declaration says (`engine.describe_job`), with the version of batchwright. `kept`
    names steps that are not run again, each with the lap that it was complete in.
    """

    key: InstanceKey
    parameters: Mapping[str, Any]
    steps: tuple[str, ...]
    origin: Origin | None = None
    kind: str = "run"
    next_lap: bool = False
    at_least_lap: int = 1
    definition: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepExecution:
    """One attempt at a step. Counts are those of the lap up to the end of this attempt."""

    id: int
    run: int
    key: StepKey
    status: Status
    started_at: datetime
    ended_at: datetime | None = None
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    error: str = ""
    source: str = ""
    target: str = ""
    guarantee: str = ""
    target_identity: str = ""
    kind: str = "run"
    waits: Waits = field(default_factory=Waits)

    @property
    def known_in_part(self) -> bool:
        """Whether its process died, and its target, which may hold more than was reported, has not been asked since."""
        closed = self.status is Status.FAILED and self.error.startswith(OWNER_GONE)
        return self.status is Status.LOST or (closed and not self.error.endswith(TARGET_ASKED))


@dataclass(frozen=True, slots=True)
class JobExecution:
    """One attempt at a lap of an instance. `id` is the number of the run in this ledger.

    `stop_requested` says who asked it to stop, and when; empty: nobody.
    """

    id: int
    key: InstanceKey
    lap: int
    status: Status
    started_at: datetime
    ended_at: datetime | None = None
    kind: str = "run"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    origin: Origin | None = None
    host: str = ""
    pid: int = 0
    error: str = ""
    stop_requested: str = ""
    definition: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)

    @property
    def job(self) -> str:
        """The job's name."""
        return self.key.job

    @property
    def version(self) -> str:
        """The version of batchwright that ran it; empty for a version that did not say."""
        return str(self.definition.get("version", ""))

    @property
    def replayable(self) -> frozenset[str] | None:
        """The steps whose failures can be replayed; None for a version that did not say."""
        found = self.definition.get(REPLAYS)
        return None if found is None else frozenset(found)

    @property
    def compensable(self) -> bool:
        """Whether any step can undo what it did outside."""
        return bool(self.compensated)

    @property
    def compensated(self) -> tuple[str, ...]:
        """The steps that undo what they did outside when the run is rolled back."""
        return tuple(self.definition.get(COMPENSATES, ()))

    @property
    def adding(self) -> tuple[str, ...]:
        """The steps that add once more what they have added when they are run again from their start."""
        return tuple(self.definition.get(ADDS, ()))

    @property
    def atomic(self) -> Mapping[str, Any]:
        """The steps that publish everything at once, each with how: True, or "transaction"."""
        return dict(self.definition.get(ATOMIC, {}))

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of secret parameters that it was given, and that whoever goes on has to give again."""
        return tuple(self.definition.get(SECRETS, ()))


@dataclass(frozen=True, slots=True)
class InstanceSummary:
    """An instance in brief: its newest execution of kind `run`, how many executions of it are on record, and how many
    failures of that run's lap are still open.
    """  # noqa: D205 - one sentence

    run: JobExecution
    executions: int
    open_failures: int

    @property
    def status(self) -> Status:
        """That of the run, or what it has become since: complete, once each failure is replayed or ignored."""
        return status_now(self.run.status, open_failures=self.open_failures > 0)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How a step ended, as the engine hands it to the ledger."""

    status: Status
    counts: Counts
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    error: str = ""
    target_identity: str = ""
    waits: Waits = field(default_factory=Waits)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures with one cause: same step, phase and error type, messages equal but for numbers and quoted values."""

    step: str
    phase: str
    error_type: str
    message: str
    count: int
    open: int
    first_place: str
    example: str
    ignored: int = 0
