"""What a run leaves in the caller's hands: counts, status, failures; printing it gives a readable summary."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from batchwright.model.checkpoint import Counts
from batchwright.model.failure import Failure
from batchwright.model.publication import Atomic
from batchwright.model.status import Status
from batchwright.model.waits import Waits


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of a run, read from the ledger each time they are iterated; memory stays bounded."""

    load: Callable[[], Iterator[Failure]]
    count: int

    def __iter__(self) -> Iterator[Failure]:
        """Each failure, by step and place in the input."""
        return self.load()

    def __len__(self) -> int:
        """How many items were set aside in this lap."""
        return self.count


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step ended. Counts are those of the lap: all attempts since its start.

    `before` are those that earlier runs have left. `warning` is what a person should know of a step that was left as it
    is. `waits` is where the time of this run went. `atomic` says how a step publishes everything at once, if it does.
    """

    name: str
    status: Status | None
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    error: str = ""
    guarantee: str = ""
    already_complete: bool = False
    before: Counts = field(default_factory=Counts)
    warning: str = ""
    waits: Waits = field(default_factory=Waits)
    atomic: Atomic = False

    @property
    def counts_now(self) -> Counts:
        """The counts of this run alone."""
        return self.counts - self.before

    @property
    def read_before(self) -> int:
        """How many of the items earlier runs have read."""
        return self.before.read

    @property
    def unpublished(self) -> str:
        """What has become of the outputs of an atomic step that has begun and published nothing, in words."""
        if not self.atomic or self.status is None or self.status.complete:
            return ""
        if self.atomic == "transaction" or not self.counts.read:
            return "nothing is published, and nothing is kept"
        return f"nothing is published; {self.counts.outputs:,} outputs are staged, and kept for the run that goes on"


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a run ended. `run` is its number in the ledger; the four counts are sums over the steps.

    `already_complete` says that there was nothing to do. `warnings` are things a person should read.
    """

    job: str
    run: int
    lap: int
    status: Status
    steps: tuple[StepResult, ...]
    failures: Failures
    seconds: float = 0.0
    error: str = ""
    ledger: str = ""
    already_complete: bool = False
    failure_file: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> Counts:
        """The sum over all steps."""
        return sum((step.counts for step in self.steps), Counts())

    @property
    def counts_now(self) -> Counts:
        """The same of this run alone, without what earlier runs have done."""
        return sum((step.counts_now for step in self.steps), Counts())

    @property
    def read(self) -> int:
        """Input items read, over all steps."""
        return self.counts.read

    @property
    def read_now(self) -> int:
        """Input items that this run has read itself."""
        return self.counts_now.read

    @property
    def leaves_failures(self) -> bool:
        """Whether this run has set items aside, or some that earlier runs have set aside are open."""
        return any(step.counts.failed and step.status is not Status.COMPLETED for step in self.steps)

    @property
    def written(self) -> int:
        """Input items whose every output is durable."""
        return self.counts.written

    @property
    def filtered(self) -> int:
        """Input items without any output."""
        return self.counts.filtered

    @property
    def failed(self) -> int:
        """Input items set aside."""
        return self.counts.failed

    @property
    def outputs(self) -> int:
        """Outputs written."""
        return self.counts.outputs

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that this process held during any step."""
        return max((step.peak_memory_bytes for step in self.steps), default=0)

    def __str__(self) -> str:
        """A summary of a few lines."""
        head = f"{self.job}: {self.status} (run {self.run}, {self.seconds:.1f} s)"
        if self.already_complete:
            head = f"{self.job}: already complete (run {self.run})"
        lines = [head, *(f"  {_describe(step)}" for step in self.steps)]
        if self.error:
            lines.append(f"  error: {self.error}")
        if self.failure_file:
            lines.append(f"  failures: {self.failure_file}")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


def _describe(step: StepResult) -> str:
    if step.status is None:
        return f"{step.name}: not started"
    counts = step.counts
    return (
        f"{step.name}: {step.status}, read {counts.read:,} = written {counts.written:,}"
        f" + filtered {counts.filtered:,} + failed {counts.failed:,}{step.unpublished and f'; {step.unpublished}'}"
    )


@dataclass(frozen=True, slots=True)
class StepUndone:
    """How many effects of a step are undone, and how many are left. `failed` are calls that raised: nothing to undo."""

    step: str
    compensated: int
    left: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback did. `run` is the newest run of the lap; `steps` stand in the order in which they were undone.

    `kept` names steps that cannot compensate and have written something: it stays. `already` says that the run had been
    rolled back before; `stopped` who or what stopped it, to be gone on with; `error` what failed.
    """

    run: int
    job: str
    status: Status
    steps: tuple[StepUndone, ...]
    kept: tuple[str, ...] = ()
    already: bool = False
    error: str = ""
    stopped: str = ""
